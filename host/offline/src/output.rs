//! Data sets as files.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::FileWriter;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use mezze_model::SourceFormat;
use tempfile::NamedTempFile;

use crate::error::{OfflineError, Result};
use crate::inspect::type_name;
use crate::parquet_output::{ParquetOutput, sync};
use crate::pit::{Part, PartSink, PitError};
use crate::scratch::{hold, remove_unfinished};
use crate::source::{KNOWN_EXTENSIONS, format_of};

type JsonWriter<W> = arrow::json::Writer<W, LineDelimited>;

/// The format that an output's name says.
pub(crate) fn output_format(path: &Path) -> Result<SourceFormat> {
    let name = path.to_string_lossy();
    format_of(&name).ok_or_else(|| OfflineError::Write {
        path: path.to_owned(),
        reason: format!("the format is unknown: known extensions are {KNOWN_EXTENSIONS}; name the format"),
    })
}

/// A file that appears, whole, when it is finished; until then its content is in a temporary file beside it.
pub(crate) struct Output {
    path: PathBuf,
    writer: Writer,
}

enum Writer {
    Rows(Box<RowOutput>),
    Parquet(Box<ParquetOutput>),
}

/// A file of a format that is written row by row.
struct RowOutput {
    path: PathBuf,
    format: RowWriter,
    matched: Vec<u64>,
    rows: u64,
    written: Box<dyn Fn(u64) + Send + Sync>,
}

enum RowWriter {
    Arrow(FileWriter<BufWriter<NamedTempFile>>),
    Csv(csv::Writer<BufWriter<NamedTempFile>>),
    Json(JsonWriter<BufWriter<NamedTempFile>>),
}

/// What names of unfinished files begin and end with.
const UNFINISHED: (&str, &str) = (".mezze-", ".tmp");

/// Rows that are put out at a time.
const BATCH_ROWS: usize = 8192;

/// What was put out.
pub(crate) struct Written {
    pub(crate) rows: u64,
    /// By view, the rows with at least one value.
    pub(crate) matched: Vec<u64>,
    pub(crate) bytes: u64,
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> PitError {
    PitError::Write { path: path.to_owned(), reason: error.to_string() }
}

impl Output {
    /// `memory` is for the rows that are being encoded, and `written` is told how many rows are written.
    pub(crate) fn create(
        path: &Path,
        format: SourceFormat,
        schema: &SchemaRef,
        memory: Option<usize>,
        written: Box<dyn Fn(u64) + Send + Sync>,
    ) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| OfflineError::from(failed(path, error));
        if format == SourceFormat::Csv
            && let Some(field) = schema.fields().iter().find(|field| field.data_type().is_nested())
        {
            let found = type_name(field.data_type());
            return Err(failed(&format!(
                "column {} is {found}, which CSV cannot hold; use Parquet, Arrow or JSON",
                field.name()
            )));
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        remove_unfinished(folder, UNFINISHED.0, UNFINISHED.1);
        let mut builder = tempfile::Builder::new();
        builder.prefix(UNFINISHED.0).suffix(UNFINISHED.1);
        // What any file that is created gets: the umask applies.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(|error| failed(&error))?;
        hold(file.as_file());
        let rows = |format, written| {
            Writer::Rows(Box::new(RowOutput { path: path.to_owned(), format, matched: Vec::new(), rows: 0, written }))
        };
        let writer = match format {
            SourceFormat::Arrow => {
                let writer = FileWriter::try_new(BufWriter::new(file), schema).map_err(|error| failed(&error))?;
                rows(RowWriter::Arrow(writer), written)
            }
            SourceFormat::Csv => {
                let mut writer = csv::WriterBuilder::new().with_header(true).build(BufWriter::new(file));
                // A header even if no rows come.
                writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema))).map_err(|error| failed(&error))?;
                rows(RowWriter::Csv(writer), written)
            }
            SourceFormat::Json => {
                let writer = WriterBuilder::new().with_explicit_nulls(true).build(BufWriter::new(file));
                rows(RowWriter::Json(writer), written)
            }
            SourceFormat::Parquet => Writer::Parquet(Box::new(ParquetOutput::create(file, path, schema, memory, written)?)),
        };
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Puts the file in its place.
    pub(crate) fn finish(self) -> Result<Written> {
        let path = self.path;
        let failed = |error: &dyn std::fmt::Display| OfflineError::from(failed(&path, error));
        let (file, rows, matched) = match self.writer {
            Writer::Parquet(mut output) => {
                let (rows, matched) = (output.rows, std::mem::take(&mut output.matched));
                (output.finish()?, rows, matched)
            }
            Writer::Rows(output) => {
                let buffered = match output.format {
                    RowWriter::Arrow(mut writer) => {
                        writer.finish().map_err(|error| failed(&error))?;
                        writer.into_inner().map_err(|error| failed(&error))?
                    }
                    RowWriter::Csv(writer) => writer.into_inner(),
                    RowWriter::Json(mut writer) => {
                        writer.finish().map_err(|error| failed(&error))?;
                        writer.into_inner()
                    }
                };
                let mut file = buffered.into_inner().map_err(|error| failed(error.error()))?;
                file.flush().map_err(|error| failed(&error))?;
                (file, output.rows, output.matched)
            }
        };
        let bytes = sync(&file).map_err(|error| failed(&error))?;
        file.persist(&path).map_err(|error| failed(&error.error))?;
        Ok(Written { rows, matched, bytes })
    }
}

impl PartSink for Output {
    fn take(&mut self, part: &Part<'_>, threads: usize) -> std::result::Result<(), PitError> {
        match &mut self.writer {
            Writer::Parquet(output) => output.take(part, threads),
            Writer::Rows(output) => output.take(part, threads),
        }
    }
}

impl PartSink for RowOutput {
    fn take(&mut self, part: &Part<'_>, _: usize) -> std::result::Result<(), PitError> {
        let mut start = 0;
        while start < part.rows {
            if part.stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(PitError::Cancelled);
            }
            let rows = BATCH_ROWS.min(part.rows - start);
            let _meter = part.phases.write.begin();
            let batch = part.batch(start, rows)?;
            let written = match &mut self.format {
                RowWriter::Arrow(writer) => writer.write(&batch),
                RowWriter::Csv(writer) => writer.write(&batch),
                RowWriter::Json(writer) => writer.write(&batch),
            };
            written.map_err(|error| failed(&self.path, &error))?;
            start += rows;
            self.rows += rows as u64;
            (self.written)(self.rows);
        }
        part.phases.write.add_rows(part.rows);
        for (index, matched) in part.matched().into_iter().enumerate() {
            match self.matched.get_mut(index) {
                Some(sum) => *sum += matched,
                None => self.matched.push(matched),
            }
        }
        Ok(())
    }
}
