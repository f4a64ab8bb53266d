//! The promises of the format, tested from outside: golden vectors, losses, flipped bits, hostile bytes, a second
//! engine.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(unreachable_pub, dead_code, reason = "some files are shared with other crates")]

mod contents;
mod copies;
mod corpus;
mod engines;
mod flips;
mod golden;
mod hostile;
mod losses;
mod made;
mod rebuild;
mod streaming;
mod vectors;

/// What `testing` shares and `format` alone can compile. Not that crate: `client`, which is under it, takes `format`
/// with its default features, and these tests are also of the others.
#[path = "../../../testing/src/encoded.rs"]
mod encoded;
#[path = "../../../testing/src/equivocal.rs"]
mod equivocal;
#[path = "../../../testing/src/noise.rs"]
mod noise;
#[path = "../../../testing/src/replay.rs"]
mod replay;

use encoded::{Encoded, attributes};
