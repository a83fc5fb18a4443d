//! What `server_status` and `ruok` tell: the same entries, as a dict and as JSON.

use crate::{WireError, append_frame, writer::Writer};
use std::fmt::Write as _;
use zeolith_types::{ServerStatus, Value};

/// Writes the answer to `server_status`.
pub(crate) fn write_status<W: Writer>(writer: &mut W, status: &ServerStatus) {
    let entries = entries(status);
    writer.small_dict(entries.len(), |writer| {
        for (name, value) in &entries {
            writer.str(name);
            writer.value(value);
        }
    });
}

/// The status of all storages as the JSON object that monitors read: ASCII on one line.
#[must_use]
pub fn status_json<'a>(storages: impl IntoIterator<Item = (&'a str, &'a ServerStatus)>) -> String {
    let mut json = String::from("{");
    for (name, status) in storages {
        separate(&mut json);
        write_string(&mut json, name);
        json.push_str(": {");
        for (name, value) in entries(status) {
            separate(&mut json);
            write_string(&mut json, name);
            json.push_str(": ");
            write_value(&mut json, &value);
        }
        json.push('}');
    }
    json.push('}');
    json
}

/// Appends the answer to `ruok` as a frame.
///
/// # Errors
/// Nothing is appended, and the size told, if it does not fit into a frame.
pub fn append_status_frame<'a>(
    storages: impl IntoIterator<Item = (&'a str, &'a ServerStatus)>,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let json = status_json(storages);
    append_frame(out, |out| out.extend_from_slice(json.as_bytes()))
}

/// The entries in the reference's order.
fn entries(status: &ServerStatus) -> [(&'static str, Value); 13] {
    let count = |count: u64| Value::Int(count.into());
    [
        ("connections", count(status.connections)),
        ("loads", count(status.loads)),
        ("stores", count(status.stores)),
        ("commits", count(status.commits)),
        ("aborts", count(status.aborts)),
        ("active_txns", count(status.active_txns)),
        ("lock_time", status.lock_time.map_or(Value::None, Value::Float)),
        ("conflicts", count(status.conflicts)),
        ("conflicts_resolved", count(status.conflicts_resolved)),
        ("start", Value::Str(status.start.clone())),
        ("waiting", count(status.waiting)),
        (
            "timeout-thread-is-alive",
            if status.has_timeout { Value::Bool(true) } else { Value::Str("stub".to_owned()) },
        ),
        ("last-transaction", Value::Str(status.last_transaction.to_hex())),
    ]
}

fn separate(json: &mut String) {
    if !json.ends_with('{') {
        json.push_str(", ");
    }
}

/// Writes one of the kinds of values that a status has.
fn write_value(json: &mut String, value: &Value) {
    match value {
        Value::Bool(value) => json.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => write!(json, "{value}").expect("a string takes everything"),
        // With a point always, as Python writes a float.
        Value::Float(value) if value.is_finite() => {
            write!(json, "{value:?}").expect("a string takes everything");
        }
        Value::Str(text) => write_string(json, text),
        Value::None
        | Value::Float(_)
        | Value::Bytes(_)
        | Value::Tuple(_)
        | Value::List(_)
        | Value::Dict(_)
        | Value::Set(_)
        | Value::UndoPrefix(_) => json.push_str("null"),
    }
}

/// Writes a text in quotes with everything escaped that is not printable ASCII.
fn write_string(json: &mut String, text: &str) {
    json.push('"');
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ (b'"' | b'\\')) => json.extend(['\\', char::from(byte)]),
            Ok(byte @ b' '..=b'~') => json.push(char::from(byte)),
            _ => write!(json, "\\u{unit:04x}").expect("a string takes everything"),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolith_types::Tid;

    #[test]
    fn the_json_is_ascii_and_says_what_the_status_says() {
        let status = ServerStatus {
            connections: 2,
            lock_time: Some(1_776_083_670.0),
            start: "Mon Apr 13 12:34:30 2026".to_owned(),
            has_timeout: true,
            last_transaction: Tid::new(0x0123),
            ..ServerStatus::default()
        };
        let idle = ServerStatus::default();
        let json = status_json([("1", &status), ("käse \"€😀\"", &idle)]);
        assert!(json.is_ascii(), "{json}");
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["1"]["connections"], 2);
        assert_eq!(parsed["1"]["last-transaction"], "0000000000000123");
        assert_eq!(parsed["1"]["timeout-thread-is-alive"], true);
        assert_eq!(parsed["käse \"€😀\""]["timeout-thread-is-alive"], "stub");
        assert_eq!(parsed["käse \"€😀\""]["lock_time"], serde_json::Value::Null);
        assert!(json.contains("\"lock_time\": 1776083670.0"), "{json}");
    }

    #[test]
    fn no_storages_are_an_empty_object() {
        assert_eq!(status_json([]), "{}");
    }

    #[test]
    fn the_answer_to_ruok_is_one_frame() {
        let mut out = Vec::new();
        append_status_frame([], &mut out).unwrap();
        assert_eq!(out, b"\0\0\0\x02{}");
    }
}
