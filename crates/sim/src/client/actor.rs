//! What a client wants: it reads, commits, thinks, and now and then behaves badly.

use super::{Client, Expected, Phase, oid_value, tid_value, transaction::Transaction};
use crate::{checks::Invariant, context::Context, network::Toward, schedule::Event};
use zeolith_core::SessionId;
use zeolith_types::{Oid, Tid, Timestamp, Value};

impl Client {
    /// Decides what to do next. A new connection is returned, for the server to accept.
    pub(crate) fn act(&mut self, context: &mut Context) -> Option<SessionId> {
        if self.is_done {
            return None;
        }
        context.soon(context.plan.think, Event::Client(self.number));
        if context.calm && self.connection.is_some_and(|id| context.unruly.contains(&id)) {
            self.hang_up(context);
        }
        if self.connection.is_none() {
            return if context.calm || context.random.chance(300) { self.connect(context) } else { None };
        }
        if !self.is_reading && (context.calm || context.random.chance(30)) {
            self.is_reading = true;
            if let Some(id) = self.connection {
                context.resume(id, Toward::Client);
            }
        }
        if self.deserts(context) {
            return None;
        }
        if !context.calm && context.random.chance(context.plan.unruly) {
            self.misbehave(context);
            return None;
        }
        if self.phase == Phase::Ready {
            self.work(context);
        }
        None
    }

    fn misbehave(&mut self, context: &mut Context) {
        let Some(id) = self.connection else { return };
        match context.random.below(10) {
            0..=2 => {
                context.note(format_args!("client {} hangs up on {}", self.number, id.0));
                self.hang_up(context);
            }
            3 | 4 => {
                context.note(format_args!("the connection {} breaks", id.0));
                let Context { network, schedule, random, .. } = context;
                network.cut(id, schedule, random);
            }
            5..=7 => {
                context.note(format_args!("client {} stops reading", self.number));
                self.is_reading = false;
            }
            8 => {
                context.note(format_args!("client {} sends nonsense", self.number));
                context.unruly.insert(id);
                let len = context.random.between(1, 60);
                let bytes: Vec<u8> = (0..len).map(|_| context.random.next() as u8).collect();
                context.send(id, Toward::Server, &bytes);
                self.hang_up_later(context);
            }
            _ => {
                context.note(format_args!("client {} calls what nobody should", self.number));
                context.unruly.insert(id);
                self.tell("storea", &[], context);
                self.hang_up_later(context);
            }
        }
    }

    /// After nonsense nothing that comes back can be relied on, so it is not read.
    fn hang_up_later(&mut self, context: &mut Context) {
        if context.random.chance(500) {
            self.hang_up(context);
        } else {
            self.is_reading = false;
        }
    }

    fn work(&mut self, context: &mut Context) {
        self.ask(context);
        self.walk(context);
        match std::mem::replace(&mut self.transaction, Transaction::None) {
            Transaction::Voted(open) => self.decide(open, context),
            Transaction::None if context.calm && !self.has_swept => self.sweep(context),
            Transaction::None if context.calm && !(self.loads.is_empty() && self.lost.is_empty()) => {}
            Transaction::None if context.calm || context.random.chance(350) => self.begin(context),
            waiting => self.transaction = waiting,
        }
        if !context.calm && self.phase == Phase::Ready {
            self.read(context);
        }
    }

    /// The vote has gone well.
    fn decide(&mut self, mut open: super::transaction::Open, context: &mut Context) {
        if context.calm || (!open.is_stalled && context.random.chance(800)) {
            return self.finish(open, context);
        }
        if open.is_stalled {
            self.transaction = Transaction::Voted(open);
            return;
        }
        match context.random.below(4) {
            0 | 1 => self.abort(&open, context),
            2 => {
                context.note(format_args!("client {} stalls with its vote", self.number));
                // Without a timeout nothing would ever go on.
                open.is_stalled = context.plan.transaction_timeout.is_some();
                self.transaction = Transaction::Voted(open);
            }
            _ => {
                context.note(format_args!("client {} vanishes after its vote", self.number));
                self.transaction = Transaction::Voted(open);
                self.hang_up(context);
            }
        }
    }

