//! Who may have what: owners' policies and what they may ask, signed links, where viewers are, and what the operator
//! does not serve. Nothing here holds an object's bytes.

pub(crate) mod ask;
pub(crate) mod decision;
pub(crate) mod denylist;
pub(crate) mod epochs;
mod gazetteer;
pub(crate) mod library;
pub mod places;
pub(crate) mod policies;
pub(crate) mod program;
pub(crate) mod said;
pub(crate) mod token;
pub(crate) mod versions;
