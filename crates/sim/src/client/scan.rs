//! A client's walks through the transactions of the storage and their records, between everything else that it and
//! others do.

use super::{
    Client, Expected,
    receive::{oid_of, tid_of},
    tid_value,
};
use crate::{
    checks::{Checks, Invariant},
    context::Context,
    history::{Changes, Dropped, History},
};
use bytes::Bytes;
use zeolith_types::{Tid, Value};

/// One walk. It sees what was published when its iterator was opened, whatever is committed and packed meanwhile.
#[derive(Debug)]
pub(super) struct Scan {
    /// The tids that it wants, both included.
    from: Tid,
    to: Tid,
    /// The server's name for its iterator.
    iterator: Option<i128>,
    /// The transaction that it has seen last.
    last: Option<Tid>,
    records: Option<Records>,
    /// What the client knew when it asked for the iterator, which must be able to see all of that.
    asked_at: Tid,
    /// What the client knew when it got it, which can see nothing else.
    opened_at: Tid,
    /// What packs may have dropped until then.
    dropped: Dropped,
    awaits: Option<Awaits>,
}

/// The records of the transaction that was seen last.
#[derive(Debug)]
struct Records {
    iterator: i128,
    seen: Changes,
}

/// What a walk waits for. An iterator may be refused if so many were open, as far as the client knows.
#[derive(Clone, Copy, Debug)]
enum Awaits {
    Iterator { open: usize },
    Transaction,
    Records { open: usize },
    Record,
}

impl Client {
    /// Begins a walk, goes on with one, or breaks one off.
    pub(super) fn walk(&mut self, context: &mut Context) {
        let Some(max) = context.plan.iterators_max else { return };
        if context.calm {
            return;
        }
        if self.scans.len() <= max && self.chance.chance(STARTS) {
            self.start_walk(context);
        }
        let idle: Vec<u64> =
            self.scans.iter().filter(|(_, scan)| scan.awaits.is_none()).map(|(number, _)| *number).collect();
        for number in idle {
            match self.chance.below(40) {
                0 => self.break_off(number, context),
                1..=20 => self.step(number, context),
                _ => {}
            }
        }
    }

    fn start_walk(&mut self, context: &mut Context) {
        let tids: Vec<Tid> = context.history.tids(self.cache.last()).collect();
        let mut bound = || match self.chance.below(4) {
            // A transaction, or a tid beside one.
            0 if !tids.is_empty() => {
                let near = self.chance.below(3);
                Some(Tid::new(self.chance.pick(&tids).get() + near - 1))
            }
            1 if !tids.is_empty() => Some(tids[tids.len().saturating_sub(RECENT)]),
            _ => None,
        };
        let (start, stop) = (bound(), bound());
        let optional = |tid: Option<Tid>| tid.map_or(Value::None, tid_value);
        let scan = Scan {
            from: start.unwrap_or(Tid::ZERO),
            to: stop.unwrap_or(Tid::MAX),
            iterator: None,
            last: None,
            records: None,
            asked_at: self.cache.last(),
            opened_at: Tid::MAX,
            dropped: Dropped::default(),
            awaits: Some(Awaits::Iterator { open: self.open_iterators() }),
        };
        self.scan_count += 1;
        self.scans.insert(self.scan_count, scan);
        let bounds = [optional(start), optional(stop)];
        self.call("iterator_start", &bounds, Expected::Scanned(self.scan_count), context);
    }

    /// How many iterators the server may keep for this connection.
    fn open_iterators(&self) -> usize {
        let of = |scan: &Scan| {
            let coming = matches!(scan.awaits, Some(Awaits::Iterator { .. } | Awaits::Records { .. }));
            usize::from(scan.iterator.is_some()) + usize::from(scan.records.is_some()) + usize::from(coming)
        };
        self.forgotten_iterators + self.scans.values().map(of).sum::<usize>()
    }

    /// Asks for what comes next.
    fn step(&mut self, number: u64, context: &mut Context) {
        let open = self.open_iterators();
        let Some(scan) = self.scans.get_mut(&number) else { return };
        let Some(iterator) = scan.iterator else { return };
        let (method, arguments, awaits) = match (&scan.records, scan.last) {
            (Some(records), _) => {
                ("iterator_record_next", vec![Value::Int(records.iterator)], Awaits::Record)
            }
            (None, Some(last)) if scan.awaits.is_none() && self.chance.chance(LOOKS_CLOSER) => {
                let arguments = vec![Value::Int(iterator), tid_value(last)];
                ("iterator_record_start", arguments, Awaits::Records { open })
            }
            (None, _) => ("iterator_next", vec![Value::Int(iterator)], Awaits::Transaction),
        };
        scan.awaits = Some(awaits);
        self.call(method, &arguments, Expected::Scanned(number), context);
    }

