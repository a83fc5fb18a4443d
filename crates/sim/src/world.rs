//! One run from its beginning to its end: lets events happen, makes things go wrong, and sees to the calm
//! at the end in which everything must come right.

use crate::{
    Options, Sabotage,
    checks::{Checks, Invariant, Violation},
    client::Client,
    context::{Context, Counts},
    disk::{Crash, Lies, SimDisk},
    history::History,
    network::{Network, Toward},
    plan::Plan,
    python,
    random::Random,
    record::record,
    schedule::{Event, Schedule},
    server::{PATH, Server},
    trace::Trace,
};
use bytes::Bytes;
use std::{collections::BTreeSet, ops::ControlFlow, path::Path, sync::Arc};
use zeolith_filestorage::FileStorage;
use zeolith_storage::{ConflictPolicy, PackOutcome, Patience, Storage, TransactionId, Write, WriteSet};
use zeolith_types::{Oid, Tid};

/// Everything there is.
pub(crate) struct World {
    pub(crate) context: Context,
    disk: SimDisk,
    /// For what was thought of later, so that runs without it stay as they are.
    later: Random,
    server: Option<Server>,
    boots: u64,
    clients: Vec<Client>,
    is_packing: bool,
}

impl World {
    pub(crate) fn new(seed: u64, options: &Options, trace_lines: usize) -> Self {
        let mut random = Random::new(seed);
        let mut later = Random::new(!seed);
        let plan = Plan::new(&mut random, &mut later, options);
        let disk = SimDisk::new(random.fork());
        let context = Context {
            plan,
            random,
            schedule: Schedule::default(),
            network: Network::default(),
            history: History::default(),
            checks: Checks::default(),
            trace: Trace::new(trace_lines),
            boot: None,
            skew_micros: 0,
            calm: false,
            counts: Counts::default(),
            sessions: 0,
            unruly: BTreeSet::new(),
        };
        Self { context, disk, later, server: None, boots: 0, clients: Vec::new(), is_packing: false }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { checks: self.context.checks.done(), ..self.context.counts }
    }

    /// Runs to the end, or to the first thing that is wrong.
    pub(crate) fn run(&mut self) -> Option<Violation> {
        self.begin();
        let events = self.context.plan.options.events;
        while !self.is_over() {
            let Some(event) = self.context.schedule.next() else {
                self.stalled("nothing more happens");
                break;
            };
            self.happen(event);
            if !self.context.calm && self.context.counts.events >= events {
                self.calm_down();
            }
            if self.context.counts.events >= events + CALM_EVENTS_MAX {
                self.stalled("the calm does not end");
            }
        }
        self.end();
        self.context.checks.take()
    }

    fn is_over(&self) -> bool {
        self.context.checks.has_failed() || (self.context.calm && self.clients.iter().all(Client::is_done))
    }

    fn stalled(&mut self, what: &str) {
        let clients: Vec<String> = self.clients.iter().map(Client::describe).collect();
        let server = self.server.as_ref().map(Server::describe);
        let what = format!("{what}: {clients:#?} {server:#?}");
        self.context.checks.fail(Invariant::NoLockOutlivesItsSession, what);
    }

    /// A database with some objects, a server and clients.
    fn begin(&mut self) {
        let plan = format!("{:?}", self.context.plan);
        self.context.note(format_args!("{plan}"));
        if let Err(error) = self.first_objects() {
            return self.context.checks.fail(Invariant::NoPanic, format!("making the database: {error}"));
        }
        let cold = self.context.plan.cold;
        let lies = match self.context.plan.options.sabotage {
            Some(Sabotage::ReplyBeforeSync) => Lies::All,
            Some(Sabotage::ReplyBeforeWatermark) => Lies::Watermark,
            _ => Lies::None,
        };
        self.disk.with_faults(|faults| {
            faults.cold = cold;
            faults.lies = lies;
        });
        self.start();
        let clients = self.context.plan.clients;
        let client = |number| Client::new(number, self.later.fork(), &mut self.context);
        self.clients = (0..clients).map(client).collect();
        self.next_fault();
    }

