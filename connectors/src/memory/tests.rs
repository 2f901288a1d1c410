//! The connector: what was written is read, in order.

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Int64Type, Schema};
use futures::StreamExt;
use headwater_engine::{
    connector::{
        Bound, Committable, JobContext, Offset, OpenRequest, SourceData, SourceEvent, Split, SplitStart, StartAt,
    },
    memory::MemoryBudget,
    message::{ChangeBatch, Epoch},
    testing::job_context,
};

use super::*;

fn job() -> JobContext {
    JobContext { memory: MemoryBudget::new(1 << 20), ..job_context("j") }
}

fn spec(options: &[(&str, &str)], partitioned_by: &[&str]) -> TableSpec {
    let fields = vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)];
    TableSpec {
        partitioned_by: partitioned_by.iter().map(|name| (*name).to_owned()).collect(),
        ..TableSpec::new("t", Arc::new(Schema::new(fields)), options.iter().copied())
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
        let held = Memory::default().source(&table).unwrap().splits(&job()).await.unwrap_err();
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
        assert!(offset.0.starts_with(&log.identity()), "{offset} is of {}", log.identity());
    }
    let unkept = Memory::default();
    assert_eq!(read(unkept.source(&spec(&[], &[])).unwrap().as_ref(), StartAt::Beginning).await.0.len(), 0);
}

#[tokio::test]
async fn a_file_that_is_no_log_or_is_damaged_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let table = spec(&[("log.path", path.as_str())], &["name"]);
    let file = folder.path().join("t.log");
    let refused = async || {
        let before = std::fs::read(&file).unwrap();
        let memory = Memory::default();
        let (source, sink) = (memory.source(&table).unwrap(), memory.sink(&table).unwrap());
        let error = source.splits(&job()).await.unwrap_err();
        assert_eq!(sink.commit(&job(), Epoch(9), vec![unit("z", 0..1)]).await.unwrap_err().message(), error.message());
        assert_eq!(std::fs::read(&file).unwrap(), before, "{error:?}");
        error.message().to_owned()
    };
    for foreign in ["log", "2026-11-21 12:00:00 another program was started\n"] {
        std::fs::write(&file, foreign).unwrap();
        assert!(refused().await.ends_with("t.log is not a log of this connector"));
    }
    std::fs::remove_file(&file).unwrap();
    {
        let sink = Memory::default().sink(&table).unwrap();
        for epoch in 0..3 {
            sink.commit(&job(), Epoch(epoch), vec![unit(&epoch.to_string(), 0..30)]).await.unwrap();
        }
    }
    let whole = std::fs::read(&file).unwrap();
    let second = 24 + 12 + u32::from_le_bytes(whole[24..28].try_into().unwrap()) as usize;
    // The log's identity; the length of the first unit, made larger than the file and smaller; its body; the next one's.
    for (byte, at) in [(9, 0), (27, 24), (24, 24), (60, 24), (second + 3, second), (second + 40, second)] {
        let mut bytes = whole.clone();
        bytes[byte] ^= 0x7f;
        std::fs::write(&file, bytes).unwrap();
        let said = refused().await;
        assert!(said.contains(&format!("t.log is damaged at byte {at}:")), "byte {byte}: {said}");
    }
    std::fs::write(&file, [whole.as_slice(), &[0; 12], b"x", &whole[24..second]].concat()).unwrap();
    let said = refused().await;
    assert!(said.contains(&format!("t.log is damaged at byte {}:", whole.len())), "{said}");
    std::fs::write(&file, [b"HWLOG 1\n", &whole[8..]].concat()).unwrap();
    assert!(refused().await.ends_with("t.log is of another version"));
    std::fs::write(&file, whole).unwrap();
    let again = Memory::default();
    assert_eq!(read(again.source(&table).unwrap().as_ref(), StartAt::Beginning).await.0.len(), 90);
    let beyond = Offset::new(format!("{}:91", again.options(&table).unwrap().log.identity()));
    let source = again.source(&table).unwrap();
    let splits = source.splits(&job()).await.unwrap();
    let splits = splits.into_iter().map(|split| SplitStart { split, at: StartAt::Offset(beyond.clone()) }).collect();
    let columns = spec(&[], &[]).schema;
    let open = OpenRequest { splits, bound: Bound::EndNow, columns, metadata: Vec::new(), task: 0, tasks: 1 };
    let error = source.open(&job(), open).await.unwrap_err();
    assert_eq!(
        (error.code().0, error.message()),
        ("OFFSET_LOST", "the log ends at row 90, before row 91 of the checkpoint")
    );
}

