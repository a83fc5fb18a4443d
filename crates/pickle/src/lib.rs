//! The only crate that knows pickle opcodes: the closed grammar of requests, replies, and what records
//! tell about themselves.
//!
//! Nothing here can call anything. [`decode`] builds plain [`zeolith_types::Value`]s and refuses every
//! global but a short list of harmless constructors; [`Writer`] writes what Python's fast pickler
//! writes; [`class_name`] and [`references`] look at records of any class without loading one; [`state`] reads
//! records whole and writes them again, for conflict resolution. No
//! function recurses on its input, and none allocates by a length that the input merely claims.

mod decode;
mod encode;
mod error;
mod extension;
mod global;
mod graph;
mod input;
mod opcode;
mod operands;
mod record;
mod scan;
pub mod state;
mod text;

pub use decode::{Limits, decode};
pub use encode::{Writer, encode};
pub use error::PickleError;
pub use extension::{decode_extension, encode_extension, transaction_token};
pub use record::{class_name, references};