    fn first_objects(&mut self) -> zeolith_storage::Result<()> {
        let disk = Arc::new(self.disk.clone());
        let (storage, _) = FileStorage::open(disk, Path::new(PATH), self.context.plan.storage_options())?;
        let all: Vec<Oid> = (0..self.context.plan.objects).map(Oid::new).collect();
        let references = |number| if number == 0 { all.as_slice() } else { &[] };
        let store = |number| Write::Store {
            oid: Oid::new(number),
            serial: Tid::ZERO,
            data: record(&format!("first record of {number}"), (0, 0), references(number)).into(),
        };
        let writes = (0..self.context.plan.objects).map(store).collect();
        let writes =
            WriteSet { description: Bytes::from_static(b"the beginning"), writes, ..WriteSet::default() };
        let id = TransactionId(u64::MAX);
        storage.vote(id, writes.clone(), ConflictPolicy::Refuse, Patience::Wait)?;
        let time = self.context.clock(0).time;
        for tid in storage.finish(&[id], time) {
            let tid = tid?;
            let changes = self.context.history.changes(&writes, &[]);
            self.context.history.commit(tid, &writes.description, changes, &mut self.context.checks);
            storage.publish(tid);
        }
        storage.close()
    }

    fn happen(&mut self, event: Event) {
        let Self { context, server, clients, .. } = self;
        context.counts.events += 1;
        match (event, server) {
            (Event::Client(number), server) => {
                let connected = clients[number].act(context);
                if let (Some(id), Some(server)) = (connected, server) {
                    server.accept(id, context);
                }
            }
            (Event::ToClient(id), server) => {
                if let Some(number) = context.network.client(id) {
                    clients[number].arrive(id, context);
                }
                if let Some(server) = server {
                    server.drained(id, context);
                }
            }
            (Event::Fault, _) => self.fault(),
            (Event::Start, _) => self.start(),
            (Event::Pack(boot), _) => self.pack(boot),
            (event, Some(server)) => serve(server, event, context),
            (_, None) => {}
        }
        self.see_to_the_server();
    }

    /// Whether the process has died, or must be started again by somebody.
    fn see_to_the_server(&mut self) {
        if self.disk.is_dead() && self.server.is_some() {
            let crash = self.context.random.pick(&self.context.plan.crashes);
            self.crash(crash);
        }
    }

    fn next_fault(&mut self) {
        if let Some(most) = self.context.plan.fault_every
            && !self.context.calm
        {
            self.context.soon(most, Event::Fault);
        }
    }

    fn fault(&mut self) {
        self.next_fault();
        let Some(server) = &mut self.server else { return };
        if self.context.calm {
            return;
        }
        if server.is_poisoned {
            let crash = self.context.random.pick(&self.context.plan.crashes);
            return self.crash(crash);
        }
        let context = &mut self.context;
        match context.random.below(16) {
            0 | 1 => {
                let crash = context.random.pick(&context.plan.crashes);
                self.crash(crash);
            }
            2..=6 => {
                let changes = context.random.below(6) as u32;
                context.note(format_args!("the process will die after {changes} changes of the disk"));
                self.disk.with_faults(|faults| faults.dies_in = Some(changes));
            }
            7 => {
                context.note(format_args!("the disk is full"));
                self.disk.with_faults(|faults| faults.full = true);
            }
            8 | 9 => {
                context.note(format_args!("the disk has space"));
                self.disk.with_faults(|faults| faults.full = false);
            }
            10 => {
                context.note(format_args!("a sync will fail"));
                self.disk.with_faults(|faults| faults.syncs = 1);
            }
            11 => {
                context.note(format_args!("a write will fail"));
                self.disk.with_faults(|faults| faults.writes = 1);
            }
            12 => {
                let event = context.random.pick(&[Event::Checkpoint(self.boots), Event::Rest(self.boots)]);
                context.soon(100, event);
            }
            13 => {
                let hours = context.random.between(0, 4) as i64 - 2;
                context.note(format_args!("the clock jumps by {hours} hours"));
                context.skew_micros += hours * 3_600_000_000;
            }
            14 => self.restart(),
            _ => {
                let ids = server.sessions();
                if let Some(id) = ids.first().map(|_| context.random.pick(&ids)) {
                    context.note(format_args!("the connection {} breaks", id.0));
                    context.network.cut(id, &mut context.schedule, &mut context.random);
                }
            }
        }
    }

