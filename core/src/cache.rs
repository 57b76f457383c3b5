//! Verified pages under a byte budget, for hosts that have one thread.

use alloc::{sync::Arc, vec::Vec};

use crate::PageKey;

/// Keeps verified pages up to a byte budget, and drops those first that were used longest ago.
#[derive(Debug, Default)]
pub struct PageCache {
    /// In the order of [`PageCache::find`]. A map would be more code, and pages come far more seldom than lookups.
    pages: Vec<Page>,
    bytes: usize,
    budget: usize,
    /// Counts turns: a page knows the last that used it.
    turn: u64,
}

#[derive(Debug)]
struct Page {
    key: PageKey,
    bytes: Arc<[u8]>,
    used: u64,
}

impl PageCache {
    /// An empty cache for so many bytes.
    pub const fn new(budget: usize) -> Self {
        Self { pages: Vec::new(), bytes: 0, budget, turn: 0 }
    }

    /// Bytes of its pages.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins a turn: pages that are used or put in it stay until the next begins, even beyond the budget.
    pub fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// A page, if it is here.
    pub fn get(&mut self, key: &PageKey) -> Option<Arc<[u8]>> {
        let at = self.find(key).ok()?;
        let page = self.pages.get_mut(at)?;
        page.used = self.turn;
        Some(Arc::clone(&page.bytes))
    }

    /// Keeps a page, which must have been verified.
    pub fn put(&mut self, key: PageKey, bytes: Arc<[u8]>) {
        self.bytes += bytes.len();
        let page = Page { key, bytes, used: self.turn };
        match self.find(&key) {
            Ok(at) => {
                if let Some(slot) = self.pages.get_mut(at) {
                    let before = core::mem::replace(slot, page);
                    self.bytes -= before.bytes.len();
                }
            }
            Err(at) => self.pages.insert(at, page),
        }
    }

    /// Keeps only the pages that `wanted` says.
    pub fn retain(&mut self, mut wanted: impl FnMut(&PageKey) -> bool) {
        self.pages.retain(|page| wanted(&page.key));
        self.bytes = self.pages.iter().map(|page| page.bytes.len()).sum();
    }

    /// Drops the pages that were used longest ago until the rest fit the budget, but none of this turn.
    pub fn keep_budget(&mut self) {
        while self.bytes > self.budget {
            let idle = self.pages.iter().enumerate().filter(|(_, page)| page.used < self.turn);
            let Some((at, _)) = idle.min_by_key(|(_, page)| page.used) else { return };
            self.bytes -= self.pages.remove(at).bytes.len();
        }
    }

    /// Where a page is, or belongs.
    fn find(&self, key: &PageKey) -> Result<usize, usize> {
        // By bucket first: it tells nearly all pages apart at once.
        let order = |key: &PageKey| (key.bucket, key.table, key.segment);
        self.pages.binary_search_by(|page| order(&page.key).cmp(&order(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SegmentId;

    fn key(bucket: u32) -> PageKey {
        PageKey::new(SegmentId::from_bytes([1; 16]), 0, bucket)
    }

    #[test]
    fn the_page_used_longest_ago_goes_first_and_none_of_this_turn() {
        let mut cache = PageCache::new(25);
        for bucket in 0..2 {
            cache.begin_turn();
            cache.put(key(bucket), [0; 10].into());
            cache.keep_budget();
        }
        cache.begin_turn();
        assert!(cache.get(&key(0)).is_some());
        cache.put(key(2), [0; 10].into());
        cache.keep_budget();
        assert_eq!(cache.bytes(), 20);
        assert!(cache.get(&key(1)).is_none());
        // One turn may need more than the budget.
        cache.begin_turn();
        for bucket in 0..4 {
            cache.put(key(bucket), [0; 10].into());
        }
        cache.keep_budget();
        assert_eq!(cache.bytes(), 40);
        cache.begin_turn();
        cache.keep_budget();
        assert_eq!(cache.bytes(), 20);
        // The same page again counts once.
        cache.put(key(3), [0; 10].into());
        cache.put(key(3), [0; 12].into());
        assert_eq!(cache.bytes(), cache.pages.iter().map(|page| page.bytes.len()).sum::<usize>());
    }
}
