//! Columns declared `NOT NULL`: a row without a value in one of them is malformed, as it is in a job.
//!
//! Invariant: of the columns that are read, a row that is passed on has a value in each that must have one.

use std::collections::HashSet;

use arrow::{
    array::{Array, BooleanArray},
    compute::filter_record_batch,
};
use bytes::Bytes;
use headwater_engine::error::Result;

use super::{FileRows, RejectedText, output::OpenFile, record};
use crate::{
    formats::json::JsonLines,
    lake::scan::{LakeScan, Source, Wanted},
};

/// A column that must have a value.
#[derive(Debug, Clone)]
pub struct Required {
    /// Its name.
    pub name: String,
    /// Where its values come from.
    pub source: Source,
}

impl Required {
    fn is_missing(&self, file: &OpenFile, found: &FileRows, row: usize) -> bool {
        match self.source {
            Source::File(index) => found.rows.column(index).is_null(row),
            Source::Constant(index) => file.is_null(index),
        }
    }
}

/// What a reader made, with rows among the rejected that lack a value they must have.
pub(super) async fn judged(scan: &LakeScan, file: &OpenFile, mut found: FileRows) -> Result<FileRows> {
    let missing = |row: usize| scan.required.iter().find(|required| required.is_missing(file, &found, row));
    let failed: Vec<(usize, &str)> =
        (0..found.rows.num_rows()).filter_map(|row| Some((row, missing(row)?.name.as_str()))).collect();
    if failed.is_empty() {
        return Ok(found);
    }
    let mut keep = vec![true; found.rows.num_rows()];
    failed.iter().for_each(|(row, _)| keep[*row] = false);
    let start = |row: usize| found.starts.as_ref().map(|starts| starts[row]);
    let mut raws = match scan.wanted {
        Wanted::Rejected => raws(scan, file, &found, &failed).await?,
        Wanted::Rows => vec![Bytes::new(); failed.len()],
    };
    // Where malformed records are rows of NULLs, they are among the rejected already.
    let known: HashSet<u64> = found.rejected.iter().map(|rejected| rejected.offset).collect();
    let mut rejected = std::mem::take(&mut found.rejected);
    for ((row, column), raw) in failed.iter().zip(raws.drain(..)) {
        let offset = start(*row);
        if offset.is_none_or(|offset| !known.contains(&offset)) {
            let reason = format!("column \"{column}\" is NULL");
            rejected.push(RejectedText { offset: offset.unwrap_or(0), line: 0, reason, raw });
        }
    }
    rejected.sort_by_key(|rejected| rejected.offset);
    let starts = found.starts.as_ref();
    let starts = starts.map(|starts| starts.iter().zip(&keep).filter(|(_, kept)| **kept).map(|(at, _)| *at).collect());
    let rows = filter_record_batch(&found.rows, &BooleanArray::from(keep))?;
    Ok(FileRows { rows, rejected, values_nulled: found.values_nulled, starts })
}

/// The records of rows as they stand in the file; as JSON where its bytes are no text.
async fn raws(scan: &LakeScan, file: &OpenFile, found: &FileRows, failed: &[(usize, &str)]) -> Result<Vec<Bytes>> {
    if let Some(starts) = &found.starts {
        let starts: Vec<u64> = failed.iter().map(|(row, _)| starts[*row]).collect();
        let place = &scan.listing.partitions[file.file.partition].place;
        if let Some(records) = record::at((place, &file.file), &scan.format, &starts).await? {
            return Ok(records);
        }
    }
    let as_json = |(row, _): &(usize, &str)| {
        let mut line = Vec::new();
        JsonLines::default().write(&found.rows.slice(*row, 1), &mut line)?;
        Ok(Bytes::from(line.trim_ascii_end().to_vec()))
    };
    failed.iter().map(as_json).collect()
}
