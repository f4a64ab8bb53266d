//! Structural admission: the checks on a policy before a compiler sees it.
//!
//! A valid component of 256 KiB can keep Cranelift busy for 47 s, so bodies, locals, nesting and tables have limits.
//! Admission is pure: the same bytes give the same answer, at publish and again on every edge. It decodes foreign bytes
//! and cannot panic. The order is: cheap structure first (linear in the bytes, without allocations that an owner could
//! steer), then wasmparser's validation, then the names of imports and exports.

use std::collections::BTreeSet;
use std::fmt;

use wasmparser::component_types::ComponentEntityType;
use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::keys::{Keys, KeysError, SECTION};
use crate::limits::{Class, Limits};
use crate::question::Hook;

mod module;

use module::Module;

/// The contract's package. Its minor versions are compatible; another major version is another package.
const PACKAGE: &str = "evernear:policy/";
const MAJOR: &str = "1.";
/// What every WebAssembly file begins with.
const MAGIC: &[u8] = b"\0asm";
const WASM_PAGE_BYTES: u64 = 64 * 1024;

/// A component that passed admission. The engine compiles nothing else.
#[derive(Debug, Clone)]
pub struct Admitted<'a> {
    wasm: &'a [u8],
    summary: Summary,
}

/// A component's class, what it exports and which facts it can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its class of limits.
    pub class: Class,
    /// All host functions that it can call. It cannot see any other fact.
    pub imports: BTreeSet<Import>,
    /// The hooks that it exports, in the order of the contract.
    pub hooks: Vec<Hook>,
    /// The keys that its configuration may have. `None` if it declares none: then its configuration cannot be checked.
    pub keys: Option<Keys>,
    /// Functions in all core modules.
    pub functions: u32,
    /// The largest function body in bytes.
    pub function_bytes: usize,
}

/// A host function. It is displayed like `client.country`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Import {
    /// The interface, for example `client`.
    pub interface: Box<str>,
    /// The function, for example `country`.
    pub function: Box<str>,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.interface, self.function)
    }
}

/// The position of a function: its core module and its index there, both counted from 0 as tools do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionPlace {
    /// Index of the core module.
    pub module: u32,
    /// Index of the function, counting imports.
    pub function: u32,
    /// Its name, if the module has a name section.
    pub name: Option<String>,
}

impl fmt::Display for FunctionPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "function {} of core module {}", self.function, self.module)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

