//! A client's commits, in two phases, with everything that can come between.

use super::{Client, Expected, oid_value, receive::oid_of, receive::tid_of, tid_value};
use crate::{checks::Invariant, context::Context, record::record};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use zeolith_types::{Oid, Tid, Value};

/// How far a client's transaction is.
#[derive(Debug)]
pub(super) enum Transaction {
    None,
    Voting(Open),
    /// The client can finish it, and will or will not.
    Voted(Open),
    Finishing(Open),
    Aborting,
}

/// What a client wants to commit.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: i128,
    pub(super) label: Bytes,
    pub(super) changes: BTreeMap<Oid, Option<Bytes>>,
    /// Its transactions are undone and nothing else is done.
    pub(super) undoes: Vec<Tid>,
    /// The objects that the server says an undo has touched.
    pub(super) undone: BTreeSet<Oid>,
    /// What the client had heard of when it last went on with it.
    pub(super) since: Tid,
    /// How often it may still resolve conflicts.
    attempts: u32,
    /// It does nothing more, and holds its locks.
    pub(super) is_stalled: bool,
}

impl Client {
    /// Says what it wants, and asks for a vote.
    pub(super) fn begin(&mut self, context: &mut Context) {
        self.transactions += 1;
        let label = Bytes::from(format!("client {} transaction {}", self.number, self.transactions));
        let id = (self.number as i128 + 1) << 40 | i128::from(self.transactions);
        let mut open = Open {
            id,
            label,
            changes: BTreeMap::new(),
            undoes: Vec::new(),
            undone: BTreeSet::new(),
            since: self.cache.last(),
            attempts: 3,
            is_stalled: false,
        };
        let start = [
            Value::Int(id),
            Value::Bytes(Bytes::new()),
            Value::Bytes(open.label.clone()),
            self.extension(&open, context),
            Value::None,
            Value::Str(" ".into()),
        ];
        self.tell("tpc_begin", &start, context);
        if !context.calm && context.random.chance(UNDOES) {
            self.undo(&mut open, context);
            return self.vote(open, context);
        }
        self.change_objects(&mut open, context);
        if context.random.chance(200)
            && let Some(oid) = self.choose(context)
            && !open.changes.contains_key(&oid)
            && let Some((serial, _)) = self.cache.current(oid)
        {
            let check = [oid_value(oid), tid_value(serial), Value::Int(id)];
            self.tell("checkCurrentSerialInTransaction", &check, context);
        }
        if let Some(oid) = self.new_oids.pop_if(|_| context.random.chance(150)) {
            self.store(&mut open, oid, Tid::ZERO, context);
        }
        self.vote(open, context);
    }

    /// Wants one or two of the last transactions undone, the later one first.
    fn undo(&self, open: &mut Open, context: &mut Context) {
        let known: Vec<Tid> = context.history.tids(self.cache.last()).collect();
        let last = &known[known.len().saturating_sub(UNDONE_AMONG)..];
        let count = context.random.between(1, 2);
        for _ in 0..count.min(last.len() as u64) {
            let tid = context.random.pick(last);
            if open.undoes.last().is_none_or(|later| tid < *later) {
                open.undoes.push(tid);
                let name = Value::Bytes(zeolith_wire::transaction_name(tid));
                self.tell("undoa", &[name, Value::Int(open.id)], context);
            }
        }
    }

    fn change_objects(&mut self, open: &mut Open, context: &mut Context) {
        let count = context.random.pick(&[0, 1, 1, 1, 2, 2, 3, 6]);
        for _ in 0..count {
            let Some(oid) = self.choose(context) else { continue };
            let Some((serial, _)) = self.cache.current(oid) else { continue };
            if open.changes.contains_key(&oid) {
                continue;
            }
            // What is deleted stays deleted, so few things are.
            if oid.get() > context.plan.objects && context.random.chance(100) {
                let delete = [oid_value(oid), tid_value(serial), Value::Int(open.id)];
                self.tell("deleteObject", &delete, context);
                open.changes.insert(oid, None);
            } else {
                self.store(open, oid, serial, context);
            }
        }
    }

    fn store(&self, open: &mut Open, oid: Oid, serial: Tid, context: &mut Context) {
        let record_max = if context.random.chance(5) { RECORD_LARGE } else { context.plan.record_max };
        let len = context.random.between(1, record_max) as usize;
        let words = format!("{oid} by client {} in {} ", self.number, self.transactions);
        let zeros = context.plan.zeros;
        let fill = if context.random.chance(zeros) { 0 } else { context.random.between(1, 255) as u8 };
        let data = record(&words, (fill, len), &self.references(oid, context));
        let store = [oid_value(oid), tid_value(serial), Value::Bytes(data.clone()), Value::Int(open.id)];
        self.tell("storea", &store, context);
        open.changes.insert(oid, Some(data));
    }

    /// What a record refers to: that of the root to most of what there is, so that a pack keeps most of it.
    fn references(&self, oid: Oid, context: &mut Context) -> Vec<Oid> {
        let cached = self.cache.current_oids();
        if oid == Oid::ZERO && context.random.chance(800) {
            return cached;
        }
        let count = if cached.is_empty() { 0 } else { context.random.below(3) };
        (0..count).map(|_| context.random.pick(&cached)).collect()
    }

    fn vote(&mut self, open: Open, context: &mut Context) {
        context.note(format_args!(
            "client {} votes on {:?}: {:?}",
            self.number,
            open.label,
            open.changes.keys()
        ));
        self.call("vote", &[Value::Int(open.id)], Expected::Voted, context);
        self.transaction = Transaction::Voting(open);
    }