    /// Drops the iterators of a walk, or only forgets them.
    fn break_off(&mut self, number: u64, context: &mut Context) {
        let Some(scan) = self.scans.remove(&number) else { return };
        let records = scan.records.map(|records| records.iterator);
        let iterators: Vec<i128> = scan.iterator.into_iter().chain(records).collect();
        if self.chance.chance(FORGETS) {
            self.forgotten_iterators += iterators.len();
            return;
        }
        let names = iterators.iter().map(|id| Value::Int(*id)).collect();
        self.tell("iterator_gc", &[Value::List(names)], context);
        if let Some(gone) = scan.iterator.filter(|_| self.chance.chance(300)) {
            self.call("iterator_next", &[Value::Int(gone)], Expected::NoIterator, context);
        }
    }

    /// The connection is gone, and with it all its iterators.
    pub(super) fn lose_walks(&mut self) {
        self.scans.clear();
        self.forgotten_iterators = 0;
    }

    /// An iterator that was dropped is not there.
    pub(super) fn no_iterator(failed: bool, body: &Value, context: &mut Context) {
        let is_so = failed && is_class(body, "builtins.KeyError");
        context.checks.ensure(is_so, Invariant::NoIteratorOutlivesItsUse, || {
            format!("an iterator that was dropped answers {body:?}")
        });
    }

    /// The next piece of a walk has come.
    pub(super) fn scanned(&mut self, number: u64, failed: bool, body: &Value, context: &mut Context) {
        let Some(mut scan) = self.scans.remove(&number) else { return };
        let Some(awaits) = scan.awaits.take() else { return };
        if failed {
            return self.refused_iterator(number, scan, awaits, body, context);
        }
        let known = self.cache.last();
        let Context { history, checks, counts, .. } = context;
        let goes_on = match awaits {
            Awaits::Iterator { .. } => {
                scan.iterator = int(body);
                (scan.opened_at, scan.dropped) = (known, history.dropped().clone());
                true
            }
            Awaits::Records { .. } => {
                let seen = Changes::new();
                scan.records = int(body).map(|iterator| Records { iterator, seen });
                true
            }
            Awaits::Transaction if *body == Value::None => {
                scan.check_end(history, checks);
                counts.scans += 1;
                false
            }
            Awaits::Transaction => scan.take_transaction(body, history, checks),
            Awaits::Record => {
                scan.take_record(body, history, checks);
                true
            }
        };
        if !goes_on {
            return;
        }
        self.scans.insert(number, scan);
        let (open, max) = (self.certainly_open(), context.plan.iterators_max.unwrap_or_default());
        context.checks.ensure(open <= max, Invariant::EverythingHasALimit, || {
            format!("client {} has {open} iterators, {max} are allowed", self.number)
        });
        if !context.calm && self.chance.chance(GOES_ON) {
            self.step(number, context);
        }
    }

    fn certainly_open(&self) -> usize {
        let of = |scan: &Scan| usize::from(scan.iterator.is_some()) + usize::from(scan.records.is_some());
        self.forgotten_iterators + self.scans.values().map(of).sum::<usize>()
    }

    /// A new iterator may be refused because there are too many, and nothing else may be.
    fn refused_iterator(
        &mut self,
        number: u64,
        scan: Scan,
        awaits: Awaits,
        body: &Value,
        context: &mut Context,
    ) {
        let max = context.plan.iterators_max.unwrap_or_default();
        let (is_excused, invariant) = match awaits {
            Awaits::Iterator { open } | Awaits::Records { open } if is_class(body, "builtins.ValueError") => {
                (open >= max, Invariant::NoIteratorOutlivesItsUse)
            }
            _ => (false, Invariant::ThePastIsImmutable),
        };
        context.checks.ensure(is_excused, invariant, || {
            format!("client {} is answered {body:?} to {awaits:?} of {scan:?}", self.number)
        });
        // Who only wanted to see the records can go on without.
        if scan.iterator.is_some() {
            self.scans.insert(number, scan);
        }
    }
}

