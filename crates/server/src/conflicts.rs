//! Counts conflicts by class and by what became of them, and logs those that clients hear of.
//!
//! Class names come from records, so from clients: both their length and their number are bounded.

use crate::log;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use zeolith_storage::Voted;
use zeolith_types::{ConflictCount, Refusal, ServerStatus};

/// The conflicts of a storage since the server started. Whoever resolves them counts them here too.
#[derive(Debug, Default)]
pub struct ConflictCounts(Mutex<Table>);

/// What became of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Resolved in the server.
    Natively,
    /// Resolved in a resolver process.
    ByProcess,
    /// Given to the client, which resolves it or gives its transaction up.
    ByClient,
    /// It stands: the transaction is refused.
    NotAtAll,
}

#[derive(Debug, Default)]
struct Table {
    by_class: BTreeMap<String, ConflictCount>,
    lines: Lines,
}

impl ConflictCounts {
    /// A conflict of an object of this class, `module.Class`, has been settled.
    pub fn count(&self, class: Option<&str>, settled: Settled) {
        self.table().count(class.unwrap_or(UNKNOWN), settled);
    }

    /// What a vote has to say of conflicts; `label` names the client.
    pub(crate) fn note(&self, label: &str, outcome: &Result<Voted, Refusal>) {
        match outcome {
            Err(Refusal::Conflict { oid, class_name, committed, read }) => {
                let class = class_name.as_deref().unwrap_or(UNKNOWN);
                let mut table = self.table();
                table.count(class, Settled::NotAtAll);
                let Some(unlogged) = table.lines.next(Instant::now()) else { return };
                drop(table);
                // The name has come from a client.
                let class: String = class.chars().take(CLASS_LEN_MAX).collect();
                let others = match unlogged {
                    0 => String::new(),
                    count => format!(" ({count} conflicts before it are not logged)"),
                };
                tracing::info!(
                    target: log::STORAGE_SERVER,
                    "({label}) conflict on {class} {oid}: committed {committed}, read {read}{others}"
                );
            }
            Ok(Voted::Conflicts(conflicts)) => {
                for conflict in conflicts {
                    let class = zeolith_pickle::class_name(&conflict.data);
                    let class = class.map(|(module, name)| format!("{module}.{name}"));
                    self.count(class.as_deref(), Settled::ByClient);
                }
            }
            Ok(Voted::Ready { .. }) | Err(_) => {}
        }
    }

    /// Writes the counts into a status, the most frequent class first.
    pub(crate) fn fill(&self, status: &mut ServerStatus) {
        let mut counts: Vec<_> = self.table().by_class.values().cloned().collect();
        counts.sort_by_key(|count| std::cmp::Reverse(count.total()));
        status.conflicts_by_class = counts;
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn count(&mut self, class: &str, settled: Settled) {
        let is_new = !self.by_class.contains_key(class);
        let too_many = is_new && self.by_class.len() >= CLASSES_MAX;
        let class = if too_many || class.len() > CLASS_LEN_MAX { ConflictCount::OTHERS } else { class };
        let count = self.by_class.entry(class.to_owned()).or_insert_with(|| ConflictCount::new(class));
        *match settled {
            Settled::Natively => &mut count.native,
            Settled::ByProcess => &mut count.process,
            Settled::ByClient => &mut count.client,
            Settled::NotAtAll => &mut count.refused,
        } += 1;
    }
}

/// Bounds how many conflicts are logged: on a busy site they are nothing special.
#[derive(Debug)]
struct Lines {
    left: u64,
    since: Option<Instant>,
    unlogged: u64,
}

impl Default for Lines {
    fn default() -> Self {
        Self { left: LINES_AT_ONCE, since: None, unlogged: 0 }
    }
}

impl Lines {
    /// Whether there may be a line, and how many there were not before it.
    fn next(&mut self, now: Instant) -> Option<u64> {
        let seconds = now.saturating_duration_since(*self.since.get_or_insert(now)).as_secs();
        if seconds > 0 {
            self.left = self.left.saturating_add(seconds).min(LINES_AT_ONCE);
            self.since = Some(now);
        }
        if self.left == 0 {
            self.unlogged += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.unlogged))
    }
}

/// What stands for the class of a record that does not tell it.
const UNKNOWN: &str = "(unknown)";
/// Classes that are counted by name; those that come later are counted together.
const CLASSES_MAX: usize = 50;
/// Bytes of a name.
const CLASS_LEN_MAX: usize = 200;
/// Lines that may come at once; in the long run it is one a second.
const LINES_AT_ONCE: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn filled(counts: &ConflictCounts) -> Vec<ConflictCount> {
        let mut status = ServerStatus::default();
        counts.fill(&mut status);
        status.conflicts_by_class
    }

    #[test]
    fn conflicts_are_counted_by_class_and_by_what_became_of_them() {
        let counts = ConflictCounts::default();
        counts.count(Some("app.Rare"), Settled::ByProcess);
        for settled in [Settled::Natively, Settled::ByClient, Settled::NotAtAll, Settled::NotAtAll] {
            counts.count(Some("app.Often"), settled);
        }
        counts.count(None, Settled::NotAtAll);
        counts.count(None, Settled::NotAtAll);
        let often = ConflictCount { native: 1, client: 1, refused: 2, ..ConflictCount::new("app.Often") };
        let unknown = ConflictCount { refused: 2, ..ConflictCount::new("(unknown)") };
        let rare = ConflictCount { process: 1, ..ConflictCount::new("app.Rare") };
        assert_eq!(filled(&counts), [often, unknown, rare]);
    }

    #[test]
    fn made_up_classes_do_not_grow_the_table() {
        let counts = ConflictCounts::default();
        for number in 0..10_000 {
            counts.count(Some(&format!("made.Up{number}")), Settled::NotAtAll);
        }
        counts.count(Some(&"x".repeat(1 << 20)), Settled::NotAtAll);
        let filled = filled(&counts);
        assert_eq!(filled.len(), CLASSES_MAX + 1);
        let others = ConflictCount { refused: 10_001 - CLASSES_MAX as u64, ..ConflictCount::new("(others)") };
        assert_eq!(filled[0], others);
    }

    #[test]
    fn lines_that_are_left_out_are_counted() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        assert!((0..LINES_AT_ONCE).all(|_| lines.next(now) == Some(0)));
        assert!((0..7).all(|_| lines.next(now).is_none()));
        assert_eq!(lines.next(now + Duration::from_secs(1)), Some(7));
        assert_eq!(lines.next(now + Duration::from_secs(1)), None);
    }
}