/// Why a component is refused. The owner is always at fault, and a retry never helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The component is larger than any policy may be.
    #[error("component has {bytes} bytes, at most {limit} are allowed")]
    Component {
        /// Bytes of the file.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The file does not begin as WebAssembly does.
    #[error("not WebAssembly: it does not begin as a component does")]
    NotWasm,
    /// Damaged WebAssembly, or it uses features that policies do not have.
    #[error("not a valid component: {reason} (at byte {offset})")]
    Invalid {
        /// The validator's message.
        reason: String,
        /// The offset in the file.
        offset: usize,
    },
    /// It is a core module, not a component.
    #[error("not a component but a core module; wrap it with wit-component")]
    CoreModule,
    /// It imports something from outside the contract, such as WASI.
    #[error("imports {name}, which policies do not have; only evernear:policy/*@1 is there")]
    Import {
        /// The import's name.
        name: String,
    },
    /// It exports no hook of the contract.
    #[error("exports no hook; export at least one of steer, serve, hold, place of evernear:policy@1")]
    NoHook,
    /// Its declaration of configuration keys is wrong.
    #[error("its custom section {SECTION}, which declares the keys of its configuration, cannot be used")]
    Keys(#[from] KeysError),
    /// A function body is too large.
    #[error("{place} has a body of {bytes} bytes, at most {limit} are allowed; split it")]
    FunctionBytes {
        /// The function.
        place: FunctionPlace,
        /// Bytes of the body.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A function has too many parameters and locals.
    #[error("{place} has {locals} parameters and locals, at most {limit} are allowed")]
    Locals {
        /// The function.
        place: FunctionPlace,
        /// Parameters and locals found.
        locals: u32,
        /// Parameters and locals allowed.
        limit: u32,
    },
    /// Blocks are nested too deeply.
    #[error("{place} nests blocks deeper than {limit}")]
    Nesting {
        /// The function.
        place: FunctionPlace,
        /// Depth allowed.
        limit: u32,
    },
    /// A jump table is too long.
    #[error("{place} has a br_table of {targets} targets, at most {limit} are allowed")]
    BrTable {
        /// The function.
        place: FunctionPlace,
        /// Targets found.
        targets: u32,
        /// Targets allowed.
        limit: u32,
    },
    /// A function type has too many parameters or results.
    #[error("a type of core module {module} has {values} parameters or results, at most {limit} are allowed")]
    TypeValues {
        /// Index of the core module.
        module: u32,
        /// Values found.
        values: usize,
        /// Values allowed.
        limit: usize,
    },
    /// The initial memory is too large.
    #[error("core module {module} starts with {bytes} bytes of memory, at most {limit} are allowed")]
    Memory {
        /// Index of the core module.
        module: u32,
        /// Bytes found.
        bytes: u64,
        /// Bytes allowed.
        limit: usize,
    },
    /// Tables are too large.
    #[error("core module {module} has tables of {elements} elements, at most {limit} are allowed")]
    Table {
        /// Index of the core module.
        module: u32,
        /// Elements found.
        elements: u64,
        /// Elements allowed.
        limit: u64,
    },
    /// A start function: code that would run before a hook is called.
    #[error("core module {module} has a start function; do its work in the hook")]
    Start {
        /// Index of the core module.
        module: u32,
    },
    /// There are too many functions in all.
    #[error("component has {functions} functions, at most {limit} are allowed")]
    Functions {
        /// Functions found.
        functions: u32,
        /// Functions allowed.
        limit: u32,
    },
    /// There are too many core modules or inner components.
    #[error("component has {parts} core modules or inner components, at most {limit} are allowed")]
    Parts {
        /// Parts found of the kind that exceeds its limit.
        parts: u32,
        /// Parts allowed.
        limit: u32,
    },
}

/// Checks a component's structure, imports and exports. `bench/results/policy.md` has the cost.
///
/// `engines` are the BLAKE3 hashes of the code sections of the JavaScript engines that the operator allows. A component
/// that contains one of them falls under [`Class::Script`].
///
/// # Errors
/// [`AdmitError`] for the first broken limit, with its number and place.
pub fn admit<'a>(wasm: &'a [u8], engines: &[[u8; 32]]) -> Result<Admitted<'a>, AdmitError> {
    let limit = Limits::SCRIPT.component_bytes_max;
    if wasm.len() > limit {
        return Err(AdmitError::Component { bytes: wasm.len(), limit });
    }
    if !wasm.starts_with(MAGIC) {
        return Err(AdmitError::NotWasm);
    }
    let structure = Structure::read(wasm, engines)?;
    let types = Validator::new_with_features(features()).validate_all(wasm).map_err(invalid)?;
    let mut imports = BTreeSet::new();
    for name in &structure.imports {
        let interface = interface(name).ok_or_else(|| AdmitError::Import { name: name.clone() })?;
        let item = types.component_item_for_import(name);
        let Some(ComponentEntityType::Instance(id)) = item.map(|item| item.ty) else {
            return Err(AdmitError::Import { name: name.clone() });
        };
        for (function, item) in &types[id].exports {
            if matches!(item.ty, ComponentEntityType::Func(_)) {
                imports.insert(Import { interface: interface.into(), function: function.as_str().into() });
            }
        }
    }
    let hooks: Vec<Hook> = Hook::ALL
        .into_iter()
        .filter(|hook| structure.exports.iter().any(|name| interface(name) == Some(hook.name())))
        .collect();
    if hooks.is_empty() {
        return Err(AdmitError::NoHook);
    }
    let Structure { class, keys, functions, function_bytes, .. } = structure;
    let keys = keys.as_deref().map(Keys::parse).transpose()?;
    Ok(Admitted { wasm, summary: Summary { class, imports, hooks, keys, functions, function_bytes } })
}

