//! What is said on a connection: does what the core's session decides, with the storage and its host.
//!
//! `reads.rs` has the way of a load, `votes.rs` what a commit asks of the storage, `blobs.rs` uploads and
//! downloads.

mod blobs;
mod reads;
mod votes;

use crate::{
    bell::Bell,
    blob_stream::BlobStream,
    connection::Shared,
    ended::Ended,
    host::{Host, Mail},
    jobs::Job,
    listeners::{Rest, Told},
    log,
    log_writer::Finish,
    mailbox::Mailbox,
    output::Output,
    packing,
    pipe::Pipe,
    slow_loads::{Asked, SlowLoads},
    socket::TryWrite,
    spool::PutAside,
    workers::{Seat, Table},
};
pub(crate) use blobs::Upload;
use bytes::Bytes;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use zeolith_core::{
    Answer, Caller, CloseReason, Iterators, Outbox as _, Read, Rules, Session, SessionId, Step,
};
use zeolith_types::{Refusal, Reply, Tid};
use zeolith_wire::{Encoding, Incoming};

/// What is said on a connection: the session, and what it needs of the server.
pub(crate) struct Conversation {
    pub(crate) session: Session,
    encoding: Encoding,
    peer: String,
    label: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) host: Option<Arc<Host>>,
    pub(crate) seat: Seat,
    /// Rings when something is published, from the registration on.
    pub(crate) bell: Option<Bell>,
    pub(crate) mailbox: Arc<Mailbox>,
    iterators: Iterators,
    put_aside: PutAside,
    /// The transaction that was voted last is no large one.
    voted_small: bool,
    pub(crate) slow_loads: SlowLoads,
    /// The blob that the client is uploading.
    upload: Option<Upload>,
    /// The blob that is to be sent now; everything else waits behind it.
    pub(crate) stream: Option<BlobStream>,
}

