//! The event log: tracing events become lines as Python's logging writes them.
//!
//! A tracing target is the name of the logger. Whoever logs never waits for a file: records go into a
//! bounded queue that one thread empties. What does not fit is counted, and the count is logged.
//!
//! ```text
//! event -> [`layer`] record -> [`queue`] -> writer thread -> [`handler`] -> [`format`] -> [`destination`]
//! ```

mod braces;
mod date;
mod destination;
mod fields;
mod format;
mod handler;
mod layer;
mod number;
mod percent;
mod queue;
mod record;
mod template;
mod when;

pub(crate) use date::DateFormat;
pub(crate) use destination::{Destination, Rotation};
pub(crate) use format::{Format, Style};
pub(crate) use handler::HandlerSettings;
pub(crate) use when::When;

use handler::Handler;
use layer::RecordLayer;
use queue::Queue;
use std::{io, sync::Arc, thread, time::Duration};
use tracing_subscriber::{Registry, layer::SubscriberExt};

/// Which records are written, and where to.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Records below this level are not written at all.
    pub(crate) level: u8,
    /// Each writes every record of its own level.
    pub(crate) handlers: Vec<HandlerSettings>,
}

impl LogSettings {
    /// What is logged where nothing is configured: INFO to the standard error stream.
    pub(crate) fn default_stderr() -> Self {
        Self::stderr("------\n%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    }

    /// What is logged for somebody who looks at a terminal.
    pub(crate) fn terminal() -> Self {
        Self::stderr("%(asctime)s %(levelname)-8s %(message)s", "%H:%M:%S")
    }

    fn stderr(format: &str, date_format: &str) -> Self {
        let handler = HandlerSettings {
            level: 0,
            format: Format::compile(format, Style::Percent, false).expect("our own formats are good"),
            date_format: DateFormat::compile(date_format).expect("our own date formats are good"),
            destination: Destination::Stderr,
        };
        Self { level: INFO, handlers: vec![handler] }
    }
}

/// The running event log. What is in its queue is written when it is dropped.
pub(crate) struct EventLog {
    queue: Arc<Queue>,
}

impl EventLog {
    /// Opens the log files and starts the thread that writes them.
    pub(crate) fn start(settings: LogSettings) -> io::Result<(Self, RecordLayer)> {
        let level = settings.level;
        let handlers = settings.handlers.into_iter().map(Handler::open).collect::<io::Result<Vec<_>>>()?;
        let queue = Arc::new(Queue::default());
        let writer = Arc::clone(&queue);
        thread::Builder::new().name("event-log".to_owned()).spawn(move || writer.write_to(handlers))?;
        Ok((Self { queue: Arc::clone(&queue) }, RecordLayer::new(queue, level)))
    }

    /// Opens the log files and makes this the log of the whole process.
    pub(crate) fn install(settings: LogSettings) -> io::Result<Self> {
        let (log, layer) = Self::start(settings)?;
        tracing::subscriber::set_global_default(Registry::default().with(layer)).map_err(io::Error::other)?;
        Ok(log)
    }

    /// Waits until what was logged is written, if that can be done in short time.
    pub(crate) fn flush(&self) {
        self.queue.flush(FLUSH_TIMEOUT);
    }

    /// Opens the files again, after everything that was logged before is written.
    pub(crate) fn reopen(&self) {
        self.queue.reopen();
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.flush();
    }
}

const INFO: u8 = 20;
/// How long anybody waits for a log file that does not take its lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
