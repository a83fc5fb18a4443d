//! Puts records into the form of one destination and writes them there.

use super::{
    date::DateFormat,
    destination::{Destination, Output},
    format::Format,
    record::Record,
};
use jiff::Timestamp;
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
    /// Lines that are written together, how many they are, and when the last of them was made.
    gathered: (String, u64, Timestamp),
    failures: u64,
}

impl Handler {
    pub(super) fn open(settings: HandlerSettings) -> io::Result<Self> {
        let HandlerSettings { level, format, date_format, destination } = settings;
        let output = Output::open(destination)?;
        let gathered = (String::new(), 0, Timestamp::UNIX_EPOCH);
        Ok(Self { level, format, date_format, output, gathered, failures: 0 })
    }

    /// Takes a record if it is of the handler's level; it is written with the next [`Self::flush`] at the latest.
    pub(super) fn handle(&mut self, record: &Record) {
        if record.level < self.level {
            return;
        }
        let mut line = self.format.render(record, &self.date_format);
        line.push('\n');
        let gathered = self.gathered.0.len();
        // The line at which a file is put aside begins the new one.
        if gathered + line.len() > GATHERED_MAX
            || self.output.rotates_between(gathered, line.len(), record.created)
        {
            self.flush();
        }
        let (lines, count, created) = &mut self.gathered;
        lines.push_str(&line);
        *count += 1;
        *created = record.created;
    }

    /// Writes what was taken. Lines that can't be written are counted; the next ones that can are followed by the
    /// count.
    pub(super) fn flush(&mut self) {
        let (lines, count, created) = &mut self.gathered;
        if lines.is_empty() {
            return;
        }
        let written = self.output.write(lines.as_bytes(), *created);
        lines.clear();
        let count = std::mem::take(count);
        if written.is_err() {
            self.failures += count;
        } else if self.failures > 0 {
            let message =
                format!("{} log lines are missing before this one: writing them failed", self.failures);
            if self.write(&Record::new(30, "ZEO.log", message)).is_ok() {
                self.failures = 0;
            }
        }
    }

    /// Opens the file again, or rotates it if it is one that rotates. What was taken before goes into the old one.
    pub(super) fn reopen(&mut self) {
        self.flush();
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

/// Bytes of lines that are written together.
const GATHERED_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::{
        super::{destination::Rotation, format::Style},
        *,
    };
    use std::{fs, path::Path};

    /// A handler that writes nothing but messages.
    fn handler(path: &Path, rotation: Rotation) -> Handler {
        let settings = HandlerSettings {
            level: 20,
            format: Format::compile("%(message)s", Style::Percent, false).unwrap(),
            date_format: DateFormat::compile("%S").unwrap(),
            destination: Destination::File { path: path.to_owned(), delay: true, rotation },
        };
        Handler::open(settings).unwrap()
    }

    fn handle(handler: &mut Handler, lines: &[&str]) {
        for line in lines {
            handler.handle(&Record::new(20, "x", (*line).to_owned()));
        }
    }

    #[test]
    fn lines_that_are_written_together_fill_files_as_single_ones_do() {
        let folder = tempfile::tempdir().unwrap();
        let lines = ["one", "two", "three", "four", "fiveandmore", "six"];
        let rotation = Rotation::Size { bytes: 10, keep: 9 };
        let (together, single) = (folder.path().join("together"), folder.path().join("single"));
        let mut handlers = [handler(&together, rotation), handler(&single, rotation)];
        handle(&mut handlers[0], &lines);
        handlers[0].flush();
        for line in lines {
            handle(&mut handlers[1], &[line]);
            handlers[1].flush();
        }
        for suffix in ["", ".1", ".2", ".3", ".4"] {
            let read =
                |name: &str| fs::read_to_string(folder.path().join(format!("{name}{suffix}"))).unwrap();
            assert_eq!(read("together"), read("single"), "{suffix}");
        }
        assert!(!folder.path().join("together.5").exists());
    }

    #[test]
    fn all_lines_of_a_write_that_failed_are_counted_and_told_of_with_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("logs");
        let path = directory.join("log");
        let mut handler = handler(&path, Rotation::Never);
        handle(&mut handler, &["one", "two"]);
        handler.flush();
        handle(&mut handler, &["three"]);
        handler.flush();
        fs::create_dir(&directory).unwrap();
        handle(&mut handler, &["four"]);
        assert!(!path.exists());
        handler.flush();
        let expected = "four\n3 log lines are missing before this one: writing them failed\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn a_file_that_is_opened_again_has_what_was_logged_before() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("moved"));
        let mut handler = handler(&path, Rotation::Never);
        handle(&mut handler, &["before"]);
        handler.flush();
        fs::rename(&path, &moved).unwrap();
        handle(&mut handler, &["still"]);
        handler.reopen();
        handle(&mut handler, &["after"]);
        handler.flush();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("before\nstill\n", "after\n"));
    }
}
