//! What a policy may be and use, with the reasons. All numbers are from the table in the policy design.

use std::time::Duration;

/// Most links of a chain: each costs a fresh instance on a miss, and link numbers are a byte.
pub(crate) const LINKS_MAX: usize = 8;
/// Most different questions in a run. More would make the memory a list of requests.
pub(crate) const QUESTIONS_MAX: usize = 64;
/// Most bytes of text answers in a run: what one memory may cost beside its nodes.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Most effects in a run, and most bytes of one.
pub(crate) const EFFECTS_MAX: usize = 16;
pub(crate) const EFFECT_BYTES_MAX: usize = 1024;
/// Most bytes that one host call may copy out of a guest: arguments of questions and effects.
pub(crate) const HOSTCALL_BYTES_MAX: usize = 16 * 1024;
/// Stack of a guest in bytes; deep recursion traps long before it reaches the host's frames.
pub(crate) const WASM_STACK_BYTES: usize = 256 * 1024;
/// Most edges or sites in one call.
pub(crate) const CANDIDATES_MAX: usize = 256;
/// Longest a viewer or an edge may keep anything: RFC 9111 has no use for more than a year.
pub(crate) const TTL_SECONDS_MAX: u32 = 31_536_000;
/// DNS answers live 5 s to 5 min: shorter ones only cost, longer ones outlive a dead edge.
pub(crate) const DNS_TTL_SECONDS: std::ops::RangeInclusive<u32> = 5..=300;

const _: () = assert!(EFFECTS_MAX * EFFECT_BYTES_MAX <= HOSTCALL_BYTES_MAX);

/// Which row of limits a component falls under.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Class {
    /// Rust, C, `AssemblyScript`: everybody.
    #[default]
    Small,
    /// A component around a JavaScript engine whose code section is allow-listed by hash.
    Script,
}

/// The limits of a class. Sizes are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The component file.
    pub component_bytes_max: usize,
    /// All linear memories together.
    pub memory_bytes_max: usize,
    /// Fuel of one run, about one per instruction. This limit is the same on every machine.
    pub fuel_max: u64,
    /// CPU time of one run: the backstop for what fuel does not see.
    pub time_max: Duration,
    /// One function body; the compiler's work grows faster than linear in it.
    pub function_bytes_max: usize,
    /// Parameters and locals of one function.
    pub locals_max: u32,
    /// Nested blocks, loops and ifs.
    pub nesting_max: u32,
    /// Targets of one `br_table`.
    pub br_table_max: u32,
    /// Functions in all core modules.
    pub functions_max: u32,
    /// Core modules.
    pub modules_max: u32,
    /// Components inside the component.
    pub components_max: u32,
    /// Elements of all tables of a module.
    pub table_elements_max: u64,
    /// Parameters or results of a function type: blocks take types too, and each value is one more for the register
    /// allocator.
    pub type_values_max: usize,
}

impl Limits {
    /// The limits of [`Class::Small`].
    pub const SMALL: Self = Self {
        component_bytes_max: 256 * 1024,
        memory_bytes_max: 1024 * 1024,
        fuel_max: 100_000,
        time_max: Duration::from_millis(5),
        function_bytes_max: 16 * 1024,
        locals_max: 512,
        nesting_max: 128,
        br_table_max: 1024,
        functions_max: 2000,
        modules_max: 8,
        components_max: 8,
        table_elements_max: 1024,
        type_values_max: 32,
    };

    /// The limits of [`Class::Script`]. Limits on functions do not apply to the allow-listed module itself.
    pub const SCRIPT: Self = Self {
        component_bytes_max: 4 * 1024 * 1024,
        memory_bytes_max: 16 * 1024 * 1024,
        fuel_max: 2_000_000,
        time_max: Duration::from_millis(20),
        functions_max: 20_000,
        modules_max: 16,
        components_max: 16,
        table_elements_max: 16 * 1024,
        ..Self::SMALL
    };

    /// The limits of `class`.
    #[must_use]
    pub const fn of(class: Class) -> &'static Self {
        match class {
            Class::Small => &Self::SMALL,
            Class::Script => &Self::SCRIPT,
        }
    }
}