    pub(super) fn voted(&mut self, failed: bool, body: &Value, context: &mut Context) {
        let Transaction::Voting(mut open) = std::mem::replace(&mut self.transaction, Transaction::None)
        else {
            return;
        };
        if failed {
            context.counts.refused += 1;
            context.note(format_args!(
                "client {}: {:?} is refused: {}",
                self.number,
                open.label,
                class(body)
            ));
            if let Some([Value::Str(class), Value::Dict(payload)]) = body.as_sequence()
                && class.ends_with("ConflictError")
            {
                self.conflict(payload, context);
            }
            // The reference aborts what the server has forgotten already.
            self.abort(&open, context);
            return;
        }
        if !open.undoes.is_empty() {
            context.counts.undos += 1;
            open.undone = body.as_sequence().unwrap_or_default().iter().filter_map(oid_of).collect();
            self.transaction = Transaction::Voted(open);
            return;
        }
        let conflicts: Vec<&Value> = body.as_sequence().unwrap_or_default().iter().collect();
        if conflicts.is_empty() {
            self.transaction = Transaction::Voted(open);
            return;
        }
        self.resolve(open, &conflicts, context);
    }

    /// Somebody else was first: what the cache has of the object is not worth keeping.
    fn conflict(&mut self, payload: &[(Value, Value)], context: &mut Context) {
        let Some(oid) = field(payload, "oid").and_then(oid_of) else { return };
        if let Some([committed, _]) = field(payload, "serials").and_then(Value::as_sequence) {
            let committed = tid_of(committed).unwrap_or_default();
            let changed_it =
                context.history.get(committed).is_some_and(|commit| commit.changes.contains_key(&oid));
            context.checks.ensure(changed_it, Invariant::DurableBeforeTold, || {
                format!("a conflict says that {oid} is at {committed}")
            });
        }
        self.cache.drop_current(oid);
    }

    /// The server asks the client to resolve: it stores again on top of what is committed.
    fn resolve(&mut self, mut open: Open, conflicts: &[&Value], context: &mut Context) {
        context.counts.refused += 1;
        if open.attempts == 0 || context.random.chance(200) {
            return self.abort(&open, context);
        }
        open.attempts -= 1;
        for conflict in conflicts {
            let Value::Dict(fields) = conflict else { continue };
            let oid = field(fields, "oid").and_then(oid_of);
            let serials = field(fields, "serials").and_then(Value::as_sequence);
            let (Some(oid), Some([committed, _])) = (oid, serials) else { continue };
            self.store(&mut open, oid, tid_of(committed).unwrap_or_default(), context);
        }
        self.vote(open, context);
    }

    pub(super) fn abort(&mut self, open: &Open, context: &mut Context) {
        self.transaction = Transaction::Aborting;
        self.call("tpc_abort", &[Value::Int(open.id)], Expected::Aborted, context);
    }

    pub(super) fn aborted(&mut self) {
        self.transaction = Transaction::None;
    }

    pub(super) fn finish(&mut self, mut open: Open, context: &mut Context) {
        open.since = self.cache.last();
        self.call("tpc_finish", &[Value::Int(open.id)], Expected::Finished, context);
        self.transaction = Transaction::Finishing(open);
    }

    /// The reply to finish goes into the cache before anything else happens.
    pub(super) fn finished(&mut self, failed: bool, body: &Value, context: &mut Context) {
        let Transaction::Finishing(open) = std::mem::replace(&mut self.transaction, Transaction::None) else {
            return;
        };
        let tid = if failed { None } else { tid_of(body) };
        let Some(tid) = tid else {
            context.note(format_args!(
                "client {}: {:?} is not finished: {}",
                self.number,
                open.label,
                class(body)
            ));
            // Nobody knows what the cache is worth now, nor what will be there after a restart.
            self.transaction = Transaction::Finishing(open);
            return self.hang_up(context);
        };
        context.note(format_args!("client {}: {:?} is {tid:?}", self.number, open.label));
        context.counts.commits += 1;
        self.expect_next(tid, context);
        context.checks.ensure(open.is(tid, &context.history), Invariant::DurableBeforeTold, || {
            format!("{:?} is said to be {tid}, which is something else", open.label)
        });
        // What an undo has made of an object the client asks for when it needs it.
        open.undone.iter().for_each(|oid| self.cache.invalidate(*oid, tid, &mut context.checks));
        let oids: Vec<Oid> = open.changes.keys().chain(&open.undone).copied().collect();
        for (oid, data) in open.changes {
            self.cache.invalidate(oid, tid, &mut context.checks);
            if let Some(data) = data {
                self.cache.store(oid, tid, None, data, &mut context.checks);
            }
        }
        self.cache.set_last(tid, &mut context.checks);
        for oid in oids {
            self.cache.check_object(oid, &context.history, &mut context.checks, self.number);
        }
        self.is_done |= self.has_swept && context.calm;
    }
}

fn field<'a>(fields: &'a [(Value, Value)], name: &str) -> Option<&'a Value> {
    fields.iter().find(|(key, _)| *key == Value::Str(name.to_owned())).map(|(_, value)| value)
}

/// The class of a refusal, for the trace.
fn class(body: &Value) -> String {
    match body.as_sequence() {
        Some([Value::Str(class), Value::Dict(_)]) => class.clone(),
        other => format!("{other:?}"),
    }
}

/// In so many of 1000 cases a transaction undoes others.
const UNDOES: u64 = 80;
/// So many of the last transactions are undone, others are not.
const UNDONE_AMONG: usize = 6;
/// A record that takes a vote to the pool.
const RECORD_LARGE: u64 = 20_000;
