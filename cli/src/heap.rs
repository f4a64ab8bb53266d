//! How much freed memory the C library keeps.
//!
//! By default it gives the memory of every strip and block back to the system, which then clears each page of it anew
//! for the next one: 5 to 13 % of the CPU time of storing and reading (bench/results/memory.md).

/// Has the C library keep the memory of strips and blocks for the next ones. Other C libraries are left as they are.
pub(crate) fn keep_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The heap's free end may be this long before it is given back, for each arena.
        const FREE_BYTES_MAX: std::ffi::c_int = 4 * 1024 * 1024;
        /// From this size on an allocation lies outside of the heap, and is given back at once. Strips and blocks are
        /// smaller.
        const OUTSIDE_BYTES_MIN: std::ffi::c_int = 1024 * 1024;
        for (parameter, bytes) in
            [(libc::M_TRIM_THRESHOLD, FREE_BYTES_MAX), (libc::M_MMAP_THRESHOLD, OUTSIDE_BYTES_MIN)]
        {
            // SAFETY: mallopt(3) takes two integers by value and may be called at any time; glibc checks both and locks
            // its arenas itself. A value that it refuses changes nothing.
            #[expect(unsafe_code, reason = "no safe function sets these; see SAFETY")]
            let _ = unsafe { libc::mallopt(parameter, bytes) };
        }
    }
}
