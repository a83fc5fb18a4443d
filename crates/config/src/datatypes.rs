//! The data types of ZConfig: from a value's text to a value, or to the reason why not.

use crate::{
    address::{InetAddress, SocketAddress, port_number},
    python::{integer, quoted, real},
    surroundings::Surroundings,
};
use std::path::{Path, PathBuf};

/// What a key's value must look like.
#[derive(Clone, Copy, Debug)]
pub enum DataType {
    /// `yes`, `true`, `on` or `no`, `false`, `off`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// Any text.
    Text,
    /// Words with white space between them.
    Words,
    /// A whole number, perhaps with `KB`, `MB` or `GB` behind it.
    ByteSize,
    /// A whole number, perhaps with `s`, `m`, `h` or `d` behind it, in seconds.
    TimeInterval,
    /// A path whose directory exists.
    ExistingDirpath,
    /// A path of something that exists.
    ExistingPath,
    /// A directory that exists.
    ExistingDirectory,
    /// A port.
    PortNumber,
    /// Names of letters, digits and `_` with dots between them.
    DottedName,
    /// Where to listen; no host means every interface.
    SocketBindingAddress,
    /// Where to connect; no host means this machine.
    SocketConnectionAddress,
    /// A host and port; no host means every interface.
    InetAddress,
    /// What the program itself has an opinion on.
    Own(fn(&str) -> Result<Value, String>),
}

/// A value that its data type has accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a boolean.
    Boolean(bool),
    /// Of an integer, byte size, time interval or port.
    Integer(i64),
    /// Of a float.
    Float(f64),
    /// Of a text or name.
    Text(String),
    /// Of words.
    Words(Vec<String>),
    /// Of a path, with `~` replaced.
    Path(PathBuf),
    /// Of a socket address.
    Address(SocketAddress),
}

