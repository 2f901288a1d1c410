//! The source as the runtime uses it: files in their order, resumed anywhere, overwritten and growing ones.

use super::*;

/// What a source reads of splits that start at these offsets: rows as (p, n), rejected texts, and the last offset of
/// each split.
pub(super) async fn read(
    source: &Arc<dyn headwater_engine::connector::Source>,
    job: &JobContext,
    from: &BTreeMap<String, String>,
    batches_max: usize,
) -> Result<(Vec<(String, i64)>, Vec<String>, BTreeMap<String, String>)> {
    let splits = source.splits(job).await?;
    let mut left = splits.len();
    let start = |split: headwater_engine::connector::Split| {
        let at = from.get(&*split.id.0).map_or(StartAt::Beginning, |text| StartAt::Offset(Offset::new(text)));
        SplitStart { split, at }
    };
    let request = OpenRequest {
        splits: splits.into_iter().map(start).collect(),
        bound: Bound::Table,
        columns: schema(),
        metadata: Vec::new(),
        task: 0,
        tasks: 1,
    };
    let mut reader = source.open(job, request).await?;
    let (mut rows, mut refused, mut offsets, mut batches) = (Vec::new(), Vec::new(), from.clone(), 0);
    while left > 0 && batches < batches_max {
        match reader.next().await? {
            SourceEvent::Batch(batch) => {
                batches += 1;
                offsets.insert(batch.split.to_string(), batch.resume_at.to_string());
                let SourceData::Rows { rows: found, rejected } = batch.data else { unreachable!("files give rows") };
                let (p, n) = (found.rows.column(0).clone(), found.rows.column(1).clone());
                for row in 0..found.rows.num_rows() {
                    let text = arrow::array::AsArray::as_string::<i32>(&p).value(row).to_owned();
                    let number = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&n).value(row);
                    rows.push((text, number));
                }
                refused.extend(rejected.iter().map(|record| String::from_utf8_lossy(&record.raw).into_owned()));
            }
            SourceEvent::Ended { .. } => left -= 1,
            SourceEvent::CaughtUp(_) | SourceEvent::ReachedEnd { .. } => {}
        }
    }
    Ok((rows, refused, offsets))
}

fn put(bench: &Bench, name: &str, text: &str, age_s: u64) {
    let path = bench.folder.path().join("out").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age_s);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
}

#[tokio::test]
async fn files_are_read_oldest_first_with_what_is_rejected() -> Result<()> {
    let bench = Bench::new();
    put(&bench, "p=a/1.json", "{\"n\":1}\nbroken\n{\"n\":2}\n", 50);
    put(&bench, "p=b/0.json", "{\"n\":3}\n", 100);
    put(&bench, "p=b/_hidden.json", "{\"n\":9}\n", 100);
    let source = Connector::source(&connector(), &bench.spec(&[], &["p"]))?;
    let (rows, refused, _) = read(&source, &bench.job(1), &BTreeMap::new(), usize::MAX).await?;
    assert_eq!(rows, [("b".to_owned(), 3), ("a".to_owned(), 1), ("a".to_owned(), 2)]);
    assert_eq!(refused, ["broken"]);
    Ok(())
}

#[tokio::test]
async fn reading_goes_on_where_a_checkpoint_says() -> Result<()> {
    let bench = Bench::new();
    let lines: Vec<String> =
        (0..30_000).map(|n| if n % 1_000 == 7 { "x".into() } else { format!("{{\"p\":\"a\",\"n\":{n}}}") }).collect();
    put(&bench, "0.json", &lines.join("\n"), 100);
    let source = Connector::source(&connector(), &bench.spec(&[], &[]))?;
    let all = read(&source, &bench.job(1), &BTreeMap::new(), usize::MAX).await?;
    assert_eq!((all.0.len(), all.1.len()), (29_970, 30));
    for batches in 1.. {
        let first = read(&source, &bench.job(1), &BTreeMap::new(), batches).await?;
        let rest = read(&source, &bench.job(1), &first.2, usize::MAX).await?;
        let rows: Vec<_> = first.0.iter().chain(&rest.0).cloned().collect();
        assert_eq!(rows, all.0, "after {batches} batches");
        assert_eq!(first.1.len() + rest.1.len(), 30, "after {batches} batches");
        if rest.0.is_empty() {
            break;
        }
    }
    Ok(())
}

