//! Verified pages in memory, under a byte budget.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mezze_core::PageKey;

/// Pages that have been verified, by key. Split into parts, so that threads rarely wait for each other.
#[derive(Debug)]
pub(crate) struct PageCache {
    parts: Vec<Mutex<Part>>,
}

/// A part of the pages. Those that were used since they were last looked at get a second chance when room is needed.
#[derive(Debug)]
struct Part {
    pages: HashMap<PageKey, Entry>,
    queue: VecDeque<PageKey>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    page: Arc<[u8]>,
    used: bool,
}

impl PageCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let part = || Part { pages: HashMap::new(), queue: VecDeque::new(), bytes: 0, bytes_max: bytes_max / PARTS };
        Self { parts: (0..PARTS).map(|_| Mutex::new(part())).collect() }
    }

    pub(crate) fn get(&self, key: &PageKey) -> Option<Arc<[u8]>> {
        let mut part = self.part(key)?;
        let entry = part.pages.get_mut(key)?;
        entry.used = true;
        Some(Arc::clone(&entry.page))
    }

    /// Keeps a page that has been verified. One that is larger than the budget is not kept.
    pub(crate) fn put(&self, key: PageKey, page: Arc<[u8]>) {
        let Some(mut part) = self.part(&key) else { return };
        if page.len() > part.bytes_max || part.pages.contains_key(&key) {
            return;
        }
        while part.bytes + page.len() > part.bytes_max {
            let Some(oldest) = part.queue.pop_front() else { break };
            match part.pages.get_mut(&oldest) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    part.queue.push_back(oldest);
                }
                Some(_) => {
                    let freed = part.pages.remove(&oldest).map_or(0, |entry| entry.page.len());
                    part.bytes -= freed;
                }
                None => {}
            }
        }
        part.bytes += page.len();
        part.queue.push_back(key);
        part.pages.insert(key, Entry { page, used: false });
    }

    /// Bytes of all pages that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| lock(part).bytes).sum()
    }

    fn part(&self, key: &PageKey) -> Option<MutexGuard<'_, Part>> {
        self.parts.get(key.bucket as usize % PARTS).map(lock)
    }
}

/// A thread that panicked while it held the lock left the part whole: every step keeps it so.
fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

const PARTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use mezze_core::SegmentId;

    fn key(bucket: usize) -> PageKey {
        // All in one part.
        PageKey::new(SegmentId::from_bytes([1; 16]), 0, (bucket * PARTS) as u32)
    }

    #[test]
    fn pages_in_use_stay_and_the_budget_holds() {
        let cache = PageCache::new(PARTS * 100);
        let page = |size: usize| -> Arc<[u8]> { vec![0; size].into() };
        cache.put(key(0), page(40));
        cache.put(key(1), page(40));
        assert!(cache.get(&key(0)).is_some());
        cache.put(key(2), page(40));
        assert!(cache.get(&key(0)).is_some(), "it was used");
        assert!(cache.get(&key(1)).is_none(), "it was not");
        cache.put(key(3), page(101));
        assert!(cache.get(&key(3)).is_none(), "it is larger than the budget");
        assert_eq!(cache.bytes(), 80);
    }
}
