//! Which entries of the undo log a client asks for by the values that they must have.
//!
//! An entry is what the client sees: what the storage knows, overridden by the transaction's extension.

use bytes::Bytes;
use zeolith_pickle::decode_extension;
use zeolith_types::{UndoEntry, Value};

/// Whether an entry has all these values. A name that it lacks has the value `None`.
pub(crate) fn matches(entry: &UndoEntry, filter: &[(String, Value)]) -> bool {
    if filter.is_empty() {
        return true;
    }
    let extension = decode_extension(&entry.extension).unwrap_or_default();
    filter.iter().all(|(name, wanted)| {
        let extended = extension.iter().rev().find(|(key, _)| matches!(key, Value::Str(key) if key == name));
        match extended {
            Some((_, value)) => is(value, wanted),
            None => is(&known(entry, name), wanted),
        }
    })
}

/// What the storage knows of a transaction under this name.
fn known(entry: &UndoEntry, name: &str) -> Value {
    match name {
        "id" => Value::Bytes(zeolith_wire::transaction_name(entry.tid)),
        "time" => Value::Float(entry.time),
        "user_name" => Value::Bytes(entry.user.clone()),
        "description" => Value::Bytes(entry.description.clone()),
        "size" => Value::Int(entry.size.into()),
        _ => Value::None,
    }
}

/// Whether Python finds them equal: numbers by their value, a prefix with every path below it.
fn is(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Bytes(text), Value::UndoPrefix(path)) => is_below(&decoded(text), path),
        (Value::Str(text), Value::UndoPrefix(path)) => is_below(text, path),
        _ => match (number(value), number(wanted)) {
            (Some(value), Some(wanted)) => value == wanted,
            _ => value == wanted,
        },
    }
}

/// A float holds every number that a filter compares sensibly; sizes and times are far below 2 to the 53.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Int(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        _ => None,
    }
}

fn decoded(text: &Bytes) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text)
}

/// Whether the first parts of a path are these. The last part may have a user name after a blank, which
/// does not count: Zope writes `/folder/acl_users admin`.
fn is_below(text: &str, path: &[String]) -> bool {
    let (folder, last) = text.rsplit_once('/').map_or((None, text), |(folder, last)| (Some(folder), last));
    let last = last.rsplit_once(' ').map_or(last, |(last, _)| last);
    let parts = folder.into_iter().flat_map(|folder| folder.split('/')).chain([last]);
    parts.take(path.len()).eq(path.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolith_types::Tid;

    fn entry() -> UndoEntry {
        UndoEntry {
            tid: Tid::new(0x0123_4567_89ab_cdef),
            time: 1.5,
            user: Bytes::from_static(b"/site/acl_users admin"),
            description: Bytes::from_static(b"/site/page\nedited"),
            extension: zeolith_pickle::encode_extension(vec![
                (Value::Str("note".into()), Value::Int(1)),
                (Value::Str("size".into()), Value::Str("large".into())),
            ])
            .unwrap_or_default(),
            size: 200,
        }
    }

    fn matches_one(name: &str, value: Value) -> bool {
        matches(&entry(), &[(name.to_owned(), value)])
    }

    fn prefix(path: &str) -> Value {
        Value::UndoPrefix(path.split('/').map(str::to_owned).collect())
    }

    #[test]
    fn an_entry_must_have_every_value() {
        assert!(matches(&entry(), &[]));
        assert!(matches_one("id", Value::Bytes(Bytes::from_static(b"ASNFZ4mrze8="))));
        assert!(matches_one("user_name", Value::Bytes(Bytes::from_static(b"/site/acl_users admin"))));
        assert!(!matches_one("user_name", Value::Str("/site/acl_users admin".into())));
        assert!(matches_one("nothing", Value::None));
        let one_wrong = [("time".to_owned(), Value::Float(1.5)), ("nothing".to_owned(), Value::Int(0))];
        assert!(!matches(&entry(), &one_wrong));
    }

    #[test]
    fn the_extension_overrides_what_the_storage_knows() {
        assert!(matches_one("size", Value::Str("large".into())));
        assert!(!matches_one("size", Value::Int(200)));
        assert!(matches_one("note", Value::Float(1.0)));
        assert!(matches_one("note", Value::Bool(true)));
    }

    #[test]
    fn a_prefix_equals_what_is_below_it_without_the_user() {
        assert!(matches_one("user_name", prefix("/site")));
        assert!(matches_one("user_name", prefix("/site/acl_users")));
        assert!(!matches_one("user_name", prefix("/site/acl_users admin")));
        assert!(!matches_one("user_name", prefix("/sit")));
        assert!(!matches_one("user_name", prefix("/site/acl_users/more")));
        assert!(matches_one("description", prefix("/site")));
        assert!(!matches_one("nothing", prefix("/site")));
    }
}