/// The positions of all rows of one file, read from an offset.
async fn positions(
    source: &Arc<dyn headwater_engine::connector::Source>,
    job: &JobContext,
    at: StartAt,
) -> Result<Vec<usize>> {
    let split = source.splits(job).await?.remove(0);
    let request = OpenRequest {
        splits: vec![SplitStart { split, at }],
        bound: Bound::Table,
        columns: schema(),
        metadata: Vec::new(),
        task: 0,
        tasks: 1,
    };
    let mut reader = source.open(job, request).await?;
    let mut found = Vec::new();
    while let SourceEvent::Batch(batch) = reader.next().await? {
        let SourceData::Rows { rows, .. } = &batch.data else { unreachable!("files give rows") };
        let texts = (0..rows.num_rows()).map(|row| batch.positions.text(row));
        found.extend(texts.map(|text| text.parse::<usize>().unwrap()));
    }
    Ok(found)
}

#[tokio::test]
async fn a_row_of_text_is_where_its_first_byte_is() -> Result<()> {
    for format in ["json", "csv"] {
        let bench = Bench::new();
        let line = |n: usize| match (n % 1_000, format) {
            (7, _) => "x,y,z".to_owned(),
            (_, "json") => format!("{{\"p\":\"a\",\"n\":{n}}}"),
            (_, _) => format!("a,{n}"),
        };
        let lines: Vec<String> = (0..20_000).map(line).collect();
        put(&bench, &format!("0.{format}"), &lines.join("\n"), 100);
        let source = Connector::source(&connector(), &bench.spec(&[("format", format)], &[]))?;
        let mut at = 0;
        let mut expected = Vec::new();
        for line in &lines {
            expected.extend((line != "x,y,z").then_some(at));
            at += line.len() + 1;
        }
        assert_eq!(positions(&source, &bench.job(1), StartAt::Beginning).await?, expected, "{format}");
        let later = StartAt::Offset(Offset::new("12345,13"));
        assert_eq!(positions(&source, &bench.job(1), later).await?, expected[12_345..], "{format}");
    }
    Ok(())
}

/// A reader of the one file there is, and its first batch.
async fn first_batch(
    source: &Arc<dyn headwater_engine::connector::Source>,
    job: &JobContext,
) -> Result<(Box<dyn SplitReader>, headwater_engine::connector::SourceBatch)> {
    let split = source.splits(job).await?.remove(0);
    let request = OpenRequest {
        splits: vec![SplitStart { split, at: StartAt::Beginning }],
        bound: Bound::Table,
        columns: schema(),
        metadata: Vec::new(),
        task: 0,
        tasks: 1,
    };
    let mut reader = source.open(job, request).await?;
    let SourceEvent::Batch(batch) = reader.next().await? else { panic!("a file of rows begins with them") };
    Ok((reader, batch))
}

