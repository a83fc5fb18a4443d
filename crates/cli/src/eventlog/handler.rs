//! Puts records into the form of one destination and writes them there.

use super::{
    date::DateFormat,
    destination::{Destination, Output},
    format::Format,
    record::Record,
};
use std::io;

/// What one handler section says.
#[derive(Clone, Debug)]
pub(crate) struct HandlerSettings {
    pub(crate) level: u8,
    pub(crate) format: Format,
    pub(crate) date_format: DateFormat,
    pub(crate) destination: Destination,
}

/// A handler at work.
pub(super) struct Handler {
    level: u8,
    format: Format,
    date_format: DateFormat,
    output: Output,
    failures: u64,
}

impl Handler {
    pub(super) fn open(settings: HandlerSettings) -> io::Result<Self> {
        let HandlerSettings { level, format, date_format, destination } = settings;
        let output = Output::open(destination)?;
        Ok(Self { level, format, date_format, output, failures: 0 })
    }

    /// Writes a record if it is of the handler's level. A line that can't be written is counted; the
    /// next one that can is followed by the count.
    pub(super) fn handle(&mut self, record: &Record) {
        if record.level < self.level {
            return;
        }
        if self.write(record).is_err() {
            self.failures += 1;
        } else if self.failures > 0 {
            let message =
                format!("{} log lines are missing before this one: writing them failed", self.failures);
            if self.write(&Record::new(30, "ZEO.log", message)).is_ok() {
                self.failures = 0;
            }
        }
    }

    /// Opens the file again, or rotates it if it is one that rotates.
    pub(super) fn reopen(&mut self) {
        if self.output.reopen().is_err() {
            self.failures += 1;
        }
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut line = self.format.render(record, &self.date_format);
        line.push('\n');
        self.output.write(line.as_bytes(), record.created)
    }
}
