//! What an edge holds of objects: their records, their blocks and decoded directories, and how more of them is had from
//! origins. Nothing here asks a policy or knows a viewer: whoever uses it has done that.

pub(crate) mod body;
pub(crate) mod cache;
pub(crate) mod coded;
pub(crate) mod directories;
pub(crate) mod disk;
pub(crate) mod film;
mod forgotten;
mod frames;
pub(crate) mod hand;
mod index;
pub(crate) mod miss;
pub(crate) mod names;
pub(crate) mod objects;
mod presence;
pub(crate) mod records;
pub(crate) mod region;
pub(crate) mod register;
pub(crate) mod room;
mod strips;
pub(crate) mod watch;
