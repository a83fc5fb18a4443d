//! The connections of one worker that listen to one storage, and how each of them comes to know of a publication.
//!
//! A client that is silent, and owed nothing, is told by the worker itself, which writes the notices to its socket: to
//! wake a task for that costs as much again as the write. Every other connection is rung for, and writes what is
//! due at its place. Whoever is told stands at one tid, so nothing is told twice or left out: the connection says
//! up to where it has told its client when it goes to rest, and takes over what was told meanwhile when it wakes.

use crate::{host::Host, output::Output, socket::TryWrite};
use std::{
    sync::{Arc, Mutex, MutexGuard, TryLockError},
    task::{Poll, Waker},
};
use zeolith_core::{Outbox as _, Publication, SessionId};
use zeolith_types::Tid;
use zeolith_wire::Encoding;

/// All listeners of one worker to one storage.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// One behind the other in memory, for all of them are looked at when something is published.
    places: Vec<Option<Listener>>,
    free: Vec<usize>,
    /// The places of those that have gone to rest as committers since they were rung for.
    committers: Vec<usize>,
}

struct Listener {
    session: SessionId,
    /// `None` while it is awake: it looks for itself what is due before it rests.
    rest: Option<Rest>,
    is_rung: bool,
    encoding: Encoding,
    /// Wakes its task.
    waker: Option<Waker>,
    socket: Option<Arc<dyn TryWrite>>,
    /// The rest of notices of which the socket has taken a part.
    unsent: Vec<u8>,
}

/// How a connection rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Its client has been told of everything up to here, and nothing waits to be written: it can be told more.
    Told(Tid),
    /// Its transaction is being written, and its client waits for that.
    /// Its client has been told of everything up to here, if not more.
    Committing(Tid),
    /// Its client does not read, and is told nothing more: what is due already is no news.
    Unread,
    /// It wants to be woken.
    Otherwise,
}

/// What was told to the client of a connection that rested.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Everything up to here.
    pub(crate) through: Tid,
    /// What the socket has not taken of it.
    pub(crate) unsent: Vec<u8>,
}

impl Listeners {
    /// A new one; its place.
    pub(crate) fn join(
        &self,
        session: SessionId,
        encoding: Encoding,
        socket: Option<Arc<dyn TryWrite>>,
    ) -> usize {
        let (waker, unsent) = (None, Vec::new());
        let listener = Listener { session, rest: None, is_rung: false, encoding, waker, socket, unsent };
        let mut table = self.table();
        if let Some(place) = table.free.pop() {
            table.places[place] = Some(listener);
            return place;
        }
        table.places.push(Some(listener));
        table.places.len() - 1
    }

    /// It listens no more.
    pub(crate) fn leave(&self, place: usize) {
        let mut table = self.table();
        table.places[place] = None;
        table.free.push(place);
        table.committers.retain(|committer| *committer != place);
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        let table = self.table();
        table.places.len() - table.free.len()
    }

    /// Goes to rest until it is rung for.
    pub(crate) fn poll_rung(&self, place: usize, rest: Rest, waker: &Waker) -> Poll<()> {
        let mut table = self.table();
        let Some(listener) = table.listener(place) else { return Poll::Pending };
        if listener.is_rung {
            return Poll::Ready(());
        }
        match &listener.waker {
            Some(before) if before.will_wake(waker) => {}
            _ => listener.waker = Some(waker.clone()),
        }
        // Whoever looks again was told meanwhile, perhaps.
        if listener.rest.is_none() {
            listener.rest = Some(rest);
            if matches!(rest, Rest::Committing(_)) {
                table.committers.push(place);
            }
        }
        Poll::Pending
    }

    /// Rests no more; what its client was told meanwhile, if it could be told.
    pub(crate) fn wake_up(&self, place: usize) -> Option<Told> {
        let mut table = self.table();
        let listener = table.listener(place)?;
        listener.is_rung = false;
        match listener.rest.take()? {
            Rest::Told(through) => Some(Told { through, unsent: std::mem::take(&mut listener.unsent) }),
            Rest::Committing(_) => {
                table.committers.retain(|committer| *committer != place);
                None
            }
            Rest::Unread | Rest::Otherwise => None,
        }
    }

    /// Those of these sessions, which are in order, that rest as committers; all of them, if the worker is busy telling
    /// others, for whom whoever asks need not wait.
    pub(crate) fn committing(&self, sessions: &[SessionId]) -> Vec<SessionId> {
        let Some(table) = self.table_if_free() else { return sessions.to_vec() };
        let resting = table.committers.iter().filter_map(|place| table.session(*place));
        resting.filter(|session| sessions.binary_search(session).is_ok()).collect()
    }