/// A crash may cut a unit anywhere, or leave zeros where its bytes should have come.
#[tokio::test]
async fn what_a_crash_leaves_at_the_end_is_nothing_and_stays_until_the_next_unit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let table = spec(&[("log.path", path.as_str())], &["name"]);
    let file = folder.path().join("t.log");
    let mut ends = Vec::new();
    {
        let sink = Memory::default().sink(&table).unwrap();
        for epoch in 0..2 {
            sink.commit(&job(), Epoch(epoch), vec![unit(&epoch.to_string(), 0..30)]).await.unwrap();
            ends.push(std::fs::metadata(&file).unwrap().len() as usize);
        }
    }
    let whole = std::fs::read(&file).unwrap();
    let (first, zeros) = (&whole[..ends[0]], vec![0; 4096]);
    let mut left: Vec<Vec<u8>> = [1, 11, 12, 13, 300].map(|more| whole[..ends[0] + more].to_vec()).into();
    left.push(whole[..ends[1] - 1].to_vec());
    left.push([first, &zeros].concat());
    left.push([first, &zeros[..5]].concat());
    left.push([&whole[..ends[0] + 300], &zeros].concat());
    left.push([&whole[..ends[0] + 4], &zeros].concat());
    // The page of the head never came, one behind it did.
    left.push([first, &zeros, &whole[ends[0] + 12..]].concat());
    for bytes in left {
        std::fs::write(&file, &bytes).unwrap();
        let memory = Memory::default();
        assert_eq!(read(memory.source(&table).unwrap().as_ref(), StartAt::Beginning).await.0.len(), 30);
        assert!(std::fs::read(&file).unwrap() == bytes, "a reader changed the file of {} bytes", bytes.len());
        memory.sink(&table).unwrap().commit(&job(), Epoch(1), vec![unit("1", 0..30)]).await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().len() as usize, ends[1]);
        drop(memory);
        let again = Memory::default();
        assert_eq!(read(again.source(&table).unwrap().as_ref(), StartAt::Beginning).await.0.len(), 60);
    }
    // Of the start of a new file, too.
    for bytes in [&whole[..3], &whole[..15], &zeros[..24]] {
        std::fs::write(&file, bytes).unwrap();
        let memory = Memory::default();
        assert_eq!(read(memory.source(&table).unwrap().as_ref(), StartAt::Beginning).await.0.len(), 0);
    }
}

#[test]
fn a_destination_is_the_log_and_where_it_is_kept() {
    let of = |options: &[(&str, &str)]| Memory::default().sink(&spec(options, &[])).unwrap().destination();
    assert_eq!(of(&[]), "memory log \"t\"");
    assert_eq!(of(&[("name", "m"), ("log.path", "/a")]), "memory log \"m\" in /a");
}

#[tokio::test]
async fn the_first_table_of_a_name_says_where_its_log_is_kept_and_in_how_many_shards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let of = |memory: &Memory, options: &[(&str, &str)]| memory.source(&spec(options, &["name"]));
    let memory = Memory::default();
    of(&memory, &[("name", "a b"), ("shards", "2"), ("log.path", &path)]).unwrap().splits(&job()).await.unwrap();
    of(&memory, &[("name", "a_b"), ("log.path", &path)]).unwrap().splits(&job()).await.unwrap();
    of(&memory, &[("name", "unkept")]).unwrap();
    assert!(folder.path().join("a%20b.log").exists() && folder.path().join("a_b.log").exists());
    let said = of(&memory, &[("name", "unkept"), ("log.path", &path)]).unwrap_err();
    assert_eq!(said.message(), "table \"t\": its log \"unkept\" is not kept");
    let said = of(&memory, &[("log.path", "s3://bucket/x")]).unwrap_err();
    assert!(said.message().contains("a folder of this machine"), "{said:?}");
    drop(memory);
    let other = Memory::default();
    // What is not open yet may have any number of shards, which a later table says.
    of(&other, &[("name", "a b"), ("log.path", &path)]).unwrap();
    let said = of(&other, &[("name", "a b"), ("shards", "2"), ("log.path", &path)]).unwrap();
    assert_eq!(said.splits(&job()).await.unwrap().len(), 2);
    drop((said, other));
    let other = Memory::default();
    let said = of(&other, &[("name", "a b"), ("shards", "4"), ("log.path", &path)]).unwrap();
    let said = said.splits(&job()).await.unwrap_err();
    assert_eq!(said.message(), "the log \"a b\" was made with 2 shards, not 4");
}