impl Conversation {
    /// The encoding that the client has chosen.
    pub(crate) const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// How log lines name the peer.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn new(
        id: SessionId,
        peer: String,
        encoding: Encoding,
        shared: Arc<Shared>,
        seat: Seat,
    ) -> Self {
        let rules = Rules {
            collects_conflicts: shared.settings.client_conflict_resolution,
            transaction_memory_max: shared.settings.transaction_memory_max,
            transaction_size_max: shared.settings.transaction_size_max,
        };
        Self {
            session: Session::new(id, rules),
            encoding,
            label: peer.clone(),
            peer,
            host: None,
            seat,
            bell: None,
            mailbox: Arc::default(),
            iterators: Iterators::new(shared.settings.iterators_max),
            slow_loads: SlowLoads::new(shared.settings.client_queue_max),
            shared,
            put_aside: PutAside::default(),
            voted_small: false,
            upload: None,
            stream: None,
        }
    }

    /// Takes one frame; what can't be done here and now comes back as a job.
    pub(crate) fn receive(&mut self, frame: &Bytes, out: &mut Vec<u8>) -> Result<Option<Job>, Ended> {
        let call = match zeolith_wire::decode(self.encoding, frame).map_err(Ended::Wire)? {
            Incoming::Heartbeat => return Ok(None),
            Incoming::Call(call) => call,
            Incoming::UnknownMethod { name } => {
                return Err(Ended::Core(CloseReason::InvalidMethod(name)));
            }
            Incoming::BadArguments { method, .. } if !self.session.admits(method) => {
                return Err(Ended::Core(CloseReason::InvalidMethod(method.to_owned())));
            }
            Incoming::BadArguments { id, one_way, method, refusal } => {
                let refusal = match method {
                    "storea" if one_way => match self.session.store_refused(refusal) {
                        Ok(()) => return Ok(None),
                        Err(refusal) => refusal,
                    },
                    _ => refusal,
                };
                self.answer(Answer { to: Caller { id, one_way, method }, result: Err(refusal) }, out)?;
                return Ok(None);
            }
        };
        let step = self.session.receive(call);
        self.take(step, out)
    }

    fn take(&mut self, step: Step, out: &mut Vec<u8>) -> Result<Option<Job>, Ended> {
        match step {
            Step::Read(caller, Read::LoadBefore(oid, before)) => {
                self.load(Asked { caller, oid, before, repeats: 0 }, out).map(|()| None)
            }
            Step::Done => Ok(None),
            Step::Answer(answer) => self.answer(answer, out).map(|()| None),
            Step::Close(reason) => Err(Ended::Core(reason)),
            Step::Register { to, storage, read_only } => {
                self.register(to, &storage, read_only, out).map(|()| None)
            }
            Step::Read(to, read) => self.read(to, read, out),
            Step::Lock(locks) => {
                let Some(host) = &self.host else { return Ok(None) };
                let token = self.session.token().cloned();
                let (transaction, lock) = host.lock(self.session.id(), locks, token);
                match self.session.locked(transaction, lock) {
                    Some(request) => self.vote(request, out),
                    None => Ok(None),
                }
            }
            Step::Pack { to, time, wait } => {
                let Some(host) = self.host.clone() else { return Ok(None) };
                let answer = Answer { to, result: Ok(Reply::None) };
                if wait {
                    packing::start(&host, self.label.clone(), time, Some((self.session.id(), answer.to)));
                    return Ok(None);
                }
                packing::start(&host, self.label.clone(), time, None);
                self.answer(answer, out).map(|()| None)
            }
            Step::EstimatePack { to, time } => {
                let Some(host) = self.host.clone() else { return Ok(None) };
                packing::start_estimate(&host, self.label.clone(), time, (self.session.id(), to));
                Ok(None)
            }
            Step::CancelPack { to } => {
                let cancelled = self.host.as_deref().is_some_and(|host| packing::cancel(host, &self.label));
                self.answer(Answer { to, result: Ok(Reply::Cancelled(cancelled)) }, out).map(|()| None)
            }
            Step::Finish(transaction, changed) => {
                let finish = Finish { session: self.session.id(), transaction, changed };
                let here = self.voted_small && self.seat.is_alone();
                match &self.host {
                    Some(host) if !host.finish(finish, here) => Err(Ended::Disowned),
                    _ => Ok(None),
                }
            }
            Step::PutAside(to, records) => {
                let (label, max) = (&self.label, self.shared.settings.transaction_memory_max);
                tracing::debug!(
                    target: log::STORAGE_SERVER,
                    "({label}) a transaction has more than transaction-memory-max ({max} bytes) in memory: \
                     {} records are put aside",
                    records.len()
                );
                let aside = std::mem::take(&mut self.put_aside);
                Ok(Some(Job::PutAside(to, records, aside, self.shared.settings.temporary_directory.clone())))
            }
            Step::Blob(to, step) => self.blob(to, step, out),
            Step::SendBlob { to, oid, serial } => Ok(Some(Job::OpenBlob(to, oid, serial))),
            Step::Abort(to, abandoned) => {
                self.upload = None;
                if let (Some(host), Some(abandoned)) = (&self.host, abandoned) {
                    host.release(abandoned);
                }
                self.answer(Answer { to, result: Ok(Reply::None) }, out).map(|()| None)
            }
        }
    }

    fn register(
        &mut self,
        to: Caller,
        storage: &str,
        read_only: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Ended> {
        let Some(host) = self.shared.hosts.get(storage).cloned() else {
            tracing::error!(target: log::STORAGE_SERVER, "({}) unknown storage: {storage}", self.label);
            let result = Err(Refusal::Value(format!("unknown storage: {storage}")));
            return self.answer(Answer { to, result }, out);
        };
        // From here on this session is woken by what is published, and it starts at a tid that it reads
        // afterwards: nothing can fall between the two.
        let bell =
            self.seat.table.bells.listen(&host, self.session.id(), self.encoding, self.seat.socket.clone());
        let last = host.storage.last_transaction();
        let result = self.session.register(read_only, host.read_only, last, Arc::clone(&host.counters));
        if result.is_err() {
            return self.answer(Answer { to, result }, out);
        }
        host.join(self.session.id(), Arc::clone(&self.mailbox));
        self.bell = Some(bell);
        self.host = Some(host);
        // Not as of what has been published since: no notice comes before this answer.
        self.answer_as_of(Answer { to, result }, last, out)
    }

    /// Whether nothing is under way that belongs to its worker: it could go on at another one.
    pub(crate) fn is_at_ease(&self) -> bool {
        let loads = &self.slow_loads;
        !self.session.is_finishing() && !loads.is_any_running() && !loads.are_any_parked()
    }

    /// Leaves its worker: nobody there has a part in it any more.
    pub(crate) fn rise(&mut self) {
        if let Some(bell) = &mut self.bell {
            bell.leave();
        }
        self.seat.socket = None;
    }

    /// Goes on at another worker. What was published meanwhile is due.
    pub(crate) fn sit(&mut self, table: Table, socket: Arc<dyn TryWrite>) {
        self.seat.change(table, socket);
        if let (Some(bell), Some(host)) = (&mut self.bell, &self.host) {
            self.seat.table.bells.take(bell, host, self.encoding, self.seat.socket.clone());
        }
    }

    pub(crate) fn mail(&mut self, mail: Mail, out: &mut Vec<u8>) -> Result<Option<Job>, Ended> {
        match mail {
            Mail::Granted(transaction) => match self.session.granted(transaction) {
                Some(request) => self.vote(request, out),
                None => Ok(None),
            },
            Mail::FinishFailed(refusal) => {
                let answer = self.session.finish_failed(refusal);
                answer.map_or(Ok(None), |answer| self.answer(answer, out).map(|()| None))
            }
            Mail::SizesChanged => {
                Output { out, encoding: self.encoding, host: self.host.as_deref() }.info();
                Ok(None)
            }
            Mail::Packed(answer) => self.answer(answer, out).map(|()| None),
            Mail::Disowned => Err(Ended::Disowned),
            // What is with the log writer will be written; closing now would only hide the outcome.
            Mail::TimedOut(_) if self.session.is_finishing() => Ok(None),
            Mail::TimedOut(timeout) => {
                let (label, seconds) = (&self.label, timeout.as_secs_f64());
                log::critical!(
                    log::STORAGE_SERVER,
                    "({label}) Transaction timeout after {seconds} seconds: the connection is closed and its \
                     locks are released"
                );
                Err(Ended::TransactionTimeout)
            }
        }
    }

    /// How the connection rests until something happens.
    pub(crate) fn rest<S: AsyncRead + AsyncWrite + Unpin>(&self, pipe: &Pipe<S>) -> Rest {
        match self.session.may_be_told() {
            _ if pipe.is_full() => Rest::Unread,
            _ if self.session.is_finishing() => {
                Rest::Committing(self.bell.as_ref().map_or(Tid::ZERO, Bell::answered))
            }
            Some(told) if pipe.waiting() == 0 => Rest::Told(told),
            _ => Rest::Otherwise,
        }
    }

    /// Takes over what the client was told while the connection rested.
    pub(crate) fn wake_up(&mut self, out: &mut Vec<u8>) {
        if let Some(Told { through, mut unsent }) = self.bell.as_mut().and_then(Bell::wake_up) {
            self.session.told(through);
            out.append(&mut unsent);
        }
    }

    /// Whether the client can be told of all that it has not been told of.
    pub(crate) fn keeps_up(&self) -> Result<(), Ended> {
        let (Some(bell), Some(host)) = (&self.bell, &self.host) else { return Ok(()) };
        self.session.keeps_up(&host.log(), bell.last()).map_err(Ended::Core)
    }

    /// Something became visible: tells the client.
    pub(crate) fn published(&mut self, out: &mut Vec<u8>) -> Result<(), Ended> {
        let Some(bell) = &mut self.bell else { return Ok(()) };
        let through = bell.answer();
        self.catch_up(through, out)
    }

    /// Writes the notices up to `through`, if there are any.
    fn catch_up(&mut self, through: Tid, out: &mut Vec<u8>) -> Result<(), Ended> {
        if self.session.is_behind(through)
            && let Some(host) = &self.host
        {
            let mut out = Output { out, encoding: self.encoding, host: self.host.as_deref() };
            self.session.deliver(&host.log(), through, &mut out).map_err(Ended::Core)?;
        }
        Ok(())
    }

    /// Writes an answer after everything that it may take into account.
    pub(crate) fn answer(&mut self, answer: Answer, out: &mut Vec<u8>) -> Result<(), Ended> {
        if let Err(refusal) = &answer.result
            && !refusal.is_routine()
        {
            let (label, method) = (&self.label, answer.to.method);
            tracing::error!(target: log::STORAGE_SERVER, "({label}) `{method}` raised exception: {refusal}");
        }
        let last = self.host.as_ref().map_or(Tid::ZERO, |host| host.storage.last_transaction());
        self.answer_as_of(answer, last, out)
    }

    fn answer_as_of(&mut self, answer: Answer, as_of: Tid, out: &mut Vec<u8>) -> Result<(), Ended> {
        self.catch_up(as_of, out)?;
        let mut out = Output { out, encoding: self.encoding, host: self.host.as_deref() };
        self.session.answer(answer, &mut out).map_err(Ended::Core)
    }
}

impl Drop for Conversation {
    /// The connection is over, however it ended: gives back everything that it held.
    fn drop(&mut self) {
        let voting = self.session.is_voting();
        let abandoned = self.session.close();
        if let Some(host) = &self.host {
            host.leave(self.session.id(), abandoned);
            let during = match (abandoned.is_some_and(|abandoned| abandoned.voted), voting) {
                (true, _) => " during locked transaction",
                (false, true) => " during unlocked transaction",
                (false, false) => "",
            };
            tracing::info!(target: log::STORAGE_SERVER, "({}) disconnected{during}", self.label);
        }
    }
}
