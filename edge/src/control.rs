//! What an edge does beside answering viewers: it follows the change feed, announces itself, keeps its certificate,
//! purges, and tells its operator how it is.

pub(crate) mod acme;
pub(crate) mod admin;
pub(crate) mod follow;
pub(crate) mod purge;
