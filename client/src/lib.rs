//! Communication with origins: gather, scatter and rebuild as state machines without IO or clock, and the transport
//! that drives them.
//!
//! [`Reader`] turns a capability into verified blocks. [`Uploader`] turns encoded stripes into durable shards. Both
//! work over any [`Transport`]: [`HttpTransport`] for the network; `testing` has nodes in memory and faults for tests.

pub mod tls;

mod again;
mod carrier;
mod causes;
mod clocks;
mod dial;
mod exposition;
mod gather;
mod http;
mod identity;
mod kept;
mod key_file;
mod known_nodes;
mod membership;
mod offload;
mod pace;
mod placement;
mod planted;
mod reach;
mod reader;
mod rebuild;
mod refused;
mod repair;
mod scatter;
mod shelf;
mod slice;
mod socket;
mod thread_number;
mod topology;
mod traces;
mod transport;
mod unwritable;
mod uploader;

pub use again::{AGAIN_FOR, again};
pub use carrier::{AnswerBody, CallBody, Carrier};
pub use causes::causes;
pub use exposition::{Exposition, LOG_LINES_LOST};
pub use gather::{Gather, Progress, Source};
pub use http::HttpTransport;
pub use identity::{IdentityError, IdentityFiles};
pub use kept::{folder_of, keep, make_folder, read_kept, sync_folder};
pub use key_file::{KEY_FILE_BYTES_MAX, KeyFileError, read_key_file};
pub use known_nodes::KnownNodes;
pub use membership::Membership;
pub use offload::offload;
pub use placement::{Placement, PlacementAsk, PlacementError, Weight, place, zone_columns_max};
pub use planted::{Bug, planted};
pub use reach::{is_port_taken, is_usable_folder};
pub use reader::{Bottleneck, Known, Near, RECORD_NODES_MAX, ReadError, Reader, ReaderOptions, Shown, StripeRead};
pub use rebuild::{RebuildSource, SourceChoice, TooFewSources};
pub use refused::{RefusedList, RefusedListError, Serial, refused_from_file};
pub use repair::{RepairError, RepairPlan, Repaired, repair};
pub use scatter::{Scatter, ScatterLost};
pub use shelf::Shelf;
pub use slice::verify_slice;
pub use socket::{PING_DEADLINE, Socket, shaken, socket};
pub use thread_number::thread_number;
pub use topology::Topology;
pub use traces::{SPANS_LOST, SPANS_SENT, Said, Scope, Span, Traces, TracesConfig, TracesError, noun};
pub use transport::{ShardAsk, Transport, TransportError};
pub use unwritable::Unwritable;
pub use uploader::{
    Earlier, INLINE_COPIES, Note, Receipt, Session, Told, UploadError, Uploader, file_record, inline_homes,
    record_holders, record_homes, tell_all,
};
