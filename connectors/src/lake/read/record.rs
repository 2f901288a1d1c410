//! Records of a text file as they stand in it, found by their first byte.
//!
//! Invariant: what is returned begins where it was asked for and ends with its record.

use bytes::Bytes;
use headwater_engine::error::{Error, Result};

use super::fetch;
use crate::{
    formats::json,
    lake::{
        compression::{Compression, MAGIC_LENGTH},
        format::ReadFormat,
        listing::LakeFile,
        stores::Place,
    },
};

/// Bytes that are fetched at a time; records near each other share them.
const WINDOW_BYTES: u64 = 1 << 20;
/// Most bytes of one record.
const RECORD_BYTES_MAX: u64 = 16 << 20;

/// The records of a file that begin at these bytes, ascending; `None` where bytes of the file are no text of it, and where
/// it has become shorter than it was listed.
pub(crate) async fn at(
    (place, file): (&Place, &LakeFile),
    format: &ReadFormat,
    starts: &[u64],
) -> Result<Option<Vec<Bytes>>> {
    if matches!(format, ReadFormat::Parquet) {
        return Ok(None);
    }
    let fetched = async |from: u64, length: u64| {
        let range = from.min(file.size)..(from + length).min(file.size);
        let expected = range.end - range.start;
        let bytes = fetch::range(place, &file.path, range, Vec::new()).await?;
        // One that is shorter than it was listed has other records now.
        Ok::<_, Error>((bytes.len() as u64 == expected).then_some(bytes))
    };
    let Some(magic) = fetched(0, MAGIC_LENGTH).await? else { return Ok(None) };
    if Compression::of(file.path.as_ref(), &magic).is_some() {
        return Ok(None);
    }
    let (mut window, mut from) = (Bytes::new(), 0);
    let mut records = Vec::with_capacity(starts.len());
    for &start in starts {
        let mut length = WINDOW_BYTES;
        let record = loop {
            let rest = start.checked_sub(from).and_then(|skipped| usize::try_from(skipped).ok());
            let rest = rest.filter(|skipped| *skipped < window.len()).map(|skipped| window.slice(skipped..));
            let is_last = from + window.len() as u64 >= file.size;
            let has_all = from == start && window.len() as u64 >= RECORD_BYTES_MAX;
            match rest.as_ref().and_then(|rest| Some(rest.slice_ref(first(format, rest, is_last || has_all)?))) {
                Some(record) => break record,
                None if start >= file.size => break Bytes::new(),
                None => {}
            }
            if from == start && !window.is_empty() {
                length = RECORD_BYTES_MAX;
            }
            let Some(fetched) = fetched(start, length).await? else { return Ok(None) };
            (window, from) = (fetched, start);
        };
        records.push(record);
    }
    Ok(Some(records))
}

/// The first record, as its reader cuts it; `None` if its end is not among these bytes, which may be all there are.
fn first<'a>(format: &ReadFormat, bytes: &'a [u8], is_all: bool) -> Option<&'a [u8]> {
    match format {
        ReadFormat::Json(options) => json::row_end(options.dialect, bytes, is_all).map(|end| bytes[..end].trim_ascii()),
        ReadFormat::Delimited(options) => options.record(bytes, is_all),
        ReadFormat::Parquet => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_engine::catalog::Properties;

    use super::*;
    use crate::{
        formats::json::{Dialect, JsonOptions},
        lake::stores::Stores,
    };

    #[test]
    fn a_json_record_ends_with_its_object() {
        let json = ReadFormat::Json(Box::<JsonOptions>::default());
        let text = |bytes, is_all| first(&json, bytes, is_all).map(String::from_utf8_lossy);
        assert_eq!(text(b"{\"a\":\n1}{\"a\":2}\n", false).as_deref(), Some("{\"a\":\n1}"));
        assert_eq!(text(b"{\"a\":1", false), None);
        assert_eq!(text(b"{\"a\":1", true).as_deref(), Some("{\"a\":1"));
        assert_eq!(text(b"{a:1}\n{}", false).as_deref(), Some("{a:1}"));
        // What the dialect takes is cut where it takes it to end, whatever quotes there are.
        let loose = ReadFormat::Json(Box::new(JsonOptions::new(Dialect::OpenX)));
        let bytes = b"{'a':'5\" pipe',\n b:1} {'a':'x'}\n";
        assert_eq!(first(&loose, bytes, false), Some(b"{'a':'5\" pipe',\n b:1}".as_slice()));
    }

    #[tokio::test]
    async fn a_file_that_has_become_shorter_has_no_such_record() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("0.json");
        std::fs::write(&path, [b"{}\n".repeat(13), b"{\"a\":".to_vec()].concat())?;
        let stores = Arc::new(Stores::new(Properties::new(), "/".into()));
        let place = stores.resolve(&path.display().to_string(), &Properties::new()).await?;
        let file = |size| LakeFile { path: place.path.clone(), size, modified: chrono::Utc::now(), partition: 0 };
        let json = ReadFormat::Json(Box::<JsonOptions>::default());
        assert_eq!(at((&place, &file(100)), &json, &[39]).await?, None);
        assert_eq!(at((&place, &file(44)), &json, &[36, 39]).await?, Some(vec!["{}".into(), "{\"a\":".into()]));
        Ok(())
    }
}