impl Scan {
    /// The next transaction is the next of the history, but for what packs may have dropped.
    fn take_transaction(&mut self, body: &Value, history: &History, checks: &mut Checks) -> bool {
        let parts = body.as_sequence().unwrap_or_default();
        let [tid, Value::Str(status), user, Value::Bytes(label), _] = parts else {
            checks.fail(Invariant::ThePastIsImmutable, format!("no transaction: {body:?}"));
            return false;
        };
        let tid = tid_of(tid).unwrap_or_default();
        let is_next = self.last.is_none_or(|last| last < tid) && self.from <= tid && tid <= self.to;
        let is_it = history.get(tid).is_some_and(|commit| commit.label == *label);
        let is_marked = status == "p" && history.may_be_packed_after(tid);
        checks.ensure(
            is_next && is_it && (status == " " || is_marked) && is_nothing(user),
            Invariant::ThePastIsImmutable,
            || format!("an iterator gives {body:?}, which is {:?}, to {self:?}", history.get(tid)),
        );
        checks.ensure(tid <= self.opened_at, Invariant::NoticedBeforeRevealed, || {
            format!("an iterator that was opened at {} shows {tid}", self.opened_at)
        });
        self.check_gap(Some(tid), history, checks);
        self.last = Some(tid);
        true
    }

    /// There is nothing more, of what the client knew when it began.
    fn check_end(&self, history: &History, checks: &mut Checks) {
        self.check_gap(None, history, checks);
    }

    /// Nothing lies between the last transaction and this one, or the end of what must be seen.
    fn check_gap(&self, before: Option<Tid>, history: &History, checks: &mut Checks) {
        let is_passed = |tid: &Tid| {
            self.from <= *tid
                && self.last.is_none_or(|last| last < *tid)
                && before.is_none_or(|before| *tid < before)
        };
        let through = self.to.min(self.asked_at);
        let through = before.map_or(through, |before| before.min(self.opened_at));
        let missing: Vec<Tid> = history
            .tids(through)
            .filter(|tid| is_passed(tid) && !history.may_be_absent(*tid, &self.dropped))
            .collect();
        checks.ensure(missing.is_empty(), Invariant::ThePastIsImmutable, || {
            format!("an iterator leaves out {missing:?} before {before:?}: {self:?}")
        });
    }

    fn take_record(&mut self, body: &Value, history: &History, checks: &mut Checks) {
        let (Some(tid), Some(mut records)) = (self.last, self.records.take()) else { return };
        if *body == Value::None {
            let known = history.get(tid);
            let is_rest = known
                .is_some_and(|known| history.is_rest_of(tid, &known.changes, &records.seen, &self.dropped));
            return checks.ensure(is_rest, Invariant::ThePastIsImmutable, || {
                format!("an iterator says that {tid} is {:?}, it was {known:?}", records.seen)
            });
        }
        let parts = body.as_sequence().unwrap_or_default();
        let [oid, start, data, from] = parts else {
            return checks.fail(Invariant::ThePastIsImmutable, format!("no record: {body:?}"));
        };
        let (oid, data) = (oid_of(oid).unwrap_or_default(), data.as_bytes().cloned());
        // An undo says where its data is from.
        let is_from = tid_of(from).is_none_or(|from| from < tid && history.record_of(oid, from) == data);
        checks.ensure(tid_of(start) == Some(tid) && is_from, Invariant::ThePastIsImmutable, || {
            format!("an iterator says that a record of {tid} is {body:?}")
        });
        records.seen.insert(oid, data);
        self.records = Some(records);
    }
}

fn int(value: &Value) -> Option<i128> {
    if let Value::Int(number) = value { Some(*number) } else { None }
}

fn is_nothing(value: &Value) -> bool {
    value.as_bytes().is_some_and(Bytes::is_empty)
}

fn is_class(body: &Value, wanted: &str) -> bool {
    matches!(body.as_sequence(), Some([Value::Str(class), _]) if class == wanted)
}

/// In so many of 1000 decisions a client begins a walk.
const STARTS: u64 = 60;
/// So far back a walk begins that is about what happened lately.
const RECENT: usize = 8;
/// In so many of 1000 transactions it looks at the records.
const LOOKS_CLOSER: u64 = 400;
/// In so many of 1000 cases it takes the next step at once.
const GOES_ON: u64 = 800;
/// In so many of 1000 cases it does not tell the server that it needs an iterator no more.
const FORGETS: u64 = 300;
