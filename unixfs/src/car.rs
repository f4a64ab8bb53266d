//! CARv1: blocks of one DAG, one after another.
//!
//! ```text
//! header:   varint length, dag-cbor {"roots": [CID], "version": 1}
//! section:  varint length, CID, block          (again for each block)
//! ```
//!
//! Place in the flow: [`CarReader`] takes an upload as its bytes come in, [`header`] and [`section_head`] write what
//! goes around blocks. Source: <https://ipld.io/specs/transport/car/carv1/>.

mod fault;
mod reader;
mod writer;

pub use fault::CarError;
pub use reader::{CarBlock, CarEvent, CarReader, CarSummary};
pub use writer::{header, section_head};
