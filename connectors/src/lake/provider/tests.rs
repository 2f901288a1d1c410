//! Tables over folders that other tables write to.

use headwater_engine::{
    catalog::{Column, FileFormat, Properties, Storage, TableKind, TableName},
    time::Instant,
};
use object_store::{PutPayload, memory::InMemory};

use super::*;
use crate::{
    catalogs::memory::MemoryCatalog,
    lake::commit::{
        Decision, Effect, StatementId, StatementKind,
        owner::Owner,
        record::{self, Begin, RecordKind},
    },
};

fn table(location: &str) -> Table {
    Table {
        name: TableName::new("default", "t"),
        kind: TableKind::External,
        columns: vec![Column { name: "a".into(), type_text: "int".into(), comment: None }],
        partition_keys: Vec::new(),
        storage: Storage {
            format: FileFormat::Json,
            serde: None,
            serde_properties: Properties::new(),
            input_format: None,
            output_format: None,
        },
        location: location.into(),
        discovery: PartitionDiscovery::Discovered,
        properties: Properties::new(),
        comment: None,
        version: 0,
    }
}

async fn put(store: &InMemory, path: &str, bytes: impl Into<PutPayload>) {
    store.put(&Path::from(path), bytes.into()).await.unwrap();
}

/// A statement that replaces `old.json` of `folder`: done, its owner still alive and about to delete the old file.
async fn overwritten(store: &InMemory, folder: &str, is_done: bool) -> String {
    let id = StatementId::random(StatementKind::Exclusive);
    let file = format!("{folder}/{}", id.file_name(0, "json"));
    put(store, &format!("{folder}/old.json"), "{\"a\": 1}").await;
    put(store, &file, "{\"a\": 2}").await;
    let Instant(now) = SystemClock.now();
    let begin = Begin { owner: Owner::this_process(), began_ms: now, beat: 0 };
    put(store, &record::path(folder, id, RecordKind::Begin), record::encode(&begin).unwrap()).await;
    let effect = Effect { replaces: vec![format!("{folder}/old.json")], ..Effect::default() };
    let decision = record::encode(&Decision::Commit(Box::new(effect))).unwrap();
    put(store, &record::path(folder, id, RecordKind::Decision), decision).await;
    if is_done {
        put(store, &record::path(folder, id, RecordKind::Done), record::encode(&now).unwrap()).await;
    }
    file
}

#[tokio::test]
async fn a_table_over_the_folder_of_another_sees_its_statements_whole() {
    for is_done in [false, true] {
        let store = Arc::new(InMemory::new());
        put(&store, "t/own.json", "{\"a\": 0}").await;
        let new = overwritten(&store, "t/sub/other", is_done).await;
        let stores = Arc::new(Stores::new(Properties::new(), "/".into()));
        stores.give("s3", "b", store);
        let over = LakeTable::new(Arc::new(table("s3://b/t/")), Arc::new(MemoryCatalog::default()), stores).unwrap();
        let found = over.files().await.unwrap();
        let paths: Vec<_> = found.files.iter().map(|file| file.path.as_ref()).collect();
        let wanted = if is_done { new.as_str() } else { "t/sub/other/old.json" };
        assert_eq!(paths, ["t/own.json", wanted], "done: {is_done}");
    }
}
