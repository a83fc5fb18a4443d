//! The loads of one connection whose bytes are not in memory: several wait for the disk at a time, and together they
//! have memory for no more than a client may let wait.
//!
//! Nobody knows how large a record is before its header has been read. So each load is given little room first, and
//! one that needs more is put back and done again when there is that much.

use std::{collections::VecDeque, sync::Arc};
use tokio::task::{JoinError, JoinSet};
use zeolith_core::Caller;
use zeolith_storage::{Load, Patience, Storage, StorageError};
use zeolith_types::{Oid, Tid};

/// The loads of one connection that are under way, in no order.
pub(crate) struct SlowLoads {
    running: JoinSet<Finished>,
    /// Those that need room, in the order in which that turned out.
    parked: VecDeque<(Asked, u64)>,
    /// Bytes that the large ones among the running and the finished may have.
    room_given: u64,
    room_max: u64,
}

/// A load that has come to its end.
pub(crate) struct Loaded {
    pub(crate) asked: Asked,
    pub(crate) result: Result<Load, StorageError>,
}

/// What a thread of the pool brings back, for [`SlowLoads::settle`].
pub(crate) struct Finished {
    asked: Asked,
    room: u64,
    result: Result<Load, StorageError>,
}

/// What a client has asked for.
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    pub(crate) oid: Oid,
    pub(crate) before: Tid,
    /// How often it has been done again because its object was written meanwhile.
    pub(crate) repeats: u32,
}

impl SlowLoads {
    /// None yet. `room_max` is in bytes, for records that are not small; one record may have more, alone.
    pub(crate) fn new(room_max: usize) -> Self {
        Self { running: JoinSet::new(), parked: VecDeque::new(), room_given: 0, room_max: room_max as u64 }
    }

    /// Whether so many are under way that the next calls must wait.
    pub(crate) fn is_full(&self) -> bool {
        self.running.len() + self.parked.len() >= COUNT_MAX
    }

    /// Whether [`Self::next`] has something to wait for.
    pub(crate) fn is_any_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Begins one.
    pub(crate) fn begin(&mut self, asked: Asked, storage: &Arc<dyn Storage>) {
        self.run(asked, SMALL, storage);
    }

    fn run(&mut self, asked: Asked, room: u64, storage: &Arc<dyn Storage>) {
        let storage = Arc::clone(storage);
        self.running.spawn_blocking(move || {
            let result = storage.load_before(asked.oid, asked.before, Patience::WaitUpTo(room));
            Finished { asked, room, result }
        });
    }

    /// One that is there already.
    pub(crate) fn try_next(&mut self) -> Option<Result<Finished, JoinError>> {
        self.running.try_join_next()
    }

    /// Waits for one; `None` if none is running. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Option<Result<Finished, JoinError>> {
        self.running.join_next().await
    }

    /// The load, or nothing if it must be done again, with more room.
    pub(crate) fn settle(&mut self, finished: Finished) -> Option<Loaded> {
        let Finished { asked, room, result } = finished;
        if room > SMALL {
            self.room_given -= room;
        }
        if let Err(StorageError::NoRoom { room: needed }) = result {
            // It must grow, or this would not come to an end.
            self.parked.push_back((asked, needed.max(room + 1)));
            return None;
        }
        Some(Loaded { asked, result })
    }

    /// Goes on with those that need room, as far as there is any beside the bytes that wait for the client. One goes
    /// on in any case if no other has room and the client reads.
    pub(crate) fn go_on(&mut self, waiting: usize, storage: &Arc<dyn Storage>) {
        let waiting = waiting as u64;
        while let Some((_, room)) = self.parked.front() {
            let fits = waiting.saturating_add(self.room_given).saturating_add(*room) <= self.room_max;
            if !fits && (self.room_given > 0 || waiting > self.room_max) {
                return;
            }
            if let Some((asked, room)) = self.parked.pop_front() {
                self.room_given += room;
                self.run(asked, room, storage);
            }
        }
    }

    /// Whether some need room.
    pub(crate) fn are_any_parked(&self) -> bool {
        !self.parked.is_empty()
    }
}

/// Loads of one connection that may be under way at a time.
const COUNT_MAX: usize = 64;
/// A record of so many bytes is loaded without being asked for room: together they are as many as a client may let
/// wait by default.
const SMALL: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use zeolith_storage::memory::MemoryStorage;
    use zeolith_types::{MessageId, Value};

    fn asked(number: u64) -> Asked {
        let caller =
            Caller { id: MessageId::Value(Value::Int(number.into())), one_way: false, method: "loadBefore" };
        Asked { caller, oid: Oid::new(number), before: Tid::MAX, repeats: 0 }
    }

    fn needs(number: u64, given: u64, needed: u64) -> Finished {
        Finished { asked: asked(number), room: given, result: Err(StorageError::NoRoom { room: needed }) }
    }

    async fn next(loads: &mut SlowLoads) -> Option<Loaded> {
        let finished = loads.next().await.unwrap().unwrap();
        loads.settle(finished)
    }

    /// These loads need a megabyte each.
    fn with_large(room_max: usize, count: u64) -> (SlowLoads, Arc<dyn Storage>) {
        let mut loads = SlowLoads::new(room_max);
        for number in 0..count {
            assert!(loads.settle(needs(number, SMALL, 1 << 20)).is_none());
        }
        (loads, Arc::new(MemoryStorage::new("empty")))
    }

    #[tokio::test]
    async fn as_many_large_records_are_loaded_at_a_time_as_have_room_beside_what_waits() {
        let (mut loads, storage) = with_large(3 << 20, 9);
        loads.go_on(1 << 20, &storage);
        assert_eq!((loads.running.len(), loads.parked.len()), (2, 7));
        loads.go_on(0, &storage);
        assert_eq!((loads.running.len(), loads.parked.len()), (3, 6));
        assert!(next(&mut loads).await.is_some());
        loads.go_on(0, &storage);
        assert_eq!((loads.running.len(), loads.parked.len()), (3, 5));
    }

    #[tokio::test]
    async fn a_record_that_has_never_room_is_loaded_alone_by_a_client_that_reads() {
        let (mut loads, storage) = with_large(100, 3);
        loads.go_on(101, &storage);
        assert!(!loads.is_any_running(), "the client does not read");
        for number in 0..3 {
            loads.go_on(100, &storage);
            assert_eq!(loads.running.len(), 1);
            assert_eq!(next(&mut loads).await.map(|loaded| loaded.asked.oid), Some(Oid::new(number)));
        }
        assert_eq!((loads.room_given, loads.are_any_parked()), (0, false));
    }

    #[tokio::test]
    async fn a_record_that_has_become_larger_meanwhile_gets_more_room() {
        let (mut loads, storage) = with_large(3 << 20, 1);
        loads.go_on(0, &storage);
        let Finished { asked, room, .. } = loads.next().await.unwrap().unwrap();
        assert_eq!(room, 1 << 20);
        let result = Err(StorageError::NoRoom { room: 2 << 20 });
        assert!(loads.settle(Finished { asked, room, result }).is_none());
        assert_eq!((loads.room_given, loads.parked.front().unwrap().1), (0, 2 << 20));
    }

    #[tokio::test]
    async fn those_that_need_room_count_among_those_that_are_under_way() {
        let (mut loads, storage) = with_large(0, 60);
        for number in 60..64 {
            assert!(!loads.is_full());
            loads.begin(asked(number), &storage);
        }
        assert!(loads.is_full());
    }
}
