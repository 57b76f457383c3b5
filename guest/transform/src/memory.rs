//! Where a transform's values lie, in WebAssembly: blocks of some sizes, each size with a list of those that are free again.
//!
//! A call has an instance of its own, or one that is as new, and ends soon: what counts is how fast a block is had and given back,
//! not how little memory is left over. The general allocator of the standard library took a third of a call.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;

/// The allocator of a transform.
struct Blocks(UnsafeCell<State>);

struct State {
    /// By size the first block that is free; its first word leads to the next.
    free: [*mut u8; SIZES],
    /// Memory that was never given out: from here, and to there.
    next: usize,
    end: usize,
}

// SAFETY: a transform has one thread.
unsafe impl Sync for Blocks {}

#[global_allocator]
static BLOCKS: Blocks = Blocks(UnsafeCell::new(State { free: [ptr::null_mut(); SIZES], next: 0, end: 0 }));

/// Blocks of up to 1,024 bytes have every multiple of 16; larger ones are four to a doubling.
const SIZES: usize = 64 + 4 * 21;
const SMALL: usize = 1_024;
/// What every block is aligned to.
const ALIGN: usize = 16;
const PAGE: usize = 1 << 16;

/// What is there from the start is enough for most calls: to grow costs a host more than what a request computes.
#[repr(align(16))]
struct First(UnsafeCell<[u8; FIRST_BYTES]>);

// SAFETY: as above.
unsafe impl Sync for First {}

static FIRST: First = First(UnsafeCell::new([0; FIRST_BYTES]));
const FIRST_BYTES: usize = 256 << 10;

/// The number of the size that a block of so many bytes has, and its bytes.
const fn size_of_block(bytes: usize) -> (usize, usize) {
    if bytes <= SMALL {
        let number = bytes.saturating_sub(1) / ALIGN;
        return (number, (number + 1) * ALIGN);
    }
    // Between two powers of two in steps of a quarter of the lower.
    let power = (bytes - 1).ilog2();
    let step = 1 << (power - 2);
    let quarter = (bytes - 1 - (1 << power)) / step;
    (64 + 4 * (power as usize - 10) + quarter, (1 << power) + (quarter + 1) * step)
}

impl State {
    /// Memory that was never given out.
    fn fresh(&mut self, bytes: usize, align: usize) -> *mut u8 {
        let Some(start) = self.next.checked_add(align - 1).map(|at| at & !(align - 1)) else { return ptr::null_mut() };
        let Some(end) = start.checked_add(bytes) else { return ptr::null_mut() };
        if end > self.end && !self.grow(end) {
            return ptr::null_mut();
        }
        // Where memory began anew, so does the block.
        if self.next > start {
            return self.fresh(bytes, align);
        }
        self.next = end;
        start as *mut u8
    }

    /// Gets memory up to an address at least, and an eighth of what there is, so that it seldom has to.
    fn grow(&mut self, end: usize) -> bool {
        let here = core::arch::wasm32::memory_size(0) * PAGE;
        if self.end == 0 {
            let first = FIRST.0.get() as usize;
            (self.next, self.end) = (first, first + FIRST_BYTES);
            return true;
        }
        // The first time, and where another has grown it meanwhile.
        if self.end != here {
            (self.next, self.end) = (here, here);
        }
        let wanted = end.saturating_sub(self.end).saturating_add(ALIGN).div_ceil(PAGE);
        let pages = wanted.max(here / PAGE / 8);
        let grown = [pages, wanted].into_iter().any(|pages| core::arch::wasm32::memory_grow(0, pages) != usize::MAX);
        if grown {
            self.end = core::arch::wasm32::memory_size(0) * PAGE;
        }
        grown
    }
}

// SAFETY: a block is either free, in one list, or given out, and blocks do not overlap: they come from `fresh`, once.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: a transform has one thread, and nothing here calls an allocator.
        let state = unsafe { &mut *self.0.get() };
        if layout.align() > ALIGN {
            return state.fresh(layout.size(), layout.align());
        }
        let (number, bytes) = size_of_block(layout.size());
        let Some(first) = state.free.get_mut(number) else { return ptr::null_mut() };
        if first.is_null() {
            return state.fresh(bytes, ALIGN);
        }
        let block = *first;
        // SAFETY: a free block leads to the next, or to none.
        *first = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.align() > ALIGN {
            // Rare, and gone with the call.
            return;
        }
        // SAFETY: as above.
        let state = unsafe { &mut *self.0.get() };
        let (number, bytes) = size_of_block(layout.size());
        if block as usize + bytes == state.next {
            state.next = block as usize;
            return;
        }
        if let Some(first) = state.free.get_mut(number) {
            // SAFETY: the block is given back, and has room for a word.
            unsafe { block.cast::<*mut u8>().write(*first) };
            *first = block;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (_, bytes) = size_of_block(layout.size());
        if layout.align() <= ALIGN {
            let (_, wanted) = size_of_block(size);
            if wanted == bytes {
                return block;
            }
            // SAFETY: as above.
            let state = unsafe { &mut *self.0.get() };
            // The last one given out: there is room behind it.
            if block as usize + bytes == state.next && block as usize + wanted <= state.end {
                state.next = block as usize + wanted;
                return block;
            }
        }
        // SAFETY: the caller's size and this alignment are a layout, and the two blocks do not overlap.
        unsafe {
            let made = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !made.is_null() {
                ptr::copy_nonoverlapping(block, made, size.min(layout.size()));
                self.dealloc(block, layout);
            }
            made
        }
    }
}
