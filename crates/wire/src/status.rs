//! What `server_status` and `ruok` tell: the same entries, as a dict and as JSON.

use crate::{WireError, append_frame, writer::Writer};
use std::fmt::Write as _;
use zeolith_types::{ConflictCount, PackStatus, ServerStatus, Value};

/// Writes the answer to `server_status`.
pub(crate) fn write_status<W: Writer>(writer: &mut W, status: &ServerStatus) {
    let entries = entries(status, usize::MAX);
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
        for (name, value) in entries(status, CLASSES_IN_JSON_MAX) {
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

/// The entries in the reference's order, and ours after them.
fn entries(status: &ServerStatus, classes_max: usize) -> Vec<(&'static str, Value)> {
    let count = |count: u64| Value::Int(count.into());
    let mut entries = vec![
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
    ];
    // Monitors compare what they get with what they know, so this is there only if there is something to tell.
    if !status.conflicts_by_class.is_empty() {
        entries.push(("conflicts_by_class", by_class(&status.conflicts_by_class, classes_max)));
    }
    if !status.limits.is_empty() {
        let limits = status.limits.iter().map(|(key, hits)| (Value::Str((*key).to_owned()), count(*hits)));
        entries.push(("limits", Value::Dict(limits.collect())));
    }
    entries.extend(status.pack.as_ref().map(|pack| ("pack", progress(pack))));
    entries
}

/// How far a pack is.
fn progress(pack: &PackStatus) -> Value {
    let PackStatus { phase, done, total, unit, percent, since, seconds_left } = pack;
    let count = |count: u64| Value::Int(count.into());
    let entries = [
        ("phase", Value::Str(phase.clone())),
        ("done", count(*done)),
        ("total", count(*total)),
        ("unit", Value::Str(unit.clone())),
        ("percent", count(*percent)),
        ("since", Value::Float(*since)),
        ("seconds-left", seconds_left.map_or(Value::None, count)),
    ];
    Value::Dict(entries.into_iter().map(|(name, value)| (Value::Str(name.to_owned()), value)).collect())
}

/// The first classes with their counts that are not 0, the others together.
fn by_class(counts: &[ConflictCount], classes_max: usize) -> Value {
    let (named, rest) = counts.split_at(counts.len().min(classes_max));
    let mut named = named.to_vec();
    for count in rest {
        let at = named.iter().position(|count| count.class == ConflictCount::OTHERS);
        let at = at.unwrap_or_else(|| {
            named.push(ConflictCount::new(ConflictCount::OTHERS));
            named.len() - 1
        });
        named[at].add(count);
    }
    Value::Dict(named.iter().map(|count| (Value::Str(count.class.clone()), by_end(count))).collect())
}

fn by_end(count: &ConflictCount) -> Value {
    let ConflictCount { class: _, native, process, client, refused } = *count;
    let ends = [("native", native), ("process", process), ("client", client), ("refused", refused)];
    let entry = |(name, count): (&str, u64)| (Value::Str(name.to_owned()), Value::Int(count.into()));
    Value::Dict(ends.into_iter().filter(|(_, count)| *count > 0).map(entry).collect())
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
        Value::Dict(entries) => {
            json.push('{');
            for (name, value) in entries {
                if let Value::Str(name) = name {
                    separate(json);
                    write_string(json, name);
                    json.push_str(": ");
                    write_value(json, value);
                }
            }
            json.push('}');
        }
        Value::None
        | Value::Float(_)
        | Value::Bytes(_)
        | Value::Tuple(_)
        | Value::List(_)
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

/// Monitors read the JSON with one call, which may bring no more than a packet.
const CLASSES_IN_JSON_MAX: usize = 5;

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
    fn a_pack_stands_in_the_status_as_long_as_it_is_under_way() {
        let pack = PackStatus {
            phase: "copying".to_owned(),
            done: 1,
            total: 3,
            unit: "bytes".to_owned(),
            percent: 70,
            since: 5.5,
            seconds_left: Some(12),
        };
        let packing = ServerStatus { pack: Some(pack), ..ServerStatus::default() };
        let json = status_json([("1", &packing), ("2", &ServerStatus::default())]);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["1"]["pack"]["phase"], "copying");
        assert_eq!(parsed["1"]["pack"]["seconds-left"], 12);
        assert_eq!(parsed["2"].as_object().unwrap().len(), 13);
        let unknown = PackStatus { seconds_left: None, ..packing.pack.unwrap() };
        let guessing = ServerStatus { pack: Some(unknown), ..ServerStatus::default() };
        let parsed: serde_json::Value = serde_json::from_str(&status_json([("1", &guessing)])).unwrap();
        assert!(parsed["1"]["pack"]["seconds-left"].is_null());
    }

    #[test]
    fn conflicts_are_told_by_class_and_in_json_only_of_the_most_frequent_classes() {
        let count = |number: u64| ConflictCount {
            refused: 9 - number,
            ..ConflictCount::new(&format!("app.C{number}"))
        };
        let counts: Vec<_> = (0..8).map(count).collect();
        let status = ServerStatus { conflicts_by_class: counts, ..ServerStatus::default() };
        let parsed: serde_json::Value = serde_json::from_str(&status_json([("1", &status)])).unwrap();
        let classes = &parsed["1"]["conflicts_by_class"];
        assert_eq!(classes.as_object().unwrap().len(), CLASSES_IN_JSON_MAX + 1);
        assert_eq!(classes["app.C0"], serde_json::json!({"refused": 9}));
        assert_eq!(classes["(others)"], serde_json::json!({"refused": 4 + 3 + 2}));
        let entries = entries(&status, usize::MAX);
        assert!(matches!(&entries.last().unwrap().1, Value::Dict(classes) if classes.len() == 8));
    }

    #[test]
    fn limits_that_took_effect_are_told_and_others_are_not_mentioned() {
        let mut status = ServerStatus::default();
        assert!(!status_json([("1", &status)]).contains("limits"));
        status.limits = vec![("connections-max", 3), ("iterators-max", 1)];
        let parsed: serde_json::Value = serde_json::from_str(&status_json([("1", &status)])).unwrap();
        assert_eq!(parsed["1"]["limits"], serde_json::json!({"connections-max": 3, "iterators-max": 1}));
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