impl DataType {
    /// The value of a text.
    ///
    /// # Errors
    /// In the words of ZConfig, without the place.
    pub fn convert(self, text: &str, surroundings: &dyn Surroundings) -> Result<Value, String> {
        match self {
            Self::Boolean => boolean(text).map(Value::Boolean),
            Self::Integer => integer(text).map(Value::Integer),
            Self::Float => real(text).map(Value::Float),
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::Words => Ok(Value::Words(text.split_whitespace().map(str::to_owned).collect())),
            Self::ByteSize => multiplied(text, &[("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30)]),
            Self::TimeInterval => multiplied(text, &[("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]),
            Self::ExistingDirpath => existing_dirpath(text, surroundings),
            Self::ExistingPath => {
                let path = expand_user(text, surroundings);
                if !surroundings.exists(&path) {
                    return Err(format!("{text} is not an existing path"));
                }
                Ok(Value::Path(path))
            }
            Self::ExistingDirectory => {
                let path = expand_user(text, surroundings);
                if !surroundings.is_directory(&path) {
                    return Err(format!("{text} is not an existing directory"));
                }
                Ok(Value::Path(path))
            }
            Self::PortNumber => port_number(text).map(|port| Value::Integer(port.into())),
            Self::DottedName => dotted_name(text),
            Self::SocketBindingAddress => SocketAddress::parse(text, "").map(Value::Address),
            Self::SocketConnectionAddress => SocketAddress::parse(text, "127.0.0.1").map(Value::Address),
            Self::InetAddress => {
                InetAddress::parse(text, "").map(|address| Value::Address(SocketAddress::Inet(address)))
            }
            Self::Own(convert) => convert(text),
        }
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" => Ok(true),
        "no" | "false" | "off" => Ok(false),
        _ => Err(format!("not a valid boolean value: {}", quoted(text))),
    }
}

fn multiplied(text: &str, units: &[(&str, i64)]) -> Result<Value, String> {
    let lower = text.to_lowercase();
    let unit = units.iter().find_map(|(suffix, factor)| Some((lower.strip_suffix(suffix)?, *factor)));
    let (digits, factor) = unit.unwrap_or((&lower, 1));
    let product = integer(digits)?.checked_mul(factor);
    product.map(Value::Integer).ok_or_else(|| format!("the number {} is too large", quoted(text)))
}

fn existing_dirpath(text: &str, surroundings: &dyn Surroundings) -> Result<Value, String> {
    let path = expand_user(text, surroundings);
    let written = path.to_string_lossy();
    let directory = match written.rfind('/') {
        None => "",
        Some(slash) => match written[..slash].trim_end_matches('/') {
            "" => "/",
            directory => directory,
        },
    };
    if directory.is_empty() || surroundings.is_directory(Path::new(directory)) {
        return Ok(Value::Path(path));
    }
    Err(format!("The directory named as part of the path {text} does not exist."))
}

fn dotted_name(text: &str) -> Result<Value, String> {
    let name = |part: &str| !part.is_empty() && crate::substitute::name_len(part) == part.len();
    if text.split('.').all(name) {
        return Ok(Value::Text(text.to_owned()));
    }
    Err(format!("not a valid dotted name: {}", quoted(text)))
}

/// The path with a `~` or `~user` at its start replaced, if there is such a user.
fn expand_user(text: &str, surroundings: &dyn Surroundings) -> PathBuf {
    let Some(rest) = text.strip_prefix('~') else {
        return PathBuf::from(text);
    };
    let (user, tail) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match surroundings.home(Some(user).filter(|user| !user.is_empty())) {
        Some(home) => PathBuf::from(format!("{}{tail}", home.trim_end_matches('/'))),
        None => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::System;

    fn value(kind: DataType, text: &str) -> Result<Value, String> {
        kind.convert(text, &System)
    }

    #[test]
    fn booleans_are_words_and_never_digits() {
        assert_eq!(value(DataType::Boolean, "On"), Ok(Value::Boolean(true)));
        assert_eq!(value(DataType::Boolean, "no"), Ok(Value::Boolean(false)));
        assert_eq!(value(DataType::Boolean, "1"), Err("not a valid boolean value: '1'".into()));
        assert_eq!(value(DataType::Boolean, ""), Err("not a valid boolean value: ''".into()));
    }

    #[test]
    fn sizes_and_intervals_are_whole_numbers_with_a_unit() {
        assert_eq!(value(DataType::ByteSize, "128mB"), Ok(Value::Integer(128 << 20)));
        assert_eq!(value(DataType::ByteSize, "3"), Ok(Value::Integer(3)));
        assert_eq!(value(DataType::TimeInterval, "2d"), Ok(Value::Integer(172_800)));
        let message = "invalid literal for int() with base 10: '1.5'";
        assert_eq!(value(DataType::ByteSize, "1.5GB"), Err(message.into()));
        assert!(value(DataType::ByteSize, "9223372036854775807GB").is_err());
    }

    #[test]
    fn a_path_needs_its_directory_and_not_itself() {
        assert_eq!(value(DataType::ExistingDirpath, "Data.fs"), Ok(Value::Path("Data.fs".into())));
        assert_eq!(value(DataType::ExistingDirpath, "/Data.fs"), Ok(Value::Path("/Data.fs".into())));
        let message = "The directory named as part of the path /no/such/x does not exist.";
        assert_eq!(value(DataType::ExistingDirpath, "/no/such/x"), Err(message.into()));
        let message = "/no/such is not an existing directory";
        assert_eq!(value(DataType::ExistingDirectory, "/no/such"), Err(message.into()));
        assert_eq!(value(DataType::ExistingPath, "/no"), Err("/no is not an existing path".into()));
    }

    #[test]
    fn a_tilde_is_a_home() {
        let path = expand_user("~root/x", &System);
        assert!(path.is_absolute() && path.ends_with("x"), "{}", path.display());
        assert_eq!(expand_user("~no such user/x", &System), PathBuf::from("~no such user/x"));
        assert_eq!(expand_user("a~", &System), PathBuf::from("a~"));
    }

    #[test]
    fn dotted_names_are_names_with_dots() {
        assert!(value(DataType::DottedName, "logging.Formatter").is_ok());
        assert!(value(DataType::DottedName, "a..b").is_err());
        assert!(value(DataType::DottedName, "").is_err());
    }
}
