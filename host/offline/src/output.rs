//! Data sets as files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::FileWriter;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use mezze_model::SourceFormat;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tempfile::NamedTempFile;

use crate::error::{OfflineError, Result};
use crate::inspect::type_name;
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
    Arrow(FileWriter<BufWriter<NamedTempFile>>),
    Csv(csv::Writer<BufWriter<NamedTempFile>>),
    Json(JsonWriter<BufWriter<NamedTempFile>>),
    Parquet(Box<ArrowWriter<NamedTempFile>>),
}

impl Output {
    pub(crate) fn create(path: &Path, format: SourceFormat, schema: &SchemaRef) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| OfflineError::Write { path: path.to_owned(), reason: error.to_string() };
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
        let mut builder = tempfile::Builder::new();
        builder.prefix(".mezze-").suffix(".tmp");
        // What any file that is created gets: the umask applies.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(|error| failed(&error))?;
        let writer = match format {
            SourceFormat::Arrow => {
                Writer::Arrow(FileWriter::try_new(BufWriter::new(file), schema).map_err(|error| failed(&error))?)
            }
            SourceFormat::Csv => {
                let mut writer = csv::WriterBuilder::new().with_header(true).build(BufWriter::new(file));
                // A header even if no rows come.
                writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema))).map_err(|error| failed(&error))?;
                Writer::Csv(writer)
            }
            SourceFormat::Json => Writer::Json(WriterBuilder::new().with_explicit_nulls(true).build(BufWriter::new(file))),
            SourceFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
                let writer = ArrowWriter::try_new(file, SchemaRef::clone(schema), Some(properties));
                Writer::Parquet(Box::new(writer.map_err(|error| failed(&error))?))
            }
        };
        Ok(Self { path: path.to_owned(), writer })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let written = match &mut self.writer {
            Writer::Arrow(writer) => writer.write(batch),
            Writer::Csv(writer) => writer.write(batch),
            Writer::Json(writer) => writer.write(batch),
            Writer::Parquet(writer) => writer.write(batch).map_err(Into::into),
        };
        written.map_err(|error| OfflineError::Write { path: self.path.clone(), reason: error.to_string() })
    }

    /// Puts the file in its place and says its size.
    pub(crate) fn finish(self) -> Result<u64> {
        let path = self.path;
        let failed = |error: &dyn std::fmt::Display| OfflineError::Write { path: path.clone(), reason: error.to_string() };
        let buffered = match self.writer {
            Writer::Arrow(mut writer) => {
                writer.finish().map_err(|error| failed(&error))?;
                Ok(writer.into_inner().map_err(|error| failed(&error))?)
            }
            Writer::Csv(writer) => Ok(writer.into_inner()),
            Writer::Json(mut writer) => {
                writer.finish().map_err(|error| failed(&error))?;
                Ok(writer.into_inner())
            }
            Writer::Parquet(writer) => Err(writer.into_inner().map_err(|error| failed(&error))?),
        };
        let mut file = match buffered {
            Ok(buffered) => buffered.into_inner().map_err(|error| failed(error.error()))?,
            Err(file) => file,
        };
        file.flush().map_err(|error| failed(&error))?;
        file.as_file().sync_all().map_err(|error| failed(&error))?;
        let size = file.as_file().metadata().map_err(|error| failed(&error))?.len();
        let _: File = file.persist(&path).map_err(|error| failed(&error.error))?;
        Ok(size)
    }
}
