//! Components made from WebAssembly text, for cases that no compiler produces.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Wraps a core module in text form, which exports `evernear:policy/serve@1.0.0#serve`, into a component.
pub(crate) fn component(wat: &str) -> Vec<u8> {
    component_of_world(wat, "serve-only")
}

pub(crate) fn component_of_world(wat: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}"));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// Returns a core module whose `serve` runs `body` and then allows with the default record. `items` are imports and
/// functions.
///
/// The record lies at 0: outcome u8 @0, status u16 @2, reason u16 @4, client-ttl u32 @8, ..., header-sets u32 @24,
/// target u16 @28, rate-class u8 @30.
pub(crate) fn serve_wat(items: &str, body: &str) -> String {
    format!(
        r#"(module
            {items}
            (func (export "evernear:policy/serve@1.0.0#serve") (result i32) (local $i i32)
                {body}
                i32.const 0))"#
    )
}

pub(crate) const MEMORY: &str = r#"(memory (export "memory") 1)"#;
