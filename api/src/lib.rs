//! The twin as a service: storing, listing, renewing and erasing over HTTP, with tokens.
//!
//! | noun | what it does |
//! |---|---|
//! | [`Api`] | starts it for a [`twin::Twin`]; `evernear twin run` is that and nothing more |
//! | [`Token`], [`Grant`], [`Scope`] | who may do what |
//! | [`Store`] | what is remembered of tokens and uploads, and the audit log |
//! | [`Link`] | signs a browser into the console, once; [`console_link`] makes one beside a twin that runs |
//! | [`check_policy`] | whether edges would take a policy |
//! | [`wishes`](wishes()) | what the sender of an upload wishes for it, from fields of the request |
//!
//! Keeps true: nothing is acknowledged that is not durable at nodes and written down here; what breaks off leaves
//! nothing; memory does not grow with what is uploaded; a token's secret is kept nowhere.

mod audit;
mod caller;
mod callers;
mod car;
mod cids;
mod console;
mod cors;
mod door;
mod files;
mod form;
mod health;
mod intake;
mod lineage;
mod link;
mod lived;
mod names;
mod network;
mod nft;
mod openapi;
mod pace;
mod paced;
mod pins;
mod places;
mod placing;
mod policies;
mod policy_check;
mod purge;
mod quota;
mod rate;
mod refusal;
mod removals;
mod routes;
mod run;
mod service;
mod session;
mod sign_in;
mod spool;
mod store;
mod token;
mod tokens;
mod turns;
mod tus;
mod upload;
mod wishes;

pub use link::{Link, LinkError, console_link};
pub use placing::{About, Placer, Placing, PlacingError, PlanFault};
pub use policy_check::{CheckedLink, PolicyCheckError, check_policy};
pub use rate::Rates;
pub use run::{Api, Running, StartError};
pub use store::{Line, STORE_FILE, Source, Store, StoreError, Upload};
pub use token::{
    Grant, Maker, RATE_DEFAULT, Scope, ScopeError, TOKEN_NAME_BYTES_MAX, Token, TokenError, TokenFault, TokenHash,
    TokenId, TokenNameError, check_token_name,
};
pub use wishes::{Defaults, WishError, wishes};
