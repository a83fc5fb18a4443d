//! The ZConfig grammar and data types, with errors that quote file, line and key.
//!
//! A text becomes a [`Document`]: sections, keys and their places, with defines, includes and the
//! environment already put in. A [`SectionType`] describes what a program accepts; [`check`] holds the
//! document against it and gives typed values. What a key does is known to neither.
//!
//! Nothing a text can contain makes this crate panic, recurse or grow without bound: nesting, includes
//! and the size of everything that is read or substituted have limits, and passing one is an error.

mod address;
mod check;
mod datatypes;
mod document;
mod error;
mod line;
mod location;
mod overrides;
mod parser;
mod python;
mod schema;
mod substitute;
mod suggest;
mod surroundings;

pub use address::{InetAddress, SocketAddress};
pub use check::{Checked, check};
pub use datatypes::{DataType, Value};
pub use document::{Document, Import, Key, Position, Section};
pub use error::ConfigError;
pub use location::file_url;
pub use parser::{load, parse};
pub use python::{integer, quoted, real};
pub use schema::{KeyRule, Occurs, Presence, SectionRule, SectionType};
pub use surroundings::{Surroundings, System};
