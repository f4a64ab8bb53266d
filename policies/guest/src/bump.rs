//! The bump allocator: hands out memory from the end of the static data upwards and never frees any.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const PAGE_BYTES: usize = 64 * 1024;

unsafe extern "C" {
    /// Set by the linker: the first byte after stack and static data.
    static __heap_base: u8;
}

/// First free byte; 0 until the first allocation. Atomic only to be safe Rust: there is one thread.
struct Bump {
    next: AtomicUsize,
}

#[global_allocator]
static BUMP: Bump = Bump { next: AtomicUsize::new(0) };

// SAFETY: each block starts where the last one ended, is aligned by `next_multiple_of`, and lies below the memory's
// size, which only grows; nothing is ever handed out twice because nothing is taken back.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let next = match self.next.load(Relaxed) {
            0 => (&raw const __heap_base).addr(),
            next => next,
        };
        let Some(start) = next.checked_next_multiple_of(layout.align()) else {
            return ptr::null_mut();
        };
        let Some(end) = start.checked_add(layout.size()) else {
            return ptr::null_mut();
        };
        let have = wasm32::memory_size(0) * PAGE_BYTES;
        if end > have && wasm32::memory_grow(0, (end - have).div_ceil(PAGE_BYTES)) == usize::MAX {
            return ptr::null_mut();
        }
        self.next.store(end, Relaxed);
        ptr::with_exposed_provenance_mut(start)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
