//! How a view's files are divided.

use crate::pit::FilePart;
use crate::source::{SourceFile, SourceFiles};
use mezze_model::SourceFormat;

/// Pieces of a view at the most.
const PIECES_MAX: u64 = 4096;
/// Files of a piece at the most, so that a task stays small.
const FILES_MAX: usize = 1000;

/// Some files, one behind another, or a part of one.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) files: SourceFiles,
    pub(super) part: Option<FilePart>,
}

/// Divides files into pieces of about so many bytes, in order. Only Parquet files have parts.
pub(super) fn pieces(files: &SourceFiles, bytes: u64) -> Vec<Piece> {
    let bytes = bytes.max(files.size().div_ceil(PIECES_MAX)).max(1);
    let mut pieces = Vec::new();
    let mut some: Vec<SourceFile> = Vec::new();
    let mut some_bytes = 0_u64;
    let of = |some: Vec<SourceFile>| SourceFiles { format: files.format, files: some };
    for file in &files.files {
        let fits = some_bytes.saturating_add(file.size) <= bytes && some.len() < FILES_MAX;
        if !some.is_empty() && !fits {
            pieces.push(Piece { files: of(std::mem::take(&mut some)), part: None });
            some_bytes = 0;
        }
        let count = u32::try_from(file.size.div_ceil(bytes)).unwrap_or(u32::MAX);
        if files.format == SourceFormat::Parquet && count > 1 {
            let part = |index| Piece { files: of(vec![file.clone()]), part: Some(FilePart { index, count }) };
            pieces.extend((0..count).map(part));
        } else {
            some_bytes = some_bytes.saturating_add(file.size);
            some.push(file.clone());
        }
    }
    if !some.is_empty() {
        pieces.push(Piece { files: of(some), part: None });
    }
    pieces
}
