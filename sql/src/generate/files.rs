//! Writes records into files of one format, a set of rolled files per folder.
//!
//! Invariant: a file appears under its name only when it is complete; until then it starts with a dot.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use headwater_engine::error::{Error, Result};
use libdeflater::{CompressionLvl, Compressor};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, GzipLevel},
    file::properties::WriterProperties,
};

use super::{
    Encoding, Summary,
    record::{self, Body, Cell, Column, Record},
};

/// Folders with a file open at once; the data sets need fewer.
const FOLDERS_OPEN_MAX: usize = 100;
/// Text gathered before it is written to a plain file.
const WRITE_BYTES: usize = 1 << 20;

/// When a file is closed and the next one begun.
#[derive(Debug, Clone, Copy)]
pub(super) enum Roll {
    /// One file per folder.
    Never,
    /// After so many bytes of text, before compression.
    Bytes(usize),
    /// After so many rows.
    Rows(u64),
}

/// What the files of a data set are called and how they are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// First part of each file's name.
    pub(super) stem: &'static str,
    /// The columns, in order.
    pub(super) columns: &'static [Column],
    /// How rows are encoded.
    pub(super) encoding: Encoding,
    /// When the next file begins.
    pub(super) roll: Roll,
}

/// The files being written.
pub(super) struct Files {
    target: PathBuf,
    shape: Shape,
    open: BTreeMap<String, OpenFile>,
    closed: BTreeMap<String, usize>,
    compressor: Compressor,
    summary: Summary,
}

#[derive(Default)]
struct OpenFile {
    text: Vec<u8>,
    cells: Vec<Vec<Cell>>,
    rows: u64,
    bytes: usize,
    plain: Option<BufWriter<File>>,
}

impl Files {
    /// Begins writing below a directory, which is created.
    pub(super) fn create(target: &Path, shape: Shape) -> Result<Self> {
        fs::create_dir_all(target).map_err(|error| Error::from(error).context(target.display()))?;
        let compressor = Compressor::new(CompressionLvl::default());
        let (open, closed) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { target: target.to_owned(), shape, open, closed, compressor, summary: Summary::default() })
    }

    /// Adds a record to its folder.
    pub(super) fn write(&mut self, record: Record) -> Result<()> {
        if !self.open.contains_key(&record.folder) && self.open.len() >= FOLDERS_OPEN_MAX {
            let first = self.open.keys().next().cloned();
            first.map_or(Ok(()), |folder| self.close(&folder))?;
        }
        let Shape { columns, encoding, roll, .. } = self.shape;
        let file = self.open.entry(record.folder.clone()).or_default();
        let before = file.text.len();
        match (record.body, encoding) {
            (Body::Line(line), _) => {
                file.text.extend_from_slice(line.as_bytes());
                file.text.push(b'\n');
            }
            (Body::Cells(cells), Encoding::Csv) => {
                if file.rows == 0 {
                    record::csv_header(columns, &mut file.text);
                }
                record::csv_line(&cells, &mut file.text);
            }
            (Body::Cells(cells), Encoding::Ndjson | Encoding::JsonGzip) => {
                record::json_line(columns, &cells, &mut file.text);
            }
            (Body::Cells(cells), Encoding::Parquet) => {
                file.bytes +=
                    cells.iter().map(|cell| if let Cell::Text(text) = cell { text.len() } else { 8 }).sum::<usize>();
                file.cells.push(cells);
            }
        }
        file.bytes += file.text.len() - before;
        file.rows += 1;
        self.summary.rows += 1;
        let full = match roll {
            Roll::Never => false,
            Roll::Bytes(limit) => file.bytes >= limit,
            Roll::Rows(limit) => file.rows >= limit,
        };
        if full {
            return self.close(&record.folder);
        }
        self.spill(&record.folder)
    }

    /// Closes every file.
    pub(super) fn finish(mut self) -> Result<Summary> {
        for folder in self.open.keys().cloned().collect::<Vec<_>>() {
            self.close(&folder)?;
        }
        Ok(self.summary)
    }

    /// Writes gathered text out, where the format allows it before the end of the file.
    fn spill(&mut self, folder: &str) -> Result<()> {
        let streams = matches!(self.shape.encoding, Encoding::Csv | Encoding::Ndjson);
        let path = self.path(folder);
        let Some(file) = self.open.get_mut(folder) else { return Ok(()) };
        if !streams || file.text.len() < WRITE_BYTES {
            return Ok(());
        }
        if file.plain.is_none() {
            file.plain = Some(BufWriter::new(create(&path)?));
        }
        if let Some(plain) = &mut file.plain {
            plain.write_all(&file.text).map_err(|error| Error::from(error).context(path.display()))?;
        }
        file.text.clear();
        Ok(())
    }

    fn close(&mut self, folder: &str) -> Result<()> {
        let path = self.path(folder);
        let Some(file) = self.open.remove(folder) else { return Ok(()) };
        let hidden = hidden(&path);
        let named = |error: std::io::Error| Error::from(error).context(path.display());
        match self.shape.encoding {
            Encoding::Csv | Encoding::Ndjson => {
                let mut plain = match file.plain {
                    Some(plain) => plain,
                    None => BufWriter::new(create(&path)?),
                };
                plain.write_all(&file.text).map_err(named)?;
                plain.into_inner().map_err(|error| named(error.into_error()))?.sync_all().map_err(named)?;
            }
            Encoding::JsonGzip => {
                let mut out = vec![0; self.compressor.gzip_compress_bound(file.text.len())];
                let size = self.compressor.gzip_compress(&file.text, &mut out);
                let size = size.map_err(|error| Error::internal(format!("gzip needs more than its bound: {error}")))?;
                create(&path)?.write_all(&out[..size]).map_err(named)?;
            }
            Encoding::Parquet => parquet_file(&path, self.shape.columns, &file.cells)?,
        }
        self.summary.bytes += fs::metadata(&hidden).map_err(named)?.len();
        self.summary.files += 1;
        *self.closed.entry(folder.to_owned()).or_default() += 1;
        fs::rename(&hidden, &path).map_err(named)
    }

    fn path(&self, folder: &str) -> PathBuf {
        let Shape { stem, encoding, roll, .. } = self.shape;
        let number = self.closed.get(folder).copied().unwrap_or_default() + 1;
        let extension = encoding.extension();
        let name = match roll {
            Roll::Never => format!("{stem}.{extension}"),
            Roll::Bytes(_) | Roll::Rows(_) => format!("{stem}-{number:05}.{extension}"),
        };
        self.target.join(folder).join(name)
    }
}

fn hidden(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}"))
}

fn create(path: &Path) -> Result<File> {
    let named = |error: std::io::Error| Error::from(error).context(path.display());
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(named)?;
    File::create(hidden(path)).map_err(named)
}

fn parquet_file(path: &Path, columns: &[Column], rows: &[Vec<Cell>]) -> Result<()> {
    let named = |error: parquet::errors::ParquetError| Error::unavailable(error.to_string()).context(path.display());
    let gzip = Compression::GZIP(GzipLevel::default());
    let properties = WriterProperties::builder().set_compression(gzip).set_dictionary_enabled(false).build();
    let mut writer = ArrowWriter::try_new(create(path)?, record::schema(columns), Some(properties)).map_err(named)?;
    for rows in rows.chunks(8192) {
        writer.write(&record::batch(columns, rows)?).map_err(named)?;
    }
    writer.close().map_err(named)?;
    Ok(())
}
