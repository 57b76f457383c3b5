//! The best feature row of each key, in as much memory as there may be.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::slots::Best;

/// Parts with a lock each. They grow one at a time, so that only one has a second copy of its keys meanwhile.
const SHARDS: usize = 256;
/// What a part has room for at the least.
const KEYS_MIN: usize = 16;

/// A key that is kept.
pub(super) trait Key: Send {
    /// The same, borrowed.
    type Given: ?Sized;

    fn own(given: &Self::Given) -> Self;
    fn is(&self, given: &Self::Given) -> bool;
    fn hash(&self) -> u64;
    /// Bytes that it has elsewhere.
    fn heap_bytes(&self) -> usize;
}

impl Key for i64 {
    type Given = Self;

    fn own(given: &Self) -> Self {
        *given
    }

    fn is(&self, given: &Self) -> bool {
        self == given
    }

    fn hash(&self) -> u64 {
        xxh3_64(&self.to_le_bytes())
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Key for Box<[u8]> {
    type Given = [u8];

    fn own(given: &[u8]) -> Self {
        Self::from(given)
    }

    fn is(&self, given: &[u8]) -> bool {
        **self == *given
    }

    fn hash(&self) -> u64 {
        xxh3_64(self)
    }

    fn heap_bytes(&self) -> usize {
        // With what the allocator takes of its own.
        self.len() + 16
    }
}

struct Shard<K> {
    table: HashTable<(K, Best)>,
    heap_bytes: usize,
}

/// The best rows of the keys whose hashes are from `first` on, up to a limit that is lowered when memory is short.
pub(super) struct BestRows<K> {
    shards: Vec<Mutex<Shard<K>>>,
    first: u64,
    /// The greatest hash whose key is kept.
    last: AtomicU64,
    /// Bytes of a part at the most.
    shard_bytes: usize,
}

/// The part of a key.
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

/// The hash within a part: not the bits that keys of one part, or of one range of hashes, have in common.
fn within(hash: u64) -> u64 {
    hash.rotate_right(25)
}

/// Rows in order of their parts; kept from batch to batch.
#[derive(Default)]
pub(super) struct ByShard {
    order: Vec<u32>,
    ends: Vec<u32>,
}

impl<K: Key> BestRows<K> {
    /// For keys with hashes from `first` to `last`, as many of them as `memory` bytes hold.
    pub(super) fn new(first: u64, last: u64, memory: Option<usize>) -> Self {
        let shard = || Mutex::new(Shard { table: HashTable::new(), heap_bytes: 0 });
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            first,
            last: AtomicU64::new(last),
            shard_bytes: memory.map_or(usize::MAX, |memory| memory / SHARDS),
        }
    }

    /// The greatest hash whose keys are here; those above it are for another pass.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Whether a key's hash is of this pass, as far as that is known by now.
    pub(super) fn takes(&self, hash: u64) -> bool {
        hash >= self.first && hash <= self.last()
    }

    /// Raises the keys of some rows: `hashes` are those of the rows, `key` and `best` give what a row has by its place there.
    pub(super) fn fold<'k>(
        &self,
        hashes: &[u64],
        by_shard: &mut ByShard,
        key: impl Fn(usize) -> &'k K::Given,
        best: impl Fn(usize) -> Best,
    ) where
        K::Given: 'k,
    {
        by_shard.sort(hashes);
        let mut start = 0;
        for (shard, end) in self.shards.iter().zip(&by_shard.ends) {
            let rows = by_shard.order.get(start..*end as usize).unwrap_or_default();
            start = *end as usize;
            if rows.is_empty() {
                continue;
            }
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for row in rows {
                let row = *row as usize;
                let Some(hash) = hashes.get(row).copied() else { continue };
                let given = key(row);
                if let Some((_, known)) = shard.table.find_mut(within(hash), |(key, _)| key.is(given)) {
                    *known = best(row).max(*known);
                } else {
                    self.insert(&mut shard, hash, K::own(given), best(row));
                }
            }
        }
    }

    fn insert(&self, shard: &mut MutexGuard<'_, Shard<K>>, hash: u64, key: K, best: Best) {
        let heap_bytes = key.heap_bytes();
        if !self.has_room(shard, heap_bytes) {
            self.make_room(shard, heap_bytes);
            if !self.takes(hash) {
                return;
            }
        }
        shard.heap_bytes += heap_bytes;
        shard.table.insert_unique(within(hash), (key, best), |(key, _)| within(key.hash()));
    }

