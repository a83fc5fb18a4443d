//! What the core decides for a commit: locks asked for and given back, and a thousand sessions told.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, sync::Arc};
use zeolith_core::{
    Coordinator, Lock, LockSet, Now, Outbox, Publication, PublicationLog, Rules, Session, SessionId,
};
use zeolith_types::{MessageId, Oid, Refusal, Reply, Tid};

const RULES: Rules =
    Rules { collects_conflicts: false, transaction_memory_max: 1 << 20, transaction_size_max: 1 << 30 };

fn objects(first: u64, count: u64) -> LockSet {
    LockSet::Objects((first..first + count).map(Oid::new).collect())
}

fn locks(criterion: &mut Criterion) {
    for count in [1, 100] {
        let mut coordinator = Coordinator::new(None);
        criterion.bench_function(&format!("lock and release {count} objects"), |bencher| {
            bencher.iter(|| {
                let wanted = objects(1, black_box(count));
                let (ticket, lock) = coordinator.request(SessionId(1), wanted, Now::default());
                assert_eq!(lock, Lock::Granted, "nobody else holds them");
                coordinator.finishing(ticket);
                assert!(coordinator.release(ticket, Now::default()).is_empty(), "nobody waits");
            });
        });
    }
    let mut coordinator = Coordinator::new(None);
    criterion.bench_function("32 votes queue for one object, and each has its turn", |bencher| {
        bencher.iter(|| {
            let mut ask = |session| coordinator.request(SessionId(session), objects(1, 1), Now::default()).0;
            let tickets: Vec<_> = (0..32).map(&mut ask).collect();
            for (turn, ticket) in tickets.into_iter().enumerate() {
                let grants = coordinator.release(ticket, Now::default());
                assert_eq!(grants.len(), usize::from(turn < 31), "the next one is granted");
            }
        });
    });
}

/// Counts what leaves.
#[derive(Default)]
struct Counted(usize);

impl Outbox for Counted {
    fn invalidate(&mut self, publication: &Publication) {
        self.0 += publication.oids.len();
    }
    fn info(&mut self) {}
    fn reply(&mut self, _id: &MessageId, _reply: &Reply) {}
    fn refuse(&mut self, _id: &MessageId, _refusal: &Refusal) {}
}

fn publication(criterion: &mut Criterion) {
    let mut log = PublicationLog::new(100, 10_000, Tid::ZERO, Vec::new());
    let mut sessions: Vec<Session> = (0..1000)
        .map(|number| {
            let mut session = Session::new(SessionId(number), RULES);
            session.register(true, false, Tid::ZERO, Arc::default()).expect("who only reads is always taken");
            session
        })
        .collect();
    let mut tid = 0;
    let mut group = criterion.benchmark_group("publication");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("one transaction told to 1000 sessions", |bencher| {
        bencher.iter(|| {
            tid += 1;
            let through = Tid::new(tid);
            let oids = [Oid::new(1), Oid::new(2)].into();
            log.append([Publication { tid: through, oids, committer: None }]);
            let mut out = Counted::default();
            for session in &mut sessions {
                session.deliver(&log, through, &mut out).expect("nobody lags");
            }
            assert_eq!(out.0, 2000, "everybody hears of both objects");
        });
    });
    group.finish();
}

criterion_group!(benches, locks, publication);
criterion_main!(benches);
