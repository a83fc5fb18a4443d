//! Records on their way to the thread that writes them.
//!
//! Bounded in bytes: whoever logs puts a record in or counts it as lost, and goes on at once.

use super::{handler::Handler, record::Record};
use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// The queue between those who log and the writer.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Command>,
    bytes: usize,
    lost: u64,
    is_writing: bool,
    /// The writer waits to be woken.
    is_asleep: bool,
}

enum Command {
    Write(Box<Record>),
    Reopen,
}

impl Queue {
    /// Puts a record in, or counts it as lost. Never waits for a file.
    pub(super) fn push(&self, record: Record) {
        let size = record.size();
        let mut state = self.state();
        if state.bytes + size > BYTES_MAX {
            state.lost += 1;
            return;
        }
        state.bytes += size;
        state.waiting.push_back(Command::Write(Box::new(record)));
        self.wake(state);
    }

    /// Has the files opened again after all that waits is written.
    pub(super) fn reopen(&self) {
        let mut state = self.state();
        state.waiting.push_back(Command::Reopen);
        self.wake(state);
    }

    /// Wakes the writer if it is asleep; otherwise it will look by itself, and nobody pays for a call of the kernel.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if std::mem::take(&mut state.is_asleep) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Waits until everything is written, but no longer than `timeout`.
    pub(super) fn flush(&self, timeout: Duration) {
        let end = Instant::now() + timeout;
        let mut state = self.state();
        while !state.waiting.is_empty() || state.is_writing {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.emptied.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes what comes, for as long as the process lives.
    pub(super) fn write_to(&self, mut handlers: Vec<Handler>) {
        loop {
            let (commands, lost) = self.next();
            for command in commands {
                match command {
                    Command::Write(record) => handlers.iter_mut().for_each(|handler| handler.handle(&record)),
                    Command::Reopen => handlers.iter_mut().for_each(Handler::reopen),
                }
            }
            if lost > 0 {
                let message =
                    format!("{lost} log lines are missing here: they came faster than they were written");
                let record = Record::new(30, "ZEO.log", message);
                handlers.iter_mut().for_each(|handler| handler.handle(&record));
            }
            handlers.iter_mut().for_each(Handler::flush);
            // Lines that come in a stream gather meanwhile, or each of them would wake this thread.
            thread::sleep(GATHERING);
        }
    }

    fn next(&self) -> (VecDeque<Command>, u64) {
        let mut state = self.state();
        state.is_writing = false;
        if state.waiting.is_empty() {
            self.emptied.notify_all();
        }
        while state.waiting.is_empty() {
            state.is_asleep = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (state.is_writing, state.is_asleep) = (true, false);
        state.bytes = 0;
        (std::mem::take(&mut state.waiting), std::mem::take(&mut state.lost))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock, and a log that has seen a panic is the one that matters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const BYTES_MAX: usize = 8 << 20;
/// After lines have been written, until it is looked for others.
const GATHERING: Duration = Duration::from_micros(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_whether_the_writer_sleeps_or_gathers() {
        let queue = std::sync::Arc::new(Queue::default());
        let writer = std::sync::Arc::clone(&queue);
        thread::spawn(move || writer.write_to(Vec::new()));
        for number in 0..50 {
            queue.push(Record::new(20, "x", number.to_string()));
            queue.flush(Duration::from_secs(60));
            let state = queue.state();
            assert!(state.waiting.is_empty() && !state.is_writing, "line {number}");
        }
    }

    #[test]
    fn what_nobody_writes_is_counted_and_nobody_waits() {
        let queue = Queue::default();
        for _ in 0..1000 {
            queue.push(Record::new(20, "x", "y".repeat(10_000)));
        }
        let (waiting, lost) = queue.next();
        assert!(lost > 0, "the bound was reached");
        assert_eq!(waiting.len() as u64 + lost, 1000);
    }
}
