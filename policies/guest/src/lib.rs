//! What a policy without the standard library must bring: an allocator, a panic, and the keys of its configuration.
//!
//! Every guest links this crate by `use guest as _;`. An instance lives for one call and 1 MiB at most, so allocation is
//! a bump and free is nothing: 200 bytes of code instead of 6 kB for a real allocator. A panic is a trap; the edge then
//! refuses the request.
#![cfg_attr(target_arch = "wasm32", no_std)]

#[cfg(target_arch = "wasm32")]
mod bump;

#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// Declares the keys that a policy's configuration may have, and their types: `sandbox/src/keys.rs` has the list of these.
///
/// Whoever publishes the policy with another key, or with something else under a key, is told before it is published, and an
/// edge refuses to run it. Without this line nobody can tell, and a misspelt key is a key that is not there.
///
/// ```ignore
/// guest::config_keys! { "ttl": "number", "status": "number 400..=499", "receive-deny": "countries" }
/// ```
#[macro_export]
macro_rules! config_keys {
    ($($key:literal: $declared:literal),* $(,)?) => {
        const _: () = {
            // The linker drops an empty section; the last line is for policies without keys.
            const TEXT: &str = concat!($($key, ": ", $declared, "\n",)* "\n");
            // Not `#[used]`: it would lie in the data of every instance too.
            #[unsafe(link_section = "evernear:config")]
            static _SECTION: [u8; TEXT.len()] = *TEXT.as_bytes().first_chunk().expect("it is as long as itself");
        };
    };
}
