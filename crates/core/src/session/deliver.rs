//! What leaves, and in which order: an answer computed as of transaction T leaves after the notices up to T
//! and before those after T (invariants 7 and 8).

use super::Session;
use crate::{
    Access, Lagged, Publication, PublicationLog,
    session::step::{Answer, CloseReason},
    transaction::{Phase, Transaction},
};
use zeolith_storage::{Found, Load};
use zeolith_types::{MessageId, Oid, Refusal, Reply, Tid};

/// Takes outgoing messages in their order.
pub trait Outbox {
    /// Somebody else's transaction became visible.
    fn invalidate(&mut self, publication: &Publication);
    /// The client's own commit became visible: it is told the storage's sizes before its reply.
    fn info(&mut self);
    /// The result of a call.
    fn reply(&mut self, id: &MessageId, reply: &Reply);
    /// The failure of a call.
    fn refuse(&mut self, id: &MessageId, refusal: &Refusal);
}

impl Session {
    /// Whether notices up to `through` are still to be written.
    #[must_use]
    pub fn is_behind(&self, through: Tid) -> bool {
        self.delivered < through && self.access != Access::Unregistered
    }

    /// Up to where the client has been told, if somebody else may tell it of what comes next: no publication can
    /// be of its own transaction.
    #[must_use]
    pub fn may_be_told(&self) -> Option<Tid> {
        (self.access != Access::Unregistered && !self.is_finishing()).then_some(self.delivered)
    }

    /// Somebody else has told the client of everything up to `through`, as [`Self::may_be_told`] allowed.
    pub fn told(&mut self, through: Tid) {
        self.delivered = self.delivered.max(through);
    }

    /// Whether notices up to `through`, which are not written now, could still be written.
    ///
    /// # Errors
    /// [`CloseReason::Lagged`] if the log does not reach back to what the client was told last.
    pub fn keeps_up(&self, log: &PublicationLog, through: Tid) -> Result<(), CloseReason> {
        Ok(log.between(self.delivered, through).map(drop)?)
    }

    /// Writes all notices up to `through`. At the place of the client's own commit stands its reply.
    ///
    /// # Errors
    /// [`CloseReason::Lagged`] if the log does not reach back to what the client was told last.
    pub fn deliver(
        &mut self,
        log: &PublicationLog,
        through: Tid,
        out: &mut impl Outbox,
    ) -> Result<(), CloseReason> {
        for publication in log.between(self.delivered, through)? {
            if publication.committer == Some(self.id) {
                self.finished(publication, out);
            } else {
                out.invalidate(publication);
            }
        }
        self.delivered = self.delivered.max(through);
        Ok(())
    }

    fn finished(&mut self, publication: &Publication, out: &mut impl Outbox) {
        if !self.is_finishing() {
            return;
        }
        if let Some(Transaction { phase: Phase::Finishing { call }, .. }) = self.end() {
            out.info();
            if !call.one_way {
                out.reply(&call.id, &Reply::Tid(publication.tid));
            }
        }
    }

    /// Writes the answer to a call. All notices that it takes into account have been delivered.
    ///
    /// # Errors
    /// [`CloseReason::OneWayFailed`] if it is a refusal that nobody waits for.
    pub fn answer(&mut self, answer: Answer, out: &mut impl Outbox) -> Result<(), CloseReason> {
        let Answer { to, result } = answer;
        match (result, to.one_way) {
            (Err(refusal), true) => return Err(CloseReason::OneWayFailed(to.method, refusal)),
            (Ok(_), true) => {}
            (Ok(reply), false) => out.reply(&to.id, &reply),
            (Err(refusal), false) => out.refuse(&to.id, &refusal),
        }
        Ok(())
    }

    /// Turns a load into its answer. A load that comes late, after notices newer than the state it was
    /// computed on, may call a revision current that the client already knows to be replaced: its `end` is
    /// filled in from the log first.
    ///
    /// # Errors
    /// [`Lagged`] if the log does not reach back far enough to tell; the load must be done again.
    pub fn correct_load(&self, oid: Oid, mut load: Load, log: &PublicationLog) -> Result<Load, Lagged> {
        if let Found::Revision(revision) = &mut load.found
            && revision.end.is_none()
            && load.as_of < self.delivered
        {
            revision.end = log.first_change(oid, load.as_of, self.delivered)?;
        }
        Ok(load)
    }

    /// Whether a load that came late does not answer any more what was asked, the newest revision before `before`,
    /// and is to be done again. Stock clients that ask for the current revision insist on one without an `end`.
    ///
    /// An object that is written without a pause can be too fast for a slow disk: who has repeated a load often gets
    /// what there is, which is true, and only not the newest.
    #[must_use]
    pub fn is_outdated(load: &Load, before: Tid, repeats: u32) -> bool {
        let end = match &load.found {
            Found::Revision(revision) => revision.end,
            Found::NothingBefore | Found::NoObject => None,
        };
        end.is_some_and(|end| end < before) && repeats < LOAD_REPEATS_MAX
    }

    /// Whether a load that was computed as of `as_of` needs [`Self::correct_load`].
    #[must_use]
    pub fn is_ahead_of(&self, as_of: Tid) -> bool {
        as_of < self.delivered
    }
}

/// How often a load is repeated because its object was written meanwhile.
const LOAD_REPEATS_MAX: u32 = 16;

/// What a load's finding is to the client.
///
/// # Errors
/// [`Refusal::NoObject`] if there is no such object.
pub fn load_reply(oid: Oid, found: Found) -> Result<Reply, Refusal> {
    match found {
        Found::Revision(revision) => Ok(Reply::Loaded(Some(revision))),
        Found::NothingBefore => Ok(Reply::Loaded(None)),
        Found::NoObject => Err(Refusal::NoObject(oid)),
    }
}
