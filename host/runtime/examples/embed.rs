//! A plug-in host in ten lines: features from a folder of snapshots, computed in the sandboxed component.
//!
//!     cargo run -p mezze-runtime --example embed -- REPLICA_FOLDER '{"feature_service": ..., "entities": ...}'
#![expect(clippy::print_stdout, reason = "printing the answer is what it is for")]

use std::time::{SystemTime, UNIX_EPOCH};

use mezze_core::{PageKey, SegmentIndex};
use mezze_runtime::{Lookup, PageName, Runtime, RuntimeConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("expected the folder of a replica")?;
    let request = arguments.next().ok_or("expected a request")?;
    // begin: ten lines
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let mut store = runtime.store(64 << 20)?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    store.open(&std::fs::read(format!("{folder}/head"))?, None, now)?;
    let served = store.lookup(&Lookup::json(request.as_bytes(), now), |page| read_page(&folder, page))?;
    println!("{} {}", served.status, String::from_utf8(served.body)?);
    // end
    Ok(())
}

/// A page from a folder, where all pages of a segment's table are one file.
fn read_page(folder: &str, page: &PageName) -> Option<Vec<u8>> {
    let key = PageKey::new(format!("{:032x}", page.segment).parse().ok()?, page.table, page.bucket);
    let file = std::fs::read(format!("{folder}/s/{}/{}", key.segment, key.table)).ok()?;
    let tail = file.len().checked_sub(usize::try_from(SegmentIndex::tail_bytes(&file).ok()?).ok()?)?;
    let range = SegmentIndex::decode(file.get(tail..)?).ok()?.page_range(key.bucket)?;
    Some(file.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)?.to_vec())
}
