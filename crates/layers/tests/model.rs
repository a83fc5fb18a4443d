//! Changes over a base are one history: any mixture of commits answers like a plain map of it.
#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};
use zeolith_layers::{DemoStorage, ZlibStorage};
use zeolith_storage::{
    ConflictPolicy, Found, Patience, Storage, StorageError, TransactionId, Voted, Write, WriteSet,
    memory::MemoryStorage,
};
use zeolith_types::{Oid, Revision, Tid, Timestamp};

/// Stores of a transaction: the object, and whether the client knows its current revision.
type Commit = Vec<(u64, bool)>;

/// What has been committed.
#[derive(Default)]
struct Model {
    objects: BTreeMap<Oid, BTreeMap<Tid, Bytes>>,
    transactions: Vec<(Tid, Vec<Oid>)>,
    last: Tid,
}

impl Model {
    fn serial(&self, oid: Oid) -> Option<Tid> {
        Some(*self.objects.get(&oid)?.last_key_value()?.0)
    }

    /// Commits to the storage, and to the model if the storage says that it can be done.
    fn commit(&mut self, storage: &dyn Storage, commit: &Commit, number: u64) {
        let mut writes = Vec::new();
        for (oid, is_current) in commit {
            let oid = Oid::new(*oid);
            let known = self.serial(oid).unwrap_or_default();
            let serial = if *is_current { known } else { Tid::new(known.get().wrapping_sub(1)) };
            // Long enough to be worth compressing.
            let data = format!("{oid} in {number} {}", "x".repeat(40)).into();
            writes.push(Write::Store { oid, serial, data });
        }
        let stale: BTreeSet<Oid> = commit
            .iter()
            .filter(|(oid, is_current)| !is_current && self.serial(Oid::new(*oid)).is_some())
            .map(|(oid, _)| Oid::new(*oid))
            .collect();
        let set = WriteSet { writes: writes.clone(), ..WriteSet::default() };
        let voted = storage.vote(TransactionId(number), set, ConflictPolicy::Refuse, Patience::Wait);
        if !stale.is_empty() {
            let Err(StorageError::Conflict(conflict)) = voted else { panic!("no conflict: {voted:?}") };
            assert!(stale.contains(&conflict.oid));
            assert_eq!(Some(conflict.committed), self.serial(conflict.oid));
            return;
        }
        let Voted::Ready { changed, .. } = voted.unwrap() else { panic!("ready") };
        let now = Timestamp::from_epoch(Duration::from_secs(1_776_083_670 + number / 3));
        let tid = storage.finish(&[TransactionId(number)], now).pop().unwrap().unwrap();
        assert!(tid > self.last);
        storage.publish(tid);
        self.last = tid;
        self.transactions.push((tid, changed));
        for write in writes {
            if let Write::Store { oid, data, .. } = write {
                let data = data.bytes(Patience::Wait).unwrap();
                self.objects.entry(oid).or_default().insert(tid, data);
            }
        }
    }

    fn load(&self, oid: Oid, before: Tid) -> Found {
        let Some(revisions) = self.objects.get(&oid) else { return Found::NoObject };
        let Some((start, data)) = revisions.range(..before).next_back() else { return Found::NothingBefore };
        let end = revisions.range((Bound::Excluded(*start), Bound::Unbounded)).next().map(|(tid, _)| *tid);
        Found::Revision(Revision { data: data.clone(), start: *start, end })
    }

    fn agrees_with(&self, storage: &dyn Storage) {
        assert_eq!(storage.last_transaction(), self.last);
        let bounds: Vec<Tid> =
            self.transactions.iter().flat_map(|(tid, _)| [*tid, Tid::new(tid.get() + 1)]).collect();
        for oid in (0..OBJECTS + 1).map(Oid::new) {
            for before in bounds.iter().copied().chain([Tid::ZERO, Tid::MAX]) {
                let load = storage.load_before(oid, before, Patience::Wait).unwrap();
                assert_eq!(load.found, self.load(oid, before), "{oid} before {before}");
                assert_eq!(load.as_of, self.last);
                let exact = storage.load_serial(oid, before, Patience::Wait).ok();
                assert_eq!(exact.as_ref(), self.objects.get(&oid).and_then(|object| object.get(&before)));
            }
            assert_eq!(storage.current_tid(oid, Patience::Wait).ok(), self.serial(oid));
            let newest: Vec<Tid> =
                self.objects.get(&oid).into_iter().flat_map(|object| object.keys().rev()).copied().collect();
            for size in [1, 2, 99] {
                let history = storage.history(oid, size, Patience::Wait).unwrap_or_default();
                let tids: Vec<Tid> = history.iter().map(|entry| entry.tid).collect();
                assert_eq!(tids, newest[..newest.len().min(size)]);
            }
        }
        self.tells_the_same_changes(storage);
    }

    fn tells_the_same_changes(&self, storage: &dyn Storage) {
        for count in 0..self.transactions.len() + 2 {
            let last = &self.transactions[self.transactions.len().saturating_sub(count)..];
            let mut told = storage.last_changes(count).unwrap();
            // That nothing was forgotten before the first.
            told.retain(|(tid, _)| *tid > Tid::ZERO);
            assert_eq!(told, last);
        }
        for (after, _) in self.transactions.iter().chain([&(Tid::ZERO, vec![])]) {
            let later = self.transactions.iter().filter(|(tid, _)| tid > after);
            let changed: BTreeSet<Oid> = later.flat_map(|(_, oids)| oids).copied().collect();
            let changes = storage.changes_since(*after, changed.len()).unwrap().unwrap();
            assert_eq!((changes.through, changes.oids.into_iter().collect()), (self.last, changed.clone()));
            if !changed.is_empty() {
                assert_eq!(storage.changes_since(*after, changed.len() - 1).unwrap(), None);
            }
        }
        let mut transactions = storage.iterate(None, None).unwrap();
        for (tid, oids) in &self.transactions {
            assert_eq!(transactions.next_transaction().unwrap().unwrap().tid, *tid);
            let mut records = transactions.records().unwrap();
            for oid in oids {
                let record = records.next_record().unwrap().unwrap();
                assert_eq!((record.oid, record.data.as_ref()), (*oid, self.objects[oid].get(tid)));
            }
            assert!(records.next_record().unwrap().is_none());
        }
        assert!(transactions.next_transaction().unwrap().is_none());
    }
}

fn commits() -> impl Strategy<Value = Vec<Commit>> {
    let store = (0..OBJECTS, prop::bool::weighted(0.9));
    prop::collection::vec(prop::collection::vec(store, 0..4), 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn base_and_changes_are_one_history(layers in prop::collection::vec(commits(), 1..4), zlib: bool) {
        let mut model = Model::default();
        let mut storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new("base"));
        let mut number = 0;
        for (depth, commits) in layers.iter().enumerate() {
            if depth > 0 {
                let changes: Arc<dyn Storage> = Arc::new(MemoryStorage::new("changes"));
                storage = Arc::new(DemoStorage::new("demo", storage, changes, None, 7));
            }
            if zlib && depth % 2 == 0 {
                storage = Arc::new(ZlibStorage::new(storage, true));
            }
            for commit in commits {
                number += 1;
                model.commit(&*storage, commit, number);
            }
            model.agrees_with(&*storage);
        }
    }
}

const OBJECTS: u64 = 5;