    /// The storage is packed. Whenever it tells how far it is, other things happen.
    fn pack(&mut self, boot: u64) {
        let Some(server) = &mut self.server else { return };
        let Some(request) = server.next_pack(boot) else { return };
        let storage = Arc::clone(&server.storage);
        let disk = self.disk.clone();
        let begins = !std::mem::replace(&mut self.is_packing, true);
        if begins {
            disk.pack_begins();
            let collects_garbage = self.context.plan.pack_gc;
            // What is durable and not visible yet comes after it, like whatever is committed meanwhile.
            let until = request.time.to_tid().min(storage.last_transaction());
            self.context.history.pack_begins(until, collects_garbage);
        }
        self.context.note(format_args!("pack to {} begins", request.time.to_tid()));
        let mut reports_of_switch = 0;
        let outcome = storage.pack(request.time, &mut |_| {
            if disk.is_switching() {
                reports_of_switch += 1;
            }
            // A vote that undoes and is open now would never end, as nothing else happens.
            if reports_of_switch > SWITCH_REPORTS_MAX || self.context.random.chance(3) {
                return ControlFlow::Break(());
            }
            self.pack_goes_on(boot, &disk)
        });
        self.is_packing &= !begins;
        if disk.is_dead() {
            return self.context.note(format_args!("the pack ends with the process"));
        }
        self.context.note(format_args!("pack: {outcome:?}"));
        self.context.counts.packs += u64::from(matches!(outcome, Ok(PackOutcome::Packed { .. })));
        self.context.history.compare_loads(&*storage, &mut self.context.checks);
        if let Some(server) = self.server.as_mut().filter(|server| server.is_boot(boot)) {
            server.packed(request, outcome, &mut self.context);
        }
    }