    /// Whether a part with one key more is within its bytes.
    fn has_room(&self, shard: &Shard<K>, heap_bytes: usize) -> bool {
        let capacity = shard.table.capacity();
        let capacity = if shard.table.len() < capacity { capacity } else { (capacity * 2).max(KEYS_MIN) };
        // Tables are filled to 7/8, and have a byte for each place.
        let bytes = capacity / 7 * 8 * (size_of::<(K, Best)>() + 1);
        capacity <= KEYS_MIN || bytes.saturating_add(shard.heap_bytes + heap_bytes) <= self.shard_bytes
    }

    /// Lets go of keys with great hashes until a part has room. Other parts follow when they are short themselves.
    fn make_room(&self, shard: &mut MutexGuard<'_, Shard<K>>, heap_bytes: usize) {
        loop {
            let last = self.last();
            let table = std::mem::take(&mut shard.table);
            let capacity = table.capacity();
            let mut kept = HashTable::with_capacity(capacity);
            shard.heap_bytes = 0;
            let mut bytes = 0;
            for (key, best) in table {
                let hash = key.hash();
                if hash <= last {
                    bytes += key.heap_bytes();
                    kept.insert_unique(within(hash), (key, best), |(key, _)| within(key.hash()));
                }
            }
            shard.table = kept;
            shard.heap_bytes = bytes;
            // Some room to go on with, lest the next key asks again.
            let filled = shard.table.len() > shard.table.capacity() / 8 * 7;
            if !filled && self.has_room(shard, heap_bytes) {
                return;
            }
            if last == self.first {
                // One hash is left: what it takes, it takes.
                return;
            }
            let lower = self.first + (last - self.first) / 2;
            // Where another part has lowered it meanwhile, that counts.
            let _ = self.last.compare_exchange(last, lower, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The places of the best rows.
    pub(super) fn places(self) -> impl Iterator<Item = u64> {
        let last = self.last();
        let tables = self.shards.into_iter().map(|shard| shard.into_inner().unwrap_or_else(PoisonError::into_inner).table);
        tables.flatten().filter(move |(key, _)| key.hash() <= last).map(|(_, best)| best.place)
    }
}

impl ByShard {
    fn sort(&mut self, hashes: &[u64]) {
        self.ends.clear();
        self.ends.resize(SHARDS, 0);
        for hash in hashes {
            if let Some(count) = self.ends.get_mut(shard_of(*hash)) {
                *count += 1;
            }
        }
        let mut start = 0;
        for end in &mut self.ends {
            // From counts to where each part begins; filling moves that to where it ends.
            start += std::mem::replace(end, start);
        }
        self.order.clear();
        self.order.resize(hashes.len(), 0);
        for (hash, row) in hashes.iter().zip(0_u32..) {
            if let Some(next) = self.ends.get_mut(shard_of(*hash)) {
                if let Some(place) = self.order.get_mut(*next as usize) {
                    *place = row;
                }
                *next += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes over the same rows until all keys were kept once: the places by pass.
    fn passes(rows: &[(i64, i64)], memory: Option<usize>) -> Vec<Vec<u64>> {
        let (mut first, mut found) = (0, Vec::new());
        loop {
            let best = BestRows::<i64>::new(first, u64::MAX, memory);
            let mut by_shard = ByShard::default();
            for (start, chunk) in rows.chunks(100).enumerate() {
                let taken: Vec<usize> = (0..chunk.len()).filter(|row| best.takes(chunk[*row].0.hash())).collect();
                let hashes: Vec<u64> = taken.iter().map(|row| chunk[*row].0.hash()).collect();
                let row_of = |place: usize| Best {
                    time: chunk[taken[place]].1,
                    created: 0,
                    place: (start * 100 + taken[place] + 1) as u64,
                };
                best.fold(&hashes, &mut by_shard, |place| &chunk[taken[place]].0, row_of);
            }
            let last = best.last();
            found.push(best.places().collect());
            if last == u64::MAX {
                return found;
            }
            first = last + 1;
        }
    }

    #[test]
    fn any_memory_keeps_each_key_once_with_its_newest_row() {
        let rows: Vec<(i64, i64)> = (0..60_000_i64).map(|row| (row * 7919 % 20_011, row * 31 % 1009)).collect();
        let mut expected = std::collections::BTreeMap::new();
        for (row, (key, time)) in rows.iter().enumerate() {
            let best = expected.entry(*key).or_insert((*time, row + 1));
            *best = (*time, row + 1).max(*best);
        }
        let mut expected: Vec<u64> = expected.into_values().map(|(_, place)| place as u64).collect();
        expected.sort_unstable();
        for (memory, least_passes) in [(None, 1), (Some(400_000), 2), (Some(1), 4)] {
            let found = passes(&rows, memory);
            assert!(found.len() >= least_passes, "{memory:?}: {} passes", found.len());
            let mut found: Vec<u64> = found.into_iter().flatten().collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{memory:?}");
        }
    }
}