    fn read(&mut self, context: &mut Context) {
        if context.random.chance(context.plan.packs) {
            self.pack(context);
        }
        match context.random.below(20) {
            0..=10 => {
                let count = context.random.between(1, 4);
                for _ in 0..count {
                    let oid = self.any_object(context);
                    let before = self.any_bound(context);
                    self.load(oid, before, context);
                }
            }
            11 => self.call("lastTransaction", &[], Expected::LastTransaction, context),
            12 if self.new_oids.is_empty() => {
                let count = zeolith_types::Value::Int(5);
                self.call("new_oids", &[count], Expected::Oids, context);
            }
            13 => self.cache.evict(&mut context.random),
            _ => {}
        }
    }

    /// To any time of the past, or to now.
    fn pack(&mut self, context: &mut Context) {
        let tids: Vec<Tid> = context.history.tids(self.cache.last()).collect();
        if let Some(last) = tids.last() {
            let tid = if context.random.chance(300) { *last } else { context.random.pick(&tids) };
            let time = Value::Float(Timestamp::from_tid(tid).as_secs_f64());
            let wait = Value::Bool(context.random.chance(700));
            self.call("pack", &[time, wait], Expected::Packed, context);
        }
    }

    /// From the cache if it can tell, else from the server.
    fn load(&mut self, oid: Oid, before: Tid, context: &mut Context) {
        if let Some(cached) = self.cache.load_before(oid, before) {
            let known = context.history.load_before(oid, before, self.cache.last());
            let is_so = context.history.allows_cached(oid, &known, &cached);
            context.checks.ensure(is_so, Invariant::NoStaleEnd, || {
                let (number, last) = (self.number, self.cache.last());
                format!("client {number}, which knows {last}, reads {oid} before {before}: {cached:?}, it is {known:?}")
            });
            return;
        }
        if self.loads.contains_key(&(oid, before)) {
            return;
        }
        self.loads.insert((oid, before), self.cache.last());
        let arguments = [oid_value(oid), tid_value(before)];
        let id = zeolith_types::Value::Tuple(arguments.to_vec());
        self.send(&id, false, "loadBefore", &arguments, context);
    }

    /// In the calm at the end it asks for everything once.
    fn sweep(&mut self, context: &mut Context) {
        let objects: Vec<Oid> = context.history.objects().collect();
        for oid in objects {
            self.load(oid, Tid::MAX, context);
        }
        self.has_swept = true;
    }

    /// Compares its whole cache with the history, read at every tid.
    pub(crate) fn check_cache(&self, context: &mut Context) {
        self.cache.check(&context.history, &mut context.checks, self.number);
        self.cache.check_reads(&context.history, &mut context.checks, self.number);
        let (known, last) = (self.cache.last(), context.history.last());
        context.checks.ensure(known == last, Invariant::NoticedBeforeRevealed, || {
            format!("at the end client {} knows {known} and not {last}", self.number)
        });
    }

    fn any_object(&self, context: &mut Context) -> Oid {
        if context.random.chance(500) {
            return Oid::new(context.random.below(context.plan.hot));
        }
        if context.random.chance(20) {
            return Oid::new(1_000_000);
        }
        // What comes after the first objects are those that clients made.
        Oid::new(context.random.below(context.plan.objects * 2))
    }

    /// Mostly what a reader of today asks for, sometimes one of another day.
    fn any_bound(&self, context: &mut Context) -> Tid {
        match context.random.below(10) {
            0..=5 => Tid::new(self.cache.last().get() + 1),
            6..=8 => Tid::MAX,
            _ => {
                let tids: Vec<Tid> = context.history.tids(self.cache.last()).collect();
                if tids.is_empty() { Tid::MAX } else { context.random.pick(&tids) }
            }
        }
    }

    /// An object to change, of those in the cache.
    pub(super) fn choose(&self, context: &mut Context) -> Option<Oid> {
        let hot = Oid::new(context.random.below(context.plan.hot));
        if context.random.chance(600) && self.cache.current(hot).is_some() {
            return Some(hot);
        }
        let cached = self.cache.current_oids();
        if cached.is_empty() { None } else { Some(context.random.pick(&cached)) }
    }
}
