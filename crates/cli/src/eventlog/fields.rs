//! What a log format can refer to: the attributes of Python's `LogRecord`.

use super::{date::DateFormat, record::Record};
use std::sync::LazyLock;

/// An attribute of a log record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Name,
    LevelNumber,
    LevelName,
    PathName,
    FileName,
    Module,
    LineNumber,
    FunctionName,
    Created,
    AsciiTime,
    Milliseconds,
    RelativeCreated,
    Thread,
    ThreadName,
    Process,
    ProcessName,
    Message,
    /// Something that the one who logs may have added.
    Other(String),
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FieldValue {
    Text(String),
    Integer(i64),
    Real(f64),
}

impl Field {
    /// The attribute of this name; any name if `any` is set.
    pub(super) fn named(name: &str, any: bool) -> Option<Self> {
        Some(match name {
            "name" => Self::Name,
            "levelno" => Self::LevelNumber,
            "levelname" => Self::LevelName,
            "pathname" => Self::PathName,
            "filename" => Self::FileName,
            "module" => Self::Module,
            "lineno" => Self::LineNumber,
            "funcName" => Self::FunctionName,
            "created" => Self::Created,
            "asctime" => Self::AsciiTime,
            "msecs" => Self::Milliseconds,
            "relativeCreated" => Self::RelativeCreated,
            "thread" => Self::Thread,
            "threadName" => Self::ThreadName,
            "process" => Self::Process,
            "processName" => Self::ProcessName,
            "message" | "msg" => Self::Message,
            other if any => Self::Other(other.to_owned()),
            _ => return None,
        })
    }

    /// The value for a record, or `None` if nobody added such an attribute to it.
    pub(super) fn value(&self, record: &Record, date_format: &DateFormat) -> Option<FieldValue> {
        use FieldValue::{Integer, Real, Text};
        let text = |text: &str| Text(text.to_owned());
        Some(match self {
            Self::Name => text(record.name),
            Self::LevelNumber => Integer(record.level.into()),
            Self::LevelName => Text(record.level_name()),
            Self::PathName => text(record.path),
            Self::FileName => text(record.path.rsplit('/').next().unwrap_or(record.path)),
            Self::Module => text(record.module.rsplit("::").next().unwrap_or(record.module)),
            Self::LineNumber => Integer(record.line.into()),
            Self::FunctionName => text("(unknown function)"),
            Self::Created => Real(record.created.as_microsecond() as f64 / 1e6),
            Self::AsciiTime => Text(date_format.render(record.created)),
            Self::Milliseconds => Real(f64::from(record.created.subsec_millisecond())),
            Self::RelativeCreated => Real(record.created.duration_since(*START).as_secs_f64() * 1e3),
            Self::Thread => Integer(i64::try_from(record.thread).unwrap_or(i64::MAX)),
            Self::ThreadName => text(&record.thread_name),
            Self::Process => Integer(std::process::id().into()),
            Self::ProcessName => text("MainProcess"),
            Self::Message => Text(record.full_message()),
            Self::Other(name) => Text(record.extra.iter().find(|(extra, _)| extra == name)?.1.clone()),
        })
    }
}

static START: LazyLock<jiff::Timestamp> = LazyLock::new(jiff::Timestamp::now);
