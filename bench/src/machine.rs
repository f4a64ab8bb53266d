//! The machine on which the numbers were measured.

use std::fs;

/// Returns one line: processor, cores, memory, kernel.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    format!(
        "{}, {cores} cores, {} memory, Linux {}",
        field(&cpu, "model name"),
        field(&memory, "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}
