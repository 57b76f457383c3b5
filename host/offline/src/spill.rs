//! Sources as Parquet files: the join reads rows by their address, which only Parquet files have.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use mezze_model::SourceFormat;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use tempfile::TempDir;

use crate::error::{OfflineError, Result};
use crate::parquet_output::properties;
use crate::pit::PitFile;
use crate::read::{LocalCopy, read_file};
use crate::scratch::Scratch;
use crate::source::{SourceFile, SourceFiles};

/// Rows of a row group at the most.
const GROUP_ROWS: usize = 131_072;
/// Bytes of a row group at about the most.
const GROUP_BYTES: usize = 16 << 20;

/// Keeps the temporary Parquet files of a source that is not Parquet itself; they are removed when this is dropped.
#[derive(Debug)]
pub struct Spill {
    _folder: Option<(TempDir, Arc<Scratch>)>,
    /// Bytes that were written.
    pub bytes: u64,
}

impl Spill {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self { _folder: None, bytes: 0 }
    }
}

/// The files of a source as Parquet files, in the same order and with the same rows in the same order: Parquet files as they
/// are, others written to a temporary folder, with the columns and types of `schema`. Keep the [`Spill`] until they are read.
pub async fn spill(files: &SourceFiles, schema: &SchemaRef) -> Result<(Vec<PitFile>, Spill)> {
    if files.format == SourceFormat::Parquet {
        return Ok((files.files.iter().map(as_is).collect(), Spill::none()));
    }
    let scratch = Scratch::shared()?;
    let folder = scratch.folder().map_err(|error| unwritable(scratch.path(), &error))?;
    let mut bytes = 0;
    let store = Arc::new(LocalFileSystem::new());
    // What partition folders say is a constant of the file, not a column in it.
    let partitions = files.partition_fields();
    let own = schema.fields().iter().filter(|field| partitions.iter().all(|partition| partition.name() != field.name()));
    let schema: SchemaRef = Arc::new(Schema::new(own.cloned().collect::<Vec<_>>()));
    let mut spilled = Vec::with_capacity(files.files.len());
    for (index, file) in files.files.iter().enumerate() {
        let path = folder.path().join(format!("{index:08}.parquet"));
        let copy = LocalCopy::of(file).await?;
        let (to, name, format, schema) = (path.clone(), file.name.clone(), files.format, Arc::clone(&schema));
        tokio::task::spawn_blocking(move || write(copy.path(), &name, format, &schema, &to)).await??;
        let size = std::fs::metadata(&path).map_err(|error| unwritable(&path, &error))?.len();
        bytes += size;
        let location = Location::from_absolute_path(&path).map_err(|error| unwritable(&path, &error))?;
        let store = Arc::clone(&store);
        spilled.push(PitFile { store, location, local: Some(path), size, constants: file.constants.clone(), part: None });
    }
    Ok((spilled, Spill { _folder: Some((folder, scratch)), bytes }))
}

fn as_is(file: &SourceFile) -> PitFile {
    PitFile {
        part: None,
        store: Arc::clone(&file.store),
        location: file.location.clone(),
        local: file.local.clone(),
        size: file.size,
        constants: file.constants.clone(),
    }
}

fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> OfflineError {
    OfflineError::Write { path: path.to_owned(), reason: error.to_string() }
}

fn write(from: &Path, name: &str, format: SourceFormat, schema: &SchemaRef, to: &Path) -> Result<()> {
    let file = File::create_new(to).map_err(|error| unwritable(to, &error))?;
    // Small row groups, since a writer holds one of them.
    let properties = properties(schema)
        .into_builder()
        .set_compression(Compression::LZ4_RAW)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_max_row_group_bytes(Some(GROUP_BYTES))
        .build();
    let mut writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties)).map_err(|error| unwritable(to, &error))?;
    read_file(from, name, format, schema, &mut |batch| {
        writer.write(&batch).map_err(|error| unwritable(to, &error))?;
        Ok(true)
    })?;
    writer.close().map_err(|error| unwritable(to, &error))?;
    Ok(())
}