    /// Rings for those of these sessions, which are in order, that rest as committers.
    pub(crate) fn ring_for(&self, sessions: &[SessionId]) {
        if sessions.is_empty() {
            return;
        }
        let mut table = self.table();
        let committers = std::mem::take(&mut table.committers);
        for place in committers {
            match table.session(place) {
                Some(session) if sessions.binary_search(&session).is_err() => table.committers.push(place),
                _ => {
                    if let Some(listener) = table.listener(place) {
                        listener.ring();
                    }
                }
            }
        }
    }

    /// Whether any that rests has not been told of everything up to `tid`, but for committers among these, which are in
    /// order; and if the worker is busy telling others.
    pub(crate) fn is_anybody_behind(&self, tid: Tid, but_for: &[SessionId]) -> bool {
        let Some(table) = self.table_if_free() else { return true };
        table.places.iter().flatten().any(|listener| {
            let hears = || {
                matches!(listener.rest, Some(Rest::Committing(_)))
                    && but_for.binary_search(&listener.session).is_ok()
            };
            listener.is_behind(tid) && !hears()
        })
    }

    /// What all that rest and can be told have been told of.
    pub(crate) fn least_told(&self) -> Option<Tid> {
        let told = |listener: &Listener| match listener.rest {
            Some(Rest::Told(told)) => Some(told),
            _ => None,
        };
        self.table().places.iter().flatten().filter_map(told).min()
    }

    /// Tells or rings for those at the places from `from` on, so many that nobody else waits for long; where to go on,
    /// if that were not all.
    pub(crate) fn tell(&self, from: usize, notices: &mut Notices) -> Option<usize> {
        let mut table = self.table();
        let to = table.places.len().min(from + AT_A_TIME);
        for listener in table.places[from.min(to)..to].iter_mut().flatten() {
            if listener.is_behind(notices.behind) {
                listener.tell(notices);
            }
        }
        (to < table.places.len()).then_some(to)
    }

    fn table_if_free(&self) -> Option<MutexGuard<'_, Table>> {
        match self.0.try_lock() {
            Ok(table) => Some(table),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(_)) => Some(self.table()),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nobody panics while looking after listeners")
    }
}

impl Table {
    fn session(&self, place: usize) -> Option<SessionId> {
        self.places.get(place)?.as_ref().map(|listener| listener.session)
    }

    fn listener(&mut self, place: usize) -> Option<&mut Listener> {
        self.places.get_mut(place)?.as_mut()
    }
}

impl Listener {
    /// Whether it rests, and has not been told of everything up to `tid`.
    fn is_behind(&self, tid: Tid) -> bool {
        match self.rest {
            Some(Rest::Told(told) | Rest::Committing(told)) => told < tid,
            Some(Rest::Unread | Rest::Otherwise) => !self.is_rung,
            None => false,
        }
    }

    fn tell(&mut self, notices: &mut Notices) {
        let Some(Rest::Told(told)) = self.rest else { return self.ring() };
        let through = notices.through;
        if told >= through {
            return;
        }
        let (Some(socket), true) = (&self.socket, self.unsent.is_empty()) else { return self.ring() };
        let Some(bytes) = notices.after(told, self.encoding) else { return self.ring() };
        // What is wrong with the socket its connection will see for itself.
        let Ok(written @ 1..) = socket.try_write(bytes) else { return self.ring() };
        self.rest = Some(Rest::Told(through));
        if written < bytes.len() {
            self.unsent.extend_from_slice(bytes.get(written..).unwrap_or_default());
            self.ring();
        }
    }

    fn ring(&mut self) {
        if self.rest.is_some()
            && !std::mem::replace(&mut self.is_rung, true)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }
}

/// What was published after one tid, up to and including another, put into words once for all.
pub(crate) struct Notices {
    publications: Vec<Arc<Publication>>,
    after: Tid,
    through: Tid,
    /// Who knows of everything up to here can wait.
    behind: Tid,
    msgpack: Option<Words>,
    pickle: Option<Words>,
}

/// Publications in one encoding.
struct Words {
    bytes: Vec<u8>,
    /// Where the words for each publication end.
    ends: Vec<usize>,
}

impl Notices {
    /// What `host` has published after `after`, for those who are `behind`. Empty, as if it began with `through`, if its
    /// log does not reach back that far.
    pub(crate) fn between(host: &Host, after: Tid, through: Tid, behind: Tid) -> Self {
        let log = host.log();
        let publications = log.between(after, through).map(|publications| publications.cloned().collect());
        let (after, publications) = publications.map_or((through, Vec::new()), |all| (after, all));
        Self { publications, after, through, behind, msgpack: None, pickle: None }
    }