impl<'a> Admitted<'a> {
    /// The component's bytes.
    #[must_use]
    pub fn wasm(&self) -> &'a [u8] {
        self.wasm
    }

    /// Returns the component's class, exports and imports.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

/// Returns the features that policies may use: WebAssembly 2, tail calls, extended constants, several memories and the
/// component model. There are no threads, no 64-bit memory, and no relaxed SIMD, whose results differ between machines.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::COMPONENT_MODEL
}

/// Returns the interface of a full name: `serve` of `evernear:policy/serve@1.0.0`.
fn interface(name: &str) -> Option<&str> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
    version.starts_with(MAJOR).then_some(interface)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn invalid(error: wasmparser::BinaryReaderError) -> AdmitError {
    AdmitError::Invalid { reason: error.message().to_owned(), offset: error.offset() }
}

/// The results of the first pass.
#[derive(Debug, Default)]
struct Structure {
    class: Class,
    modules: u32,
    components: u32,
    functions: u32,
    function_bytes: usize,
    imports: Vec<String>,
    exports: Vec<String>,
    /// The declared keys, all sections together.
    keys: Option<Vec<u8>>,
}

/// The part that the parser is inside.
enum Inside {
    Component,
    Module(Box<Module>),
}

impl Structure {
    fn read(wasm: &[u8], engines: &[[u8; 32]]) -> Result<Self, AdmitError> {
        let mut found = Self::default();
        let mut stack: Vec<Inside> = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.map_err(invalid)?;
            let depth = stack.len();
            if let Payload::CustomSection(section) = &payload
                && section.name() == SECTION
            {
                let keys = found.keys.get_or_insert_default();
                keys.push(b'\n');
                keys.extend_from_slice(section.data());
            }
            match (&payload, stack.last_mut()) {
                (Payload::Version { encoding: Encoding::Module, .. }, None) => return Err(AdmitError::CoreModule),
                (Payload::Version { encoding: Encoding::Module, .. }, Some(_)) => {
                    stack.push(Inside::Module(Box::new(Module::new(found.modules))));
                    found.modules += 1;
                }
                (Payload::Version { encoding: Encoding::Component, .. }, _) => {
                    found.components += u32::from(depth > 0);
                    stack.push(Inside::Component);
                }
                (Payload::End(_), Some(_)) => {
                    if let Some(Inside::Module(module)) = stack.pop() {
                        found.take(*module, engines)?;
                    }
                }
                (_, Some(Inside::Module(module))) => module.read(&payload).map_err(invalid)?,
                (_, Some(Inside::Component)) if depth == 1 => found.read_outermost(&payload).map_err(invalid)?,
                _ => {}
            }
            // The check runs for every part, so a file of many tiny parts is refused early.
            found.check_parts(&Limits::SCRIPT)?;
        }
        let limits = Limits::of(found.class);
        found.check_parts(limits)?;
        if wasm.len() > limits.component_bytes_max {
            return Err(AdmitError::Component { bytes: wasm.len(), limit: limits.component_bytes_max });
        }
        Ok(found)
    }

    fn read_outermost(&mut self, payload: &Payload<'_>) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    self.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Instance {
                        self.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds a module. Its broken limits count unless its code is an allow-listed engine.
    fn take(&mut self, module: Module, engines: &[[u8; 32]]) -> Result<(), AdmitError> {
        self.functions = self.functions.saturating_add(module.functions());
        self.function_bytes = self.function_bytes.max(module.function_bytes);
        if engines.contains(&module.code_hash()) {
            self.class = Class::Script;
            return module.check_memory(&Limits::SCRIPT);
        }
        module.broken.map_or(Ok(()), Err)
    }

    fn check_parts(&self, limits: &Limits) -> Result<(), AdmitError> {
        for (parts, limit) in [(self.modules, limits.modules_max), (self.components, limits.components_max)] {
            if parts > limit {
                return Err(AdmitError::Parts { parts, limit });
            }
        }
        if self.functions > limits.functions_max {
            return Err(AdmitError::Functions { functions: self.functions, limit: limits.functions_max });
        }
        Ok(())
    }
}