#[tokio::test]
async fn a_record_is_found_again_as_it_was_cut() -> Result<()> {
    for (options, text, expected) in [
        (vec![("format", "csv")], "5\" a,1\n b ,2\n6\" c,3\n", vec!["5\" a,1", " b ,2", "6\" c,3"]),
        (vec![("format", "csv"), ("csv.quote-character", "'")], "'a\nb',1\r\n\"c,2\n", vec!["'a\nb',1", "\"c,2"]),
        (vec![], "{\"p\":\"a\\\"\",\n\"n\":1}{\"n\":2}\n", vec!["{\"p\":\"a\\\"\",\n\"n\":1}", "{\"n\":2}"]),
    ] {
        let bench = Bench::new();
        put(&bench, "0", text, 100);
        let source = Connector::source(&connector(), &bench.spec(&options, &[]))?;
        let (mut reader, batch) = first_batch(&source, &bench.job(1)).await?;
        let positions: Vec<i64> = (0..expected.len()).map(|row| batch.positions.text(row).parse().unwrap()).collect();
        let found = reader.raw_records(&batch.split, &positions).await?.unwrap();
        assert_eq!(found, expected, "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn what_could_not_be_read_again_is_not_read_from_its_first_row_for_each_batch() -> Result<()> {
    let bench = Bench::new();
    put(&bench, "0.json", "{\"p\":\"a\",\"n\":1}\n", 100);
    let source = Connector::source(&connector(), &bench.spec(&[], &[]))?;
    let (mut reader, batch) = first_batch(&source, &bench.job(1)).await?;
    let (file, aside) = (bench.folder.path().join("out/0.json"), bench.folder.path().join("0.json"));
    assert!(reader.read_again(&batch.split, &[0], (&schema(), &[])).await?.is_some());
    let (mut reader, batch) = first_batch(&source, &bench.job(1)).await?;
    std::fs::rename(&file, &aside).unwrap();
    assert!(reader.read_again(&batch.split, &[0], (&schema(), &[])).await?.is_none());
    std::fs::rename(&aside, &file).unwrap();
    assert!(reader.read_again(&batch.split, &[0], (&schema(), &[])).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn an_overwritten_file_is_a_new_split_only_if_asked() -> Result<()> {
    let bench = Bench::new();
    for (overwritten, changes) in [("ignore", false), ("reprocess", true)] {
        let options = [("source.overwritten", overwritten), ("source.monitor-interval", "1 s")];
        let source = Connector::source(&connector(), &bench.spec(&options, &[]))?;
        put(&bench, "0.json", "{}", 100);
        let before = source.splits(&bench.job(1)).await?;
        put(&bench, "0.json", "{\"n\":1}", 50);
        assert_eq!(source.splits(&bench.job(1)).await? != before, changes, "{overwritten}");
    }
    Ok(())
}

/// Appends to a file, as a program that logs to it does.
fn append(bench: &Bench, name: &str, text: &str) {
    use std::io::Write;
    let path = bench.folder.path().join("out").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// The next rows and rejected texts of a reader, until it says that there are no more or that it is done.
async fn until_dry(
    reader: &mut Box<dyn SplitReader>,
    offset: &mut Option<String>,
) -> Result<(Vec<i64>, Vec<String>, &'static str)> {
    let (mut numbers, mut refused) = (Vec::new(), Vec::new());
    loop {
        let next = tokio::time::timeout(std::time::Duration::from_secs(30), reader.next());
        match next.await.expect("a file that grows is read")? {
            SourceEvent::Batch(batch) => {
                *offset = Some(batch.resume_at.to_string());
                let SourceData::Rows { rows, rejected } = batch.data else { unreachable!("files give rows") };
                let column = rows.rows.column(1).clone();
                numbers.extend(arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&column).values());
                refused.extend(rejected.iter().map(|record| String::from_utf8_lossy(&record.raw).into_owned()));
            }
            SourceEvent::CaughtUp(_) => return Ok((numbers, refused, "caught up")),
            SourceEvent::ReachedEnd { resume_at, .. } => {
                *offset = resume_at.map(|at| at.to_string());
                return Ok((numbers, refused, "reached the end"));
            }
            SourceEvent::Ended { .. } => return Ok((numbers, refused, "ended")),
        }
    }
}

#[tokio::test]
async fn a_growing_file_is_read_line_by_line_and_resumed_anywhere() -> Result<()> {
    let bench = Bench::new();
    let options = [("source.growing-files", "true"), ("source.monitor-interval", "20 ms")];
    let source = Connector::source(&connector(), &bench.spec(&options, &["p"]))?;
    let open = async |at: Option<String>, bound: Bound| {
        let splits = source.splits(&bench.job(1)).await?;
        let at = at.map_or(StartAt::Beginning, |text| StartAt::Offset(Offset::new(text)));
        let request = OpenRequest {
            splits: splits.into_iter().map(|split| SplitStart { split, at: at.clone() }).collect(),
            bound,
            columns: schema(),
            metadata: Vec::new(),
            task: 0,
            tasks: 1,
        };
        source.open(&bench.job(1), request).await
    };
    append(&bench, "p=a/log.json", "{\"n\":1}\n{\"n\":2}\nbroken\n{\"n\":");
    let mut offset = None;
    let mut reader = open(None, Bound::Table).await?;
    let found = until_dry(&mut reader, &mut offset).await?;
    assert_eq!(found, (vec![1, 2], vec!["broken".to_owned()], "caught up"));
    append(&bench, "p=a/log.json", "3}\n{\"n\":4}\n");
    assert_eq!(until_dry(&mut reader, &mut offset).await?, (vec![3, 4], vec![], "caught up"));

    // Another attempt goes on in the middle of what it finds, and one that ends stops at the last whole line.
    append(&bench, "p=a/log.json", "{\"n\":5}\n{\"n\":6");
    let mut again = open(offset.clone(), Bound::EndNow).await?;
    assert_eq!(until_dry(&mut again, &mut offset).await?, (vec![5], vec![], "reached the end"));
    append(&bench, "p=a/log.json", "}\n");
    let mut again = open(offset.clone(), Bound::Table).await?;
    assert_eq!(until_dry(&mut again, &mut offset).await?, (vec![6], vec![], "caught up"));
    let (skipped, _, _) = until_dry(&mut open(Some("4,1".into()), Bound::EndNow).await?, &mut offset).await?;
    assert_eq!(skipped, [5, 6], "the position of a reader of whole files is understood");

    // Deleted, it has ended; emptied, it is an error.
    std::fs::write(bench.folder.path().join("out/p=a/log.json"), "{}\n").unwrap();
    let error = until_dry(&mut again, &mut offset).await.unwrap_err();
    assert!(error.message().contains("had 55 bytes that were read, and has 3 now"), "{error}");
    std::fs::remove_file(bench.folder.path().join("out/p=a/log.json")).unwrap();
    assert_eq!(until_dry(&mut reader, &mut offset).await?.2, "ended");
    Ok(())
}
