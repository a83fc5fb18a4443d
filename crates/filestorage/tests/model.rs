//! Random transactions and openings, against a map of revisions.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use proptest::prelude::*;
use std::collections::BTreeMap;
use support::{Database, Folder, delete, noon, set, store};
use zeolith_storage::{Found, Patience, Storage, Write};
use zeolith_types::{Oid, Tid};

#[derive(Clone, Debug)]
enum Step {
    /// Voted together, finished in one batch: the objects of each transaction are its own.
    Commit(Vec<Vec<Change>>),
    Abort(Vec<Change>),
    Checkpoint,
    /// With a close before, or as after a kill; with the index or without.
    Reopen {
        close: bool,
        keep_index: bool,
    },
    /// Killed while it wrote: this much of a transaction is at the end of the file.
    Torn(usize),
}

#[derive(Clone, Debug)]
struct Change {
    oid: u64,
    size: Option<usize>,
}

type Model = BTreeMap<u64, Vec<(Tid, Option<Vec<u8>>)>>;

fn any_change() -> impl Strategy<Value = Change> {
    let size = prop_oneof![4 => (1..200_usize).prop_map(Some), 1 => (4_000..40_000_usize).prop_map(Some), 1 => Just(None)];
    (prop_oneof![0..6_u64, 60_000..60_080_u64], size).prop_map(|(oid, size)| Change { oid, size })
}

fn any_step() -> impl Strategy<Value = Step> {
    let changes = || prop::collection::vec(any_change(), 0..5);
    prop_oneof![
        8 => prop::collection::vec(changes(), 1..4).prop_map(Step::Commit),
        1 => changes().prop_map(Step::Abort),
        1 => Just(Step::Checkpoint),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(close, keep_index)| Step::Reopen { close, keep_index }),
        1 => (1..300_usize).prop_map(Step::Torn),
    ]
}

fn writes_of(
    changes: &[Change],
    model: &Model,
    taken: &mut Vec<u64>,
    fill: u8,
) -> Vec<(Write, Option<Vec<u8>>)> {
    let mut writes = Vec::new();
    for change in changes {
        if taken.contains(&change.oid) {
            continue;
        }
        taken.push(change.oid);
        let serial = model.get(&change.oid).and_then(|revisions| revisions.last()).map(|(tid, _)| *tid);
        let data = change.size.map(|size| vec![fill; size]);
        match (&data, serial) {
            (Some(data), _) => {
                writes.push((store(change.oid, serial.unwrap_or_default(), data), Some(data.clone())));
            }
            (None, Some(serial)) => writes.push((delete(change.oid, serial), None)),
            (None, None) => {}
        }
    }
    writes
}

fn commit(database: &Database, batch: &[Vec<Change>], model: &mut Model, fill: u8) {
    let mut taken = Vec::new();
    let batch: Vec<_> = batch.iter().map(|changes| writes_of(changes, model, &mut taken, fill)).collect();
    let ids: Vec<_> = batch
        .iter()
        .map(|writes| database.vote(set(writes.iter().map(|(write, _)| write.clone()).collect())).unwrap())
        .collect();
    for (tid, writes) in database.storage.finish(&ids, noon()).into_iter().zip(batch) {
        let tid = tid.unwrap();
        database.storage.publish(tid);
        for (write, data) in writes {
            model.entry(write.oid().expect("it names one").get()).or_default().push((tid, data));
        }
    }
}

fn compare(database: &Database, model: &Model) {
    for (oid, revisions) in model {
        let found =
            |before| database.storage.load_before(Oid::new(*oid), before, Patience::Wait).unwrap().found;
        for (place, (tid, data)) in revisions.iter().enumerate() {
            let end = revisions.get(place + 1).map(|(tid, _)| *tid);
            match (found(end.unwrap_or(Tid::MAX)), data) {
                (Found::Revision(revision), Some(data)) => {
                    assert_eq!((revision.start, revision.end), (*tid, end));
                    assert!(revision.data == *data);
                }
                (Found::NoObject, None) => {}
                (found, _) => panic!("{oid} before {end:?}: {found:?}"),
            }
        }
        assert_eq!(found(revisions[0].0), Found::NothingBefore);
    }
    let existing: Vec<u64> = model
        .iter()
        .filter(|(_, revisions)| revisions.last().unwrap().1.is_some())
        .map(|(oid, _)| *oid)
        .collect();
    let (mut listed, mut next) = (Vec::new(), None);
    while let Ok(record) = database.storage.record_iternext(next, Patience::Wait) {
        listed.push(record.oid.get());
        next = record.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(listed, existing);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_database_is_a_map_of_revisions(steps in prop::collection::vec(any_step(), 1..24)) {
        let folder = Folder::new();
        let mut database = folder.open().0;
        let mut model = Model::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Commit(batch) => commit(&database, &batch, &mut model, number as u8),
                Step::Abort(changes) => {
                    let writes = writes_of(&changes, &model, &mut Vec::new(), 0xff);
                    let id = database.vote(set(writes.into_iter().map(|(write, _)| write).collect())).unwrap();
                    database.storage.abort(id);
                }
                Step::Checkpoint => database.storage.checkpoint().unwrap(),
                Step::Reopen { close, keep_index } => {
                    if close {
                        database.storage.close().unwrap();
                    }
                    drop(database);
                    if !keep_index {
                        folder.drop_index();
                    }
                    let (opened, report) = folder.open();
                    prop_assert_eq!(report.findings, []);
                    prop_assert_eq!(report.objects, model.len() as u64);
                    database = opened;
                }
                Step::Torn(len) => {
                    let sound = database.storage.info().size as usize;
                    let whole = folder.bytes()[..sound].to_vec();
                    let id = database.vote(set(vec![store(77, Tid::ZERO, &[0xee; 400])])).unwrap();
                    database.storage.publish(database.finish(id).unwrap());
                    let end = database.storage.info().size as usize;
                    drop(database);
                    let torn = folder.bytes();
                    std::fs::write(folder.path(), &torn[..sound + len.min(end - sound - 1)]).unwrap();
                    let (opened, report) = folder.open();
                    prop_assert_eq!(report.findings.len(), 1);
                    prop_assert!(folder.bytes() == whole);
                    database = opened;
                }
            }
            compare(&database, &model);
        }
    }
}
