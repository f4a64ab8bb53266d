//! One core module during admission: its functions, memories, tables and the first limit that it breaks.
//!
//! A broken limit is kept until the module ends and not reported at once. The code hash may still show an allow-listed
//! engine, and the name section, which comes last, may name the function.

use wasmparser::{BinaryReaderError, FunctionBody, KnownCustom, Name, Operator, Payload, TypeRef};

use super::{AdmitError, FunctionPlace, WASM_PAGE_BYTES};
use crate::limits::Limits;

type Result<T> = std::result::Result<T, BinaryReaderError>;

/// What is known about a module so far.
#[derive(Debug)]
pub(super) struct Module {
    index: u32,
    /// The number of parameters of each type, because they count as locals.
    type_params: Vec<usize>,
    imported_functions: u32,
    /// The type of each function defined here.
    function_types: Vec<u32>,
    bodies: u32,
    pub(super) function_bytes: usize,
    memory_bytes: u64,
    table_elements: u64,
    code: blake3::Hasher,
    pub(super) broken: Option<AdmitError>,
}

impl Module {
    pub(super) fn new(index: u32) -> Self {
        Self {
            index,
            type_params: Vec::new(),
            imported_functions: 0,
            function_types: Vec::new(),
            bodies: 0,
            function_bytes: 0,
            memory_bytes: 0,
            table_elements: 0,
            code: blake3::Hasher::new(),
            broken: None,
        }
    }

    pub(super) fn functions(&self) -> u32 {
        self.bodies
    }

    pub(super) fn code_hash(&self) -> [u8; 32] {
        *self.code.finalize().as_bytes()
    }

    /// Reads one section.
    pub(super) fn read(&mut self, payload: &Payload<'_>) -> Result<()> {
        match payload {
            Payload::TypeSection(section) => {
                for ty in section.clone().into_iter_err_on_gc_types() {
                    let ty = ty?;
                    self.type_params.push(ty.params().len());
                    self.check_type(ty.params().len().max(ty.results().len()));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    match import?.ty {
                        TypeRef::Func(_) => self.imported_functions = self.imported_functions.saturating_add(1),
                        TypeRef::Memory(memory) => self.add_memory(memory.initial),
                        TypeRef::Table(table) => self.add_table(table.initial),
                        _ => {}
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section.clone() {
                    self.function_types.push(ty?);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    self.add_memory(memory?.initial);
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    self.add_table(table?.ty.initial);
                }
            }
            Payload::StartSection { .. } => self.keep(AdmitError::Start { module: self.index }),
            Payload::CodeSectionEntry(body) => self.read_body(body)?,
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    self.name_place(names);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks the limits that also apply to an allow-listed engine.
    pub(super) fn check_memory(&self, limits: &Limits) -> std::result::Result<(), AdmitError> {
        let (module, bytes, limit) = (self.index, self.memory_bytes, limits.memory_bytes_max);
        if usize::try_from(bytes).map_or(true, |bytes| bytes > limit) {
            return Err(AdmitError::Memory { module, bytes, limit });
        }
        let (elements, limit) = (self.table_elements, limits.table_elements_max);
        if elements > limit {
            return Err(AdmitError::Table { module, elements, limit });
        }
        Ok(())
    }

    fn read_body(&mut self, body: &FunctionBody<'_>) -> Result<()> {
        const LIMITS: Limits = Limits::SMALL;
        self.code.update(body.as_bytes());
        let place = FunctionPlace {
            module: self.index,
            function: self.imported_functions.saturating_add(self.bodies),
            name: None,
        };
        let own = usize::try_from(self.bodies).ok();
        self.bodies = self.bodies.saturating_add(1);
        let bytes = body.as_bytes().len();
        self.function_bytes = self.function_bytes.max(bytes);
        if self.broken.is_some() {
            return Ok(());
        }
        if bytes > LIMITS.function_bytes_max {
            self.keep(AdmitError::FunctionBytes { place, bytes, limit: LIMITS.function_bytes_max });
            return Ok(());
        }
        let ty = own.and_then(|own| self.function_types.get(own)).and_then(|ty| usize::try_from(*ty).ok());
        let params = ty.and_then(|ty| self.type_params.get(ty)).copied().unwrap_or(0);
        let mut locals = u32::try_from(params).unwrap_or(u32::MAX);
        for local in body.get_locals_reader()? {
            locals = locals.saturating_add(local?.0);
        }
        if locals > LIMITS.locals_max {
            self.keep(AdmitError::Locals { place, locals, limit: LIMITS.locals_max });
            return Ok(());
        }
        if let Some(broken) = check_operators(body, place, &LIMITS)? {
            self.keep(broken);
        }
        Ok(())
    }

    fn check_type(&mut self, values: usize) {
        let limit = Limits::SMALL.type_values_max;
        if values > limit {
            self.keep(AdmitError::TypeValues { module: self.index, values, limit });
        }
    }

    fn add_memory(&mut self, pages: u64) {
        self.memory_bytes = self.memory_bytes.saturating_add(pages.saturating_mul(WASM_PAGE_BYTES));
        self.keep_memory();
    }

    fn add_table(&mut self, elements: u64) {
        self.table_elements = self.table_elements.saturating_add(elements);
        self.keep_memory();
    }

    fn keep_memory(&mut self) {
        if let Err(broken) = self.check_memory(&Limits::SMALL) {
            self.keep(broken);
        }
    }

    fn keep(&mut self, broken: AdmitError) {
        self.broken.get_or_insert(broken);
    }

    /// Adds the function's name to the error. Names are optional: a broken name section changes nothing.
    fn name_place(&mut self, sections: wasmparser::NameSectionReader<'_>) {
        let Some(
            AdmitError::FunctionBytes { place, .. }
            | AdmitError::Locals { place, .. }
            | AdmitError::Nesting { place, .. }
            | AdmitError::BrTable { place, .. },
        ) = &mut self.broken
        else {
            return;
        };
        let names = sections.into_iter().flatten().filter_map(|section| match section {
            Name::Function(names) => Some(names),
            _ => None,
        });
        let mut namings = names.flatten().flatten();
        place.name = namings.find(|naming| naming.index == place.function).map(|naming| naming.name.to_owned());
    }
}

/// Checks for deep nesting and long jump tables.
fn check_operators(body: &FunctionBody<'_>, place: FunctionPlace, limits: &Limits) -> Result<Option<AdmitError>> {
    let mut depth = 0_u32;
    for operator in body.get_operators_reader()? {
        match operator? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End => depth = depth.saturating_sub(1),
            Operator::BrTable { targets } if targets.len() > limits.br_table_max => {
                return Ok(Some(AdmitError::BrTable { place, targets: targets.len(), limit: limits.br_table_max }));
            }
            _ => {}
        }
        if depth > limits.nesting_max {
            return Ok(Some(AdmitError::Nesting { place, limit: limits.nesting_max }));
        }
    }
    Ok(None)
}
