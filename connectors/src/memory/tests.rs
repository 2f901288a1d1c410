//! The connector: what was written is read, in order.

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Int64Type, Schema};
use futures::StreamExt;
use headwater_engine::{
    connector::{
        Bound, Committable, JobContext, Offset, OpenRequest, SourceData, SourceEvent, Split, SplitStart, StartAt,
        Unfenced,
    },
    memory::MemoryBudget,
    message::{ChangeBatch, Epoch, Generation},
    time::SystemClock,
};

use super::*;

fn job() -> JobContext {
    JobContext {
        job: "j".into(),
        incarnation: "i".into(),
        generation: Generation(1),
        local_state: std::env::temp_dir(),
        clock: Arc::new(SystemClock),
        memory: MemoryBudget::new(1 << 20),
        fence: Arc::new(Unfenced),
        parallelism: 1,
    }
}

fn spec(options: &[(&str, &str)], partitioned_by: &[&str]) -> TableSpec {
    let fields = vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)];
    TableSpec {
        name: "t".into(),
        schema: Arc::new(Schema::new(fields)),
        metadata: Vec::new(),
        options: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        partitioned_by: partitioned_by.iter().map(|name| (*name).to_owned()).collect(),
        primary_key: Vec::new(),
    }
}

fn unit(name: &str, ids: std::ops::Range<i64>) -> Committable {
    let names = StringArray::from_iter_values(ids.clone().map(|id| format!("n{}", id % 3)));
    let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(names)];
    let rows = RecordBatch::try_new(spec(&[], &[]).schema, columns).unwrap();
    let rows = futures::stream::iter([Ok(ChangeBatch::inserts(rows))]).boxed();
    Committable { unit: name.into(), detail: String::new(), rows }
}

async fn read(source: &dyn Source, at: StartAt) -> (Vec<i64>, Vec<Offset>) {
    let splits = source.splits(&job()).await.unwrap();
    let splits = splits.into_iter().map(|split: Split| SplitStart { split, at: at.clone() }).collect::<Vec<_>>();
    let mut left = splits.len();
    let columns = Arc::new(spec(&[], &[]).schema.project(&[0]).unwrap());
    let request = OpenRequest { splits, bound: Bound::EndNow, columns, metadata: Vec::new(), task: 0, tasks: 1 };
    let mut reader = source.open(&job(), request).await.unwrap();
    let (mut ids, mut offsets) = (Vec::new(), Vec::new());
    while left > 0 {
        match reader.next().await.unwrap() {
            SourceEvent::Batch(batch) => {
                let SourceData::Rows { rows, .. } = batch.data else { panic!("ready rows") };
                ids.extend_from_slice(rows.rows.column(0).as_primitive::<Int64Type>().values());
                offsets.push(batch.resume_at);
            }
            SourceEvent::ReachedEnd { .. } | SourceEvent::Ended { .. } => left -= 1,
            SourceEvent::CaughtUp(_) => {}
        }
    }
    ids.sort_unstable();
    (ids, offsets)
}

#[tokio::test]
async fn a_repeated_commit_appends_nothing_and_an_offset_resumes() {
    let memory = Memory::default();
    let sink = memory.sink(&spec(&[], &[])).unwrap();
    assert_eq!(sink.commit(&job(), Epoch(1), vec![unit("a", 0..5)]).await.unwrap().rows, 5);
    assert_eq!(sink.commit(&job(), Epoch(1), vec![unit("a", 0..5)]).await.unwrap().rows, 0);
    let source = memory.source(&spec(&[], &[])).unwrap();
    let (ids, offsets) = read(source.as_ref(), StartAt::TableDefault).await;
    assert_eq!(ids, [0, 1, 2, 3, 4]);
    sink.commit(&job(), Epoch(2), vec![unit("b", 5..7)]).await.unwrap();
    let (ids, _) = read(source.as_ref(), StartAt::Offset(offsets[0].clone())).await;
    assert_eq!(ids, [5, 6]);
    let gone = StartAt::Offset(Offset::new("00000000:4"));
    assert_eq!(read(source.as_ref(), gone).await.0.len(), 7, "an offset of an earlier process");
}

#[tokio::test]
async fn rows_of_one_key_share_a_shard() {
    let memory = Memory::default();
    let table = spec(&[("shards", "4")], &["name"]);
    let sink = memory.sink(&table).unwrap();
    sink.commit(&job(), Epoch(1), vec![unit("a", 0..30)]).await.unwrap();
    let log = memory.options(&table).unwrap().log;
    for shard in 0..4 {
        let Some(stretch) = log.read(shard, 0, u64::MAX) else { continue };
        assert_eq!(stretch.changes.num_rows() % 10, 0, "ten rows of each of three names");
    }
    assert_eq!(read(memory.source(&table).unwrap().as_ref(), StartAt::Beginning).await.0.len(), 30);
    let error = memory.source(&spec(&[("shards", "2")], &[])).unwrap_err();
    assert_eq!(error.message(), "table \"t\": its log has 4 shards, not 2");
}

#[tokio::test]
async fn a_kept_log_outlives_its_process_and_what_a_crash_cut_off_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let table = spec(&[("log.path", path.as_str()), ("shards", "2")], &["name"]);
    let offset = {
        let memory = Memory::default();
        let sink = memory.sink(&table).unwrap();
        sink.commit(&job(), Epoch(1), vec![unit("a", 0..30)]).await.unwrap();
        let held = Memory::default().sink(&table).unwrap_err();
        assert!(held.message().contains("in use by another process"), "{held:?}");
        read(memory.source(&table).unwrap().as_ref(), StartAt::Beginning).await.1.pop().unwrap()
    };
    let file = folder.path().join("t.log");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, [whole.as_slice(), &[9, 0, 0, 0, 1, 2, 3, 4, 5]].concat()).unwrap();
    for round in 0..2 {
        let memory = Memory::default();
        let sink = memory.sink(&table).unwrap();
        assert_eq!(sink.commit(&job(), Epoch(1), vec![unit("a", 0..30)]).await.unwrap().rows, 0, "a repeated commit");
        sink.commit(&job(), Epoch(2 + round), vec![unit(&format!("b{round}"), 30..40)]).await.unwrap();
        let all = read(memory.source(&table).unwrap().as_ref(), StartAt::Beginning).await.0;
        assert_eq!(all.len() as u64, 40 + 10 * round);
        let log = memory.options(&table).unwrap().log;
        assert!(offset.0.starts_with(log.identity.as_str()), "{offset} is of {}", log.identity);
    }
    let unkept = Memory::default();
    assert_eq!(read(unkept.source(&spec(&[], &[])).unwrap().as_ref(), StartAt::Beginning).await.0.len(), 0);
}
