//! Takes events from tracing and puts them into the queue.

use super::{queue::Queue, record::Record};
use std::sync::Arc;
use tracing::{Event, Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::layer::{Context, Layer};

/// The end of tracing that this program has.
pub(crate) struct RecordLayer {
    queue: Arc<Queue>,
    level: u8,
    filter: LevelFilter,
}

impl RecordLayer {
    pub(super) fn new(queue: Arc<Queue>, level: u8) -> Self {
        Self { queue, level, filter: filter(level) }
    }
}

impl<S: Subscriber> Layer<S> for RecordLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() <= self.filter { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.filter
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let record = Record::of(event);
        if record.level >= self.level {
            self.queue.push(record);
        }
    }
}

/// The finest tracing level that can carry a record of this level: CRITICAL travels as an error,
/// BLATHER as a debug event.
fn filter(level: u8) -> LevelFilter {
    match level {
        31.. => LevelFilter::ERROR,
        21..=30 => LevelFilter::WARN,
        16..=20 => LevelFilter::INFO,
        6..=15 => LevelFilter::DEBUG,
        0..=5 => LevelFilter::TRACE,
    }
}
