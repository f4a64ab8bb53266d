//! The HTTP door: [`accept`] deals connections to [`workers`]. Common requests of HTTP/1.1 are read by [`h1`], a narrow
//! codec of our own, and all other forms of it by [`pingora`]; [`h2`] has the connections of HTTP/2; HTTP/3 comes in
//! beside them ([`h3`]).
//!
//! [`connection`] (caps, deadlines) -> request (framing checked, header bounded) -> [`respond`] -> [`send`] ->
//! [`session`].

mod accept;
mod capped;
mod connection;
mod counted;
mod frames;
mod gathered;
mod h1;
mod h2;
pub(crate) mod h3;
mod limits;
mod link;
#[cfg(test)]
mod narrow;
mod pingora;
mod proxy;
mod respond;
mod send;
mod session;
mod shared;
mod stream;
mod tickets;
mod tls;
mod turns;
mod wire;
mod worker;
mod workers;

pub(crate) use shared::HttpDoor;
pub use tls::Terminator;
pub(crate) use workers::Workers;
