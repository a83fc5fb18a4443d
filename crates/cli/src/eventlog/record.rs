//! One thing that was logged, with everything that a format may want to know of it.

use jiff::Timestamp;
use std::{
    fmt::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// A log record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(super) level: u8,
    pub(super) name: &'static str,
    pub(super) message: String,
    pub(super) extra: Vec<(&'static str, String)>,
    pub(super) path: &'static str,
    pub(super) module: &'static str,
    pub(super) line: u32,
    pub(super) created: Timestamp,
    pub(super) thread: u64,
    pub(super) thread_name: String,
}

impl Record {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut collected = Collected::default();
        event.record(&mut collected);
        Self {
            level: collected.level.unwrap_or_else(|| number(*metadata.level())),
            extra: collected.extra,
            path: metadata.file().unwrap_or("(unknown file)"),
            module: metadata.module_path().unwrap_or("(unknown module)"),
            line: metadata.line().unwrap_or_default(),
            ..Self::new(0, metadata.target(), collected.message)
        }
    }

    /// A record that does not come from an event.
    pub(super) fn new(level: u8, name: &'static str, message: String) -> Self {
        let thread_name = match thread::current().name() {
            None => "(unnamed)".to_owned(),
            Some("main") => "MainThread".to_owned(),
            Some(name) => name.to_owned(),
        };
        let (path, module, line) = ("(unknown file)", "(unknown module)", 0);
        let created = Timestamp::now();
        let thread = THREAD.with(|number| *number);
        Self { level, name, message, extra: Vec::new(), path, module, line, created, thread, thread_name }
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        let extra: usize = self.extra.iter().map(|(_, value)| value.len()).sum();
        size_of::<Self>() + self.message.len() + self.thread_name.len() + extra
    }

    /// The name of the level, as the reference has them.
    pub(super) fn level_name(&self) -> String {
        let name = match self.level {
            50 => "CRITICAL",
            40 => "ERROR",
            30 => "WARNING",
            20 => "INFO",
            15 => "BLATHER",
            10 => "DEBUG",
            5 => "TRACE",
            0 => "NOTSET",
            other => return format!("Level {other}"),
        };
        name.to_owned()
    }

    /// The message, and what was logged with it.
    pub(super) fn full_message(&self) -> String {
        let mut message = self.message.clone();
        for (name, value) in &self.extra {
            message.push_str(&format!(" {name}={value}"));
        }
        message
    }
}

/// What an event carries.
#[derive(Default)]
struct Collected {
    message: String,
    extra: Vec<(&'static str, String)>,
    level: Option<u8>,
}

impl Visit for Collected {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Line(String::new());
        // Only a value's own `Debug` can fail here, and then what it wrote so far is logged.
        let _ = write!(text, "{value:?}");
        match field.name() {
            "message" => self.message = text.0,
            name => self.extra.push((name, text.0)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match (field.name(), u8::try_from(value)) {
            ("level_number", Ok(level)) => self.level = Some(level),
            _ => self.record_debug(field, &value),
        }
    }
}

/// Text without control characters, so that nothing a peer sends can look like a line of its own, and
/// without more of it than anybody reads.
struct Line(String);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.len() >= TEXT_SIZE_MAX {
                return Err(fmt::Error);
            }
            if c.is_control() && c != '\t' {
                self.0.extend(c.escape_default());
            } else {
                self.0.push(c);
            }
        }
        Ok(())
    }
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

thread_local! {
    /// Counts the threads that log, in the order of their first line.
    static THREAD: u64 = THREADS.fetch_add(1, Ordering::Relaxed);
}

static THREADS: AtomicU64 = AtomicU64::new(1);
const TEXT_SIZE_MAX: usize = 16 << 10;
