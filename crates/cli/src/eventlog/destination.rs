//! Where log lines end up: a stream, a file, or a file that is replaced by a new one now and then.
//!
//! Rotation names the old files as Python's handlers do: `.1`, `.2` and so on by size, the time by time.

use super::when::When;
use jiff::{Timestamp, tz::TimeZone};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What a handler's keys say about the place of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    Stderr,
    File { path: PathBuf, delay: bool, rotation: Rotation },
}

/// When a file is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    Never,
    /// Before it would reach so many bytes.
    Size {
        bytes: u64,
        keep: usize,
    },
    /// After so many units of time.
    Timed {
        when: When,
        interval: u64,
        keep: usize,
    },
}

/// An open destination.
pub(super) enum Output {
    Stdout,
    Stderr,
    File(LogFile),
}

/// A log file; closed between a failure and the next line, and before the first line if so configured.
pub(super) struct LogFile {
    path: PathBuf,
    delay: bool,
    rotation: Rotation,
    file: Option<File>,
    size: u64,
    /// When a timed rotation is due.
    due: Option<Timestamp>,
}

impl Output {
    pub(super) fn open(destination: Destination) -> io::Result<Self> {
        match destination {
            Destination::Stdout => Ok(Self::Stdout),
            Destination::Stderr => Ok(Self::Stderr),
            Destination::File { path, delay, rotation } => {
                LogFile::open(&path, delay, rotation).map(Self::File)
            }
        }
    }

    /// Whether the file would be put aside between `before` and `more` bytes.
    pub(super) fn rotates_between(&self, before: usize, more: usize, now: Timestamp) -> bool {
        match self {
            Self::Stdout | Self::Stderr => false,
            Self::File(file) => file.rotates_between(before, more, now),
        }
    }

    /// Writes one line or several, which are not parted by a rotation.
    pub(super) fn write(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stream = io::stdout().lock();
                stream.write_all(line).and_then(|()| stream.flush())
            }
            Self::Stderr => io::stderr().lock().write_all(line),
            Self::File(file) => file.write(line, now),
        }
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout | Self::Stderr => Ok(()),
            Self::File(file) => file.reopen(Timestamp::now()),
        }
    }
}

impl LogFile {
    fn open(path: &Path, delay: bool, rotation: Rotation) -> io::Result<Self> {
        // The working directory of the process never changes, but a log file must not depend on it.
        let path = std::path::absolute(path)?;
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        let since = modified.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_else(Timestamp::now);
        let due = match rotation {
            Rotation::Timed { when, interval, .. } => Some(when.next(since, interval, &TimeZone::system())),
            Rotation::Never | Rotation::Size { .. } => None,
        };
        let mut log = Self { path, delay, rotation, file: None, size: 0, due };
        if !delay {
            log.file()?;
        }
        Ok(log)
    }

    fn write(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        self.file()?;
        if self.rotates_between(0, line.len(), now) {
            self.rotate(now)?;
        }
        let result = self.file()?.write_all(line);
        match result {
            Ok(()) => self.size += line.len() as u64,
            // It may have been removed, or its disk may be gone: the next line tries afresh.
            Err(_) => self.file = None,
        }
        result
    }

    fn rotates_between(&self, before: usize, more: usize, now: Timestamp) -> bool {
        let (before, more) = (self.size + before as u64, more as u64);
        let is_full = match self.rotation {
            Rotation::Size { bytes, .. } => before > 0 && before + more >= bytes,
            Rotation::Never | Rotation::Timed { .. } => false,
        };
        is_full || self.due.is_some_and(|due| due <= now)
    }

    fn reopen(&mut self, now: Timestamp) -> io::Result<()> {
        match self.rotation {
            Rotation::Never => {
                self.file = None;
                if self.delay { Ok(()) } else { self.file().map(drop) }
            }
            // As the reference does: whoever asks for a new file gets one.
            Rotation::Size { .. } | Rotation::Timed { .. } => self.rotate(now),
        }
    }

    /// Puts the file aside and starts a new one.
    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        self.file = None;
        match self.rotation {
            Rotation::Never => {}
            Rotation::Size { keep, .. } => {
                for number in (1..keep).rev() {
                    rename_if_there(&self.numbered(number), &self.numbered(number + 1))?;
                }
                rename_if_there(&self.path, &self.numbered(1))?;
            }
            Rotation::Timed { when, interval, keep } => {
                let zone = TimeZone::system();
                let due = self.due.unwrap_or(now);
                let name = when.name(due, interval, &zone);
                // The next time first, so that a directory that can't be written is not asked for every line.
                self.due = Some(when.next_after(due, now, interval, &zone));
                rename_if_there(&self.path, &self.with_suffix(&name))?;
                self.remove_old(when, keep);
            }
        }
        if self.delay { Ok(()) } else { self.file().map(drop) }
    }

    /// Removes all but the newest of the files put aside; one that can't be removed stays.
    fn remove_old(&self, when: When, keep: usize) {
        let (Some(directory), Some(base)) = (self.path.parent(), self.path.file_name()) else {
            return;
        };
        let prefix = format!("{}.", base.to_string_lossy());
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut old: Vec<String> = names
            .filter(|name| name.strip_prefix(&prefix).is_some_and(|suffix| when.is_name(suffix)))
            .collect();
        old.sort_unstable();
        for name in old.iter().take(old.len().saturating_sub(keep)) {
            let _ = fs::remove_file(directory.join(name));
        }
    }

    fn numbered(&self, number: usize) -> PathBuf {
        self.with_suffix(&number.to_string())
    }

    fn with_suffix(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(".");
        name.push(suffix);
        PathBuf::from(name)
    }

    fn file(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
                self.size = file.metadata()?.len();
                file
            }
        };
        Ok(self.file.insert(file))
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "destination_tests.rs"]
mod tests;
