//! The cache of the reference client without its file: the current revision of an object, and
//! older ones with the tids that replaced them.

use crate::{
    checks::{Checks, Invariant},
    history::{History, Known},
    random::Random,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use zeolith_types::{Oid, Tid};

#[derive(Debug, Default)]
pub(super) struct Cache {
    current: BTreeMap<Oid, (Tid, Bytes)>,
    old: BTreeMap<(Oid, Tid), (Tid, Bytes)>,
    last: Tid,
}

impl Cache {
    /// The last transaction that it knows of.
    pub(super) const fn last(&self) -> Tid {
        self.last
    }

    pub(super) fn set_last(&mut self, tid: Tid, checks: &mut Checks) {
        checks.ensure(tid >= self.last, Invariant::TidsRise, || {
            format!("a client that knows {} is told {tid}", self.last)
        });
        self.last = tid;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.current.is_empty() && self.old.is_empty()
    }

    pub(super) fn current(&self, oid: Oid) -> Option<(Tid, &Bytes)> {
        self.current.get(&oid).map(|(start, data)| (*start, data))
    }

    pub(super) fn current_oids(&self) -> Vec<Oid> {
        self.current.keys().copied().collect()
    }

    /// What a reader gets who does not ask the server.
    pub(super) fn load_before(&self, oid: Oid, before: Tid) -> Option<Known> {
        let old = self.old.range((oid, Tid::ZERO)..(oid, before)).next_back();
        if let Some(((_, start), (end, data))) = old
            && *end >= before
        {
            return Some(Known::Revision { start: *start, end: Some(*end), data: data.clone() });
        }
        let (start, data) = self.current.get(&oid)?;
        (*start < before).then(|| Known::Revision { start: *start, end: None, data: data.clone() })
    }

    pub(super) fn store(&mut self, oid: Oid, start: Tid, end: Option<Tid>, data: Bytes, checks: &mut Checks) {
        if let Some(end) = end {
            self.old.insert((oid, start), (end, data));
            return;
        }
        if let Some((known, _)) = self.current.get(&oid) {
            checks.ensure(*known == start, Invariant::NoStaleEnd, || {
                format!(
                    "{oid} is current at {known} in a client's cache, and is loaded as current at {start}"
                )
            });
        }
        self.current.insert(oid, (start, data));
    }

    /// A transaction has changed the object.
    pub(super) fn invalidate(&mut self, oid: Oid, tid: Tid, checks: &mut Checks) {
        let Some((start, data)) = self.current.remove(&oid) else { return };
        checks.ensure(start < tid, Invariant::NoticedBeforeRevealed, || {
            format!("a client had {oid} of {start} before it was told of {tid}")
        });
        self.old.insert((oid, start), (tid, data));
    }

    /// The object has changed at a time that nobody knows.
    pub(super) fn drop_current(&mut self, oid: Oid) {
        self.current.remove(&oid);
    }

    pub(super) fn clear(&mut self) {
        self.current.clear();
        self.old.clear();
    }

    /// Forgets something, as a cache of limited size does.
    pub(super) fn evict(&mut self, random: &mut Random) {
        let forget = random.next();
        let mut number = 0_u64;
        let mut keep = || {
            number += 1;
            forget >> (number % 64) & 1 == 0
        };
        self.current.retain(|_, _| keep());
        self.old.retain(|_, _| keep());
    }

    /// Every object, read at any tid, is what the history says.
    pub(super) fn check(&self, history: &History, checks: &mut Checks, who: usize) {
        let oids = self.current.keys().copied().chain(self.old.keys().map(|(oid, _)| *oid));
        oids.for_each(|oid| self.check_object(oid, history, checks, who));
    }

    pub(super) fn check_object(&self, oid: Oid, history: &History, checks: &mut Checks, who: usize) {
        if let Some((start, data)) = self.current.get(&oid) {
            let cached = Known::Revision { start: *start, end: None, data: data.clone() };
            let known = history.load_before(oid, Tid::MAX, self.last);
            checks.ensure(history.allows_cached(oid, &known, &cached), Invariant::NoStaleEnd, || {
                format!("client {who}, which knows {}, has {oid} as {cached:?}, it is {known:?}", self.last)
            });
        }
        for ((_, start), (end, data)) in self.old.range((oid, Tid::ZERO)..=(oid, Tid::MAX)) {
            let cached = Known::Revision { start: *start, end: Some(*end), data: data.clone() };
            let known = history.load_before(oid, *end, self.last);
            checks.ensure(history.allows_cached(oid, &known, &cached), Invariant::ThePastIsImmutable, || {
                format!("client {who}, which knows {}, has {oid} as {cached:?}, it was {known:?}", self.last)
            });
        }
    }

    /// The same by the way of a reader: every object at every tid, as far as the cache can tell.
    pub(super) fn check_reads(&self, history: &History, checks: &mut Checks, who: usize) {
        for oid in history.objects() {
            for tid in history.tids(self.last) {
                let before = Tid::new(tid.get() + 1);
                let Some(cached) = self.load_before(oid, before) else { continue };
                let known = history.load_before(oid, before, self.last);
                checks.ensure(history.allows_cached(oid, &known, &cached), Invariant::NoStaleEnd, || {
                    format!("client {who} reads {oid} before {before} as {cached:?}, it is {known:?}")
                });
            }
        }
    }
}
