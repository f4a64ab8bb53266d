//! What a policy without the standard library must bring: an allocator and a panic.
//!
//! Every guest links this crate by `use guest as _;`. An instance lives for one call and 1 MiB at most, so allocation is
//! a bump and free is nothing: 200 bytes of code instead of 6 kB for a real allocator. A panic is a trap; the edge then
//! does what the manifest's `on-error` says.
#![cfg_attr(target_arch = "wasm32", no_std)]

#[cfg(target_arch = "wasm32")]
mod bump;

#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
