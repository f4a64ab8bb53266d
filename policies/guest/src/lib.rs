//! What a policy without the standard library must provide: an allocator, a panic handler, and the keys of its configuration.
//!
//! Every guest links this crate by `use guest as _;`. An instance lives for one call and has 1 MiB at most, so allocating is
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
/// An unknown key, or a value of another type, is an error before the policy is published, and an
/// edge refuses to run it. Without this declaration the keys are not checked, and a misspelt key has no effect.
///
/// ```ignore
/// guest::config_keys! { "ttl": "number", "status": "refusal", "hide": "truth", "receive-deny": "countries" }
/// ```
#[macro_export]
macro_rules! config_keys {
    ($($key:literal: $declared:literal),* $(,)?) => {
        const _: () = {
            // The linker drops an empty section; the last line is for policies without keys.
            const TEXT: &str = concat!($($key, ": ", $declared, "\n",)* "\n");
            // This is not `#[used]`, or it would also be in the data of every instance.
            #[unsafe(link_section = "evernear:config")]
            static _SECTION: [u8; TEXT.len()] = *TEXT.as_bytes().first_chunk().expect("it is as long as itself");
        };
    };
}
