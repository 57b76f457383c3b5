//! Pages: the unit under one key, written once and read in place. docs/FORMAT.md describes the bytes.

mod format;
mod reader;
mod segment;
mod writer;

pub use format::{PAGE_BYTES_LIMIT, PAGE_BYTES_MAX_DEFAULT, PAGE_MAGIC, PAGE_VERSION, ROW_BYTES_MAX};
pub use reader::{PageError, PageRef};
pub use segment::{SEGMENT_FOOTER_BYTES, SEGMENT_MAGIC, SEGMENT_VERSION, SegmentIndex, SegmentWriter};
pub use writer::{ColumnData, ColumnInput, PageInput, PageWriteError, PageWriter, PatchInput, ViewInput};