    /// The words for what comes after `told`; `None` if that is not known, or too much to be said in passing.
    fn after(&mut self, told: Tid, encoding: Encoding) -> Option<&[u8]> {
        if told < self.after {
            return None;
        }
        let words = match encoding {
            Encoding::Msgpack => &mut self.msgpack,
            Encoding::Pickle => &mut self.pickle,
        };
        let words = words.get_or_insert_with(|| Words::of(&self.publications, encoding));
        let known = self.publications.partition_point(|publication| publication.tid <= told);
        let begin = known.checked_sub(1).map_or(Some(0), |last| words.ends.get(last).copied())?;
        words.bytes.get(begin..).filter(|bytes| bytes.len() <= IN_PASSING)
    }
}

impl Words {
    fn of(publications: &[Arc<Publication>], encoding: Encoding) -> Self {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(publications.len());
        for publication in publications {
            Output { out: &mut bytes, encoding, host: None }.invalidate(publication);
            ends.push(bytes.len());
        }
        Self { bytes, ends }
    }
}

/// So many are told before the worker looks after its other work: a quarter of a millisecond.
const AT_A_TIME: usize = 32;
/// Bytes that a socket takes without much ado. Who is to be told more is woken.
const IN_PASSING: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{self, Scripted};
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::{Context, Wake},
    };
    use zeolith_types::Oid;

    const SESSION: SessionId = SessionId(3);

    /// Takes so many bytes, and keeps them.
    struct Taker {
        room: AtomicUsize,
        taken: Mutex<Vec<u8>>,
    }

    impl Taker {
        fn with_room(bytes: usize) -> Arc<Self> {
            Arc::new(Self { room: AtomicUsize::new(bytes), taken: Mutex::default() })
        }

        fn taken(&self) -> Vec<u8> {
            std::mem::take(&mut *self.taken.lock().unwrap())
        }
    }

    impl TryWrite for Taker {
        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room.load(Relaxed));
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room.fetch_sub(taken, Relaxed);
            self.taken.lock().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// One listener to a host that has published the transactions 1 to 3, and how often it was woken.
    struct Listening {
        host: Arc<Host>,
        listeners: Listeners,
        place: usize,
        woken: Arc<Woken>,
    }

    impl Listening {
        fn through(socket: &Arc<Taker>) -> Self {
            let (host, _) = scripted::host(Scripted::default());
            for tid in 1..=3 {
                publish(&host, tid, 1);
            }
            let listeners = Listeners::default();
            let place = listeners.join(SESSION, Encoding::Msgpack, Some(Arc::<Taker>::clone(socket)));
            Self { host, listeners, place, woken: Arc::default() }
        }

        fn rests(&self, rest: Rest) -> Poll<()> {
            self.listeners.poll_rung(self.place, rest, &Waker::from(Arc::clone(&self.woken)))
        }

        fn tell(&self, after: u64, through: u64) {
            let through = Tid::new(through);
            let mut notices = Notices::between(&self.host, Tid::new(after), through, through);
            assert_eq!(self.listeners.tell(0, &mut notices), None);
        }

        fn times_woken(&self) -> usize {
            self.woken.0.load(Relaxed)
        }
    }

    fn publish(host: &Host, tid: u64, objects: usize) {
        let oids = (0..objects as u64).map(|number| Oid::new(tid * 100 + number)).collect();
        host.log_mut().append([Publication { tid: Tid::new(tid), oids, committer: None }]);
    }

    /// What a session says of these transactions.
    fn notices(host: &Host, tids: std::ops::RangeInclusive<u64>) -> Vec<u8> {
        let (after, through) = (Tid::new(*tids.start() - 1), Tid::new(*tids.end()));
        let mut out = Vec::new();
        for publication in host.log().between(after, through).unwrap() {
            Output { out: &mut out, encoding: Encoding::Msgpack, host: None }.invalidate(publication);
        }
        out
    }

    fn told(through: u64, unsent: &[u8]) -> Option<Told> {
        Some(Told { through: Tid::new(through), unsent: unsent.to_vec() })
    }

    #[test]
    fn who_is_silent_is_told_without_being_woken() {
        let socket = Taker::with_room(10_000);
        let client = Listening::through(&socket);
        assert!(client.rests(Rest::Told(Tid::ZERO)).is_pending());
        client.tell(0, 2);
        assert_eq!(socket.taken(), notices(&client.host, 1..=2));
        client.tell(2, 3);
        assert_eq!(socket.taken(), notices(&client.host, 3..=3));
        client.tell(3, 3);
        assert_eq!((socket.taken(), client.times_woken()), (vec![], 0));
        assert_eq!(client.listeners.wake_up(client.place), told(3, &[]));
    }

    #[test]
    fn who_knows_a_part_is_told_the_rest() {
        let socket = Taker::with_room(10_000);
        let client = Listening::through(&socket);
        assert!(client.rests(Rest::Told(Tid::new(1))).is_pending());
        client.tell(0, 3);
        assert_eq!(socket.taken(), notices(&client.host, 2..=3));
    }

    #[test]
    fn what_was_told_is_remembered_by_who_looks_again_for_nothing() {
        let socket = Taker::with_room(10_000);
        let client = Listening::through(&socket);
        assert!(client.rests(Rest::Told(Tid::ZERO)).is_pending());
        client.tell(0, 2);
        assert!(client.rests(Rest::Told(Tid::ZERO)).is_pending());
        client.tell(2, 3);
        assert_eq!(socket.taken(), notices(&client.host, 1..=3));
    }

    #[test]
    fn what_the_socket_does_not_take_its_connection_writes_and_nothing_comes_between() {
        let socket = Taker::with_room(10);
        let client = Listening::through(&socket);
        assert!(client.rests(Rest::Told(Tid::ZERO)).is_pending());
        client.tell(0, 2);
        let (all, taken) = (notices(&client.host, 1..=2), socket.taken());
        assert_eq!((taken.as_slice(), client.times_woken()), (&all[..10], 1));
        socket.room.store(10_000, Relaxed);
        client.tell(2, 3);
        assert!(socket.taken().is_empty());
        assert!(client.rests(Rest::Told(Tid::ZERO)).is_ready(), "it was rung for");
        assert_eq!(client.listeners.wake_up(client.place), told(2, &all[10..]));
    }

    #[test]
    fn who_can_not_be_told_is_woken_and_has_been_told_nothing() {
        for (rest, room, after) in [
            (Rest::Told(Tid::new(1)), 0, 1),
            (Rest::Told(Tid::ZERO), 10_000, 1),
            (Rest::Otherwise, 10_000, 0),
            (Rest::Committing(Tid::ZERO), 10_000, 0),
            (Rest::Unread, 10_000, 0),
        ] {
            let socket = Taker::with_room(room);
            let client = Listening::through(&socket);
            assert!(client.rests(rest).is_pending());
            client.tell(after, 3);
            assert_eq!((socket.taken(), client.times_woken()), (vec![], 1), "{rest:?}");
            assert!(client.rests(rest).is_ready());
            let through = if let Rest::Told(tid) = rest { told(tid.get(), &[]) } else { None };
            assert_eq!(client.listeners.wake_up(client.place), through);
        }
    }

    #[test]
    fn who_knows_enough_is_told_nothing_and_keeps_nobody_busy() {
        for (rest, behind, words) in [
            (Rest::Told(Tid::new(1)), 1, 0..0),
            (Rest::Told(Tid::new(1)), 2, 2..4),
            (Rest::Committing(Tid::new(2)), 2, 0..0),
        ] {
            let socket = Taker::with_room(10_000);
            let client = Listening::through(&socket);
            assert!(client.rests(rest).is_pending());
            assert_eq!(
                client.listeners.is_anybody_behind(Tid::new(behind), &[]),
                !words.is_empty(),
                "{rest:?}"
            );
            let mut notices = Notices::between(&client.host, Tid::ZERO, Tid::new(3), Tid::new(behind));
            assert_eq!(client.listeners.tell(0, &mut notices), None);
            let expected = if words.is_empty() {
                vec![]
            } else {
                self::notices(&client.host, words.start..=words.end - 1)
            };
            assert_eq!((socket.taken(), client.times_woken()), (expected, 0), "{rest:?}");
        }
        let client = Listening::through(&Taker::with_room(0));
        assert!(!client.listeners.is_anybody_behind(Tid::MAX, &[]), "it is awake");
        for rest in [Rest::Unread, Rest::Otherwise] {
            assert!(client.rests(rest).is_pending());
            assert!(client.listeners.is_anybody_behind(Tid::new(1), &[]));
            client.tell(0, 3);
            assert!(!client.listeners.is_anybody_behind(Tid::new(1), &[]), "it was rung for");
            client.listeners.wake_up(client.place);
        }
    }

    #[test]
    fn who_asks_does_not_wait_for_a_worker_that_tells_others() {
        let client = Listening::through(&Taker::with_room(0));
        let _telling = client.listeners.table();
        assert_eq!(client.listeners.committing(&[SESSION]), [SESSION]);
        assert!(client.listeners.is_anybody_behind(Tid::ZERO, &[]));
    }

    #[test]
    fn who_hears_with_the_answer_is_not_behind_and_nobody_else_is_overlooked() {
        let client = Listening::through(&Taker::with_room(0));
        assert!(client.rests(Rest::Committing(Tid::ZERO)).is_pending());
        assert!(client.listeners.is_anybody_behind(Tid::new(1), &[]));
        assert!(!client.listeners.is_anybody_behind(Tid::new(1), &[SESSION]));
        client.listeners.wake_up(client.place);
        assert!(client.rests(Rest::Told(Tid::ZERO)).is_pending());
        assert!(client.listeners.is_anybody_behind(Tid::new(1), &[SESSION]));
    }

    #[test]
    fn words_begin_where_the_first_of_those_stands_who_can_be_told() {
        let client = Listening::through(&Taker::with_room(0));
        assert_eq!(client.listeners.least_told(), None);
        assert!(client.rests(Rest::Told(Tid::new(2))).is_pending());
        let other = client.listeners.join(SessionId(9), Encoding::Msgpack, None);
        let rest = |rest| client.listeners.poll_rung(other, rest, Waker::noop());
        assert!(rest(Rest::Committing(Tid::new(1))).is_pending());
        assert_eq!(client.listeners.least_told(), Some(Tid::new(2)));
        client.listeners.wake_up(other);
        assert!(rest(Rest::Told(Tid::new(1))).is_pending());
        assert_eq!(client.listeners.least_told(), Some(Tid::new(1)));
    }

    #[test]
    fn what_is_long_is_not_said_in_passing() {
        let socket = Taker::with_room(1 << 20);
        let client = Listening::through(&socket);
        publish(&client.host, 4, IN_PASSING / 8);
        assert!(client.rests(Rest::Told(Tid::new(3))).is_pending());
        client.tell(3, 4);
        assert_eq!((socket.taken(), client.times_woken()), (vec![], 1));
    }

    #[test]
    fn who_is_awake_is_left_alone() {
        let socket = Taker::with_room(10_000);
        let client = Listening::through(&socket);
        client.tell(0, 3);
        assert!(client.rests(Rest::Told(Tid::new(3))).is_pending());
        client.listeners.wake_up(client.place);
        client.tell(3, 3);
        assert!(client.rests(Rest::Otherwise).is_pending());
        assert_eq!((socket.taken(), client.times_woken()), (vec![], 0));
    }

    #[test]
    fn only_those_that_rest_as_committers_are_rung_for_as_such() {
        let client = Listening::through(&Taker::with_room(10_000));
        assert!(client.rests(Rest::Committing(Tid::ZERO)).is_pending());
        client.listeners.wake_up(client.place);
        assert!(client.rests(Rest::Otherwise).is_pending());
        assert_eq!(client.listeners.committing(&[SESSION]), []);
        client.listeners.ring_for(&[SESSION]);
        assert_eq!(client.times_woken(), 0);
        client.listeners.wake_up(client.place);
        assert!(client.rests(Rest::Committing(Tid::ZERO)).is_pending());
        assert_eq!(client.listeners.committing(&[SESSION, SessionId(9)]), [SESSION]);
        assert_eq!(client.listeners.committing(&[SessionId(9)]), []);
        client.listeners.ring_for(&[SessionId(9)]);
        assert_eq!(client.times_woken(), 0, "another one's transaction was written");
        client.listeners.ring_for(&[SESSION, SessionId(9)]);
        assert_eq!(client.times_woken(), 1);
    }

    #[test]
    fn many_are_told_by_and_by_and_a_place_that_is_free_is_taken_again() {
        let client = Listening::through(&Taker::with_room(0));
        let places: Vec<_> =
            (0..2 * AT_A_TIME).map(|_| client.listeners.join(SessionId(9), Encoding::Pickle, None)).collect();
        let mut notices = Notices::between(&client.host, Tid::ZERO, Tid::new(3), Tid::new(3));
        assert_eq!(client.listeners.tell(0, &mut notices), Some(AT_A_TIME));
        assert_eq!(client.listeners.tell(AT_A_TIME, &mut notices), Some(2 * AT_A_TIME));
        assert_eq!(client.listeners.tell(2 * AT_A_TIME, &mut notices), None);
        client.listeners.leave(places[5]);
        assert_eq!(client.listeners.count(), 2 * AT_A_TIME);
        assert_eq!(client.listeners.join(SessionId(9), Encoding::Pickle, None), places[5]);
    }
}
