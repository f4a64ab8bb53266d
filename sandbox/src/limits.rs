//! The limits of a policy, with the reasons. All numbers come from the table in the policy design.

use std::time::Duration;

/// Maximum number of links in a chain. Each costs a fresh instance on a cache miss, and a link number is one byte.
pub(crate) const LINKS_MAX: usize = 8;
/// Maximum number of different questions in a run. With more, the memory would become a list of requests.
pub(crate) const QUESTIONS_MAX: usize = 64;
/// Maximum bytes of text answers in a run: the cost of one remembered decision besides its nodes.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Maximum number of effects in a run, and maximum bytes of one.
pub(crate) const EFFECTS_MAX: usize = 16;
pub(crate) const EFFECT_BYTES_MAX: usize = 1024;
/// Maximum bytes that one host call may copy out of a guest, as arguments of questions and effects.
pub(crate) const HOSTCALL_BYTES_MAX: usize = 16 * 1024;
/// Stack of a guest in bytes. Deep recursion traps long before it reaches the host's frames.
pub(crate) const WASM_STACK_BYTES: usize = 256 * 1024;
/// Maximum number of edges or sites in one call.
pub(crate) const CANDIDATES_MAX: usize = 256;
/// Maximum lifetime at a viewer or an edge, in seconds: one year. RFC 9111 has no use for more.
pub(crate) const TTL_SECONDS_MAX: u32 = 31_536_000;
/// Lifetimes of DNS answers in seconds, 5 s to 5 min. Shorter ones only cost queries; longer ones outlive a dead edge.
pub(crate) const DNS_TTL_SECONDS: std::ops::RangeInclusive<u32> = 5..=300;

const _: () = assert!(EFFECTS_MAX * EFFECT_BYTES_MAX <= HOSTCALL_BYTES_MAX);

/// The class of limits that applies to a component.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Class {
    /// Rust, C, `AssemblyScript`: every component that is not in another class.
    #[default]
    Small,
    /// A component with a JavaScript engine whose code section is allow-listed by hash.
    Script,
}

/// The limits of a class. Sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the component file.
    pub component_bytes_max: usize,
    /// Size of all linear memories together.
    pub memory_bytes_max: usize,
    /// Fuel of one run, about one unit for each instruction. This limit is the same on every machine.
    pub fuel_max: u64,
    /// CPU time of one run. It bounds work that costs no fuel.
    pub time_max: Duration,
    /// Size of one function body. The compiler's work grows faster than linearly with it.
    pub function_bytes_max: usize,
    /// Parameters and locals of one function.
    pub locals_max: u32,
    /// Depth of nested blocks, loops and ifs.
    pub nesting_max: u32,
    /// Targets of one `br_table`.
    pub br_table_max: u32,
    /// Functions in all core modules.
    pub functions_max: u32,
    /// Core modules.
    pub modules_max: u32,
    /// Components inside the component.
    pub components_max: u32,
    /// Elements of all tables of one module.
    pub table_elements_max: u64,
    /// Parameters or results of a function type. Blocks have types too, and each value is one more for the register
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

    /// Returns the limits of `class`.
    #[must_use]
    pub const fn of(class: Class) -> &'static Self {
        match class {
            Class::Small => &Self::SMALL,
            Class::Script => &Self::SCRIPT,
        }
    }
}
