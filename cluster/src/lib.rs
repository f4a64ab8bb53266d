//! A whole small network in one process: six origins in six zones on four continents, three edges, DNS, a cluster
//! authority and an owner, made on the spot in a temporary folder. The demo shows it, the tests break it.
//!
//! Everything in it is real code over real sockets on loopback. Only distance is simulated, by a delay in front of
//! every call to a node ([`Links`]).

pub mod keeper;
pub mod processes;

mod demo;
mod judge;
mod links;
mod losses;
mod network;
mod owner;
mod signals;
mod sources;
mod torture;
mod world;

pub use demo::{DemoOptions, demo};
pub use judge::{Answer, curl, dig};
pub use links::{Distance, Links, Trouble};
pub use losses::{LossOptions, losses};
pub use network::{Network, NetworkOptions, OriginNode};
pub use owner::OwnerFolder;
pub use signals::{Interrupted, Signal, Signals};
pub use torture::{TortureOptions, torture};
pub use world::{EDGES, ORIGINS, Site, VIEWERS, Viewer};