    /// Some events in the middle of a pack.
    fn pack_goes_on(&mut self, boot: u64, disk: &SimDisk) -> ControlFlow<()> {
        let count = if disk.is_switching() { 0 } else { self.context.random.below(3) };
        for _ in 0..count {
            if self.is_over() || self.server.as_ref().is_none_or(|server| !server.is_boot(boot)) {
                return ControlFlow::Break(());
            }
            if let Some(event) = self.context.schedule.next() {
                self.happen(event);
            }
        }
        if disk.is_dead() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The process ends in good order and is started again.
    fn restart(&mut self) {
        if self.is_packing {
            // The real server ends the pack first; here it ends with the process.
            let crash = self.context.random.pick(&self.context.plan.crashes);
            return self.crash(crash);
        }
        let Some(server) = &mut self.server else { return };
        self.context.note(format_args!("the server is stopped"));
        let stopped = server.stop(&mut self.context);
        self.context.note(format_args!("stopped: {stopped:?}"));
        let crash = self.context.random.pick(&self.context.plan.crashes);
        self.crash(crash);
    }

    /// The process ends without warning.
    fn crash(&mut self, crash: Crash) {
        let Some(server) = self.server.take() else { return };
        self.context.note(format_args!("the server process ends: {crash:?}"));
        self.context.counts.crashes += 1;
        if self.disk.content(Path::new(PATH)).is_some_and(|bytes| bytes.ends_with(&[0; 100])) {
            self.context.counts.crashes_with_room += 1;
        }
        for id in server.sessions() {
            self.context.close(id, Toward::Server);
        }
        self.next_disk(crash);
        if crash == Crash::Killed {
            let opens = self.disk.content(Path::new(PATH)).map_or(Ok(0), |bytes| python::opens(&bytes));
            let why = opens.as_ref().err().cloned().unwrap_or_default();
            self.context.checks.ensure(opens.is_ok(), Invariant::PythonCanBeFirst, || why);
        }
        self.context.boot = None;
        let delay = self.context.random.between(100, 10_000);
        self.context.schedule.after(delay, Event::Start);
    }

    fn next_disk(&mut self, crash: Crash) {
        self.disk = self.disk.crash(crash);
        if self.context.plan.options.sabotage == Some(Sabotage::TornTailAccepted) {
            self.disk.forget_watermark();
        }
    }

    fn start(&mut self) {
        if self.server.is_some() {
            return;
        }
        self.boots += 1;
        if !self.context.calm && self.context.random.chance(100) && self.boots > 1 {
            let changes = self.context.random.below(4) as u32;
            self.disk.with_faults(|faults| faults.dies_in = Some(changes));
        }
        match Server::start(self.boots, self.disk.clone(), &mut self.context) {
            Ok(server) => {
                let compared = self.context.history.compare(&*server.storage, &mut self.context.checks);
                if let Err(error) = compared
                    && !self.disk.is_dead()
                {
                    self.context.checks.fail(Invariant::NoneIsHalfThere, error);
                }
                self.context.boot = Some(self.boots);
                self.server = Some(server);
            }
            Err(_) if self.disk.is_dead() => {
                let crash = self.context.random.pick(&self.context.plan.crashes);
                self.context.note(format_args!("the process dies while it starts: {crash:?}"));
                self.next_disk(crash);
                self.context.schedule.after(1_000, Event::Start);
            }
            Err(error) => {
                let what = format!("the storage does not open any more: {error}");
                self.context.checks.fail(Invariant::NoneIsHalfThere, what);
            }
        }
    }

    /// No more faults. Who has lost something gets another chance, and must use it.
    fn calm_down(&mut self) {
        self.context.note(format_args!("calm"));
        self.context.calm = true;
        self.disk.with_faults(|faults| {
            *faults = crate::disk::Faults { cold: faults.cold, lies: faults.lies, ..Default::default() };
        });
        if self.server.as_ref().is_some_and(|server| server.is_poisoned) {
            self.crash(Crash::Killed);
        }
    }

    /// All clients have seen everything and committed: nothing is lost, nothing is held, and the next process
    /// finds it all.
    fn end(&mut self) {
        self.drain();
        for client in &self.clients {
            if !self.context.checks.has_failed() {
                client.check_cache(&mut self.context);
            }
        }
        for id in self.clients.iter().filter_map(Client::connection) {
            self.context.close(id, Toward::Client);
        }
        self.drain();
        if self.context.checks.has_failed() {
            return;
        }
        if let Some(server) = &mut self.server {
            server.check_that_nothing_is_held(&mut self.context);
        }
        self.restart();
        self.drain();
    }

    fn drain(&mut self) {
        let mut left = CALM_EVENTS_MAX;
        while !self.context.checks.has_failed() && left > 0 {
            let Some(event) = self.context.schedule.next() else { return };
            self.happen(event);
            left -= 1;
        }
    }
}

fn serve(server: &mut Server, event: Event, context: &mut Context) {
    match event {
        Event::ToServer(id) => server.arrive(id, context),
        Event::Wake(id) => server.run(id, context),
        Event::PoolRuns(number) => server.pool_runs(number, context),
        Event::PoolAnswers(number) => server.pool_answers(number, context),
        Event::LogWriter(boot) => server.log_writer_step(boot, context),
        Event::Deadline(boot) => server.deadline(boot, context),
        Event::Checkpoint(boot) => server.checkpoint(boot, context),
        Event::Rest(boot) => server.rest(boot, context),
        Event::ToClient(_) | Event::Client(_) | Event::Pack(_) | Event::Fault | Event::Start => {}
    }
}

/// So often a pack may report after commits have been stopped for it.
const SWITCH_REPORTS_MAX: u32 = 10;
/// Events that it may take until everybody is done.
const CALM_EVENTS_MAX: u64 = 60_000;
