//! A session's transaction, call by call: begin, what it writes, vote, finish, abort.

use super::Session;
use crate::{
    Lock,
    session::step::{Answer, Caller, Step, Verdict},
    transaction::{Abandoned, Phase, Pushed, Transaction, VoteRequest},
    undo,
};
use std::sync::atomic::Ordering::Relaxed;
use zeolith_storage::{RecordData, TransactionId, Voted, Write};
use zeolith_types::{Refusal, Reply, TransactionStart, Value};

impl Session {
    pub(super) fn begin(&mut self, to: Caller, start: TransactionStart) -> Step {
        match &self.transaction {
            None => {
                self.transaction = Some(Transaction::begin(start));
                self.counters.active_transactions.fetch_add(1, Relaxed);
                to.done()
            }
            Some(open) if open.id == start.id => to.done(),
            Some(_) => {
                let text = "Multiple simultaneous tpc_begin requests from one client.";
                to.refuse(Refusal::Transaction(text.to_owned()))
            }
        }
    }

    /// The open transaction, if the client names it and may still add to it.
    pub(super) fn collecting(&mut self, given: &Value) -> Result<&mut Transaction, Refusal> {
        let Some(open) = &mut self.transaction else {
            return Err(Refusal::WrongTransaction { current: None, given: given.clone() });
        };
        if open.id != *given {
            let current = Some(open.id.clone());
            return Err(Refusal::WrongTransaction { current, given: given.clone() });
        }
        self.collecting_any()
    }

    /// The open transaction, if the client may still add to it; for calls that name none.
    pub(super) fn collecting_any(&mut self) -> Result<&mut Transaction, Refusal> {
        let Some(open) = &mut self.transaction else {
            return Err(Refusal::Transaction("no transaction is open".to_owned()));
        };
        match open.phase {
            Phase::Collecting => Ok(open),
            Phase::Waiting { .. } | Phase::Voting { .. } => {
                Err(Refusal::Transaction("Already voting (waiting)".to_owned()))
            }
            Phase::Voted { .. } | Phase::Finishing { .. } => {
                Err(Refusal::Transaction("Already voting (locked)".to_owned()))
            }
        }
    }

    pub(super) fn write(&mut self, to: Caller, given: &Value, write: Write) -> Step {
        match self.collecting(given) {
            Ok(_) => self.push(to, write),
            Err(refusal) => to.refuse(refusal),
        }
    }

    /// Adds a write to the open transaction.
    pub(super) fn push(&mut self, to: Caller, write: Write) -> Step {
        let counts = !matches!(write, Write::Check { .. });
        let rules = self.rules;
        let pushed = match self.collecting_any() {
            Ok(open) => open.push(write, &rules),
            Err(refusal) => return to.refuse(refusal),
        };
        if counts {
            self.counters.stores.fetch_add(1, Relaxed);
        }
        match pushed {
            Pushed::Kept => to.done(),
            Pushed::MemoryFull(records) => Step::PutAside(to, records),
            Pushed::TooLarge => {
                self.counters.transactions_too_large.fetch_add(1, Relaxed);
                to.done()
            }
        }
    }

    /// What became of [`Step::PutAside`]: where the records are now, in their order. A failure fails the vote.
    pub fn put_aside(&mut self, to: Caller, outcome: Result<Vec<RecordData>, Refusal>) -> Option<Answer> {
        if let Some(open) = &mut self.transaction {
            match outcome {
                Ok(records) => {
                    self.counters.spills.fetch_add(1, Relaxed);
                    open.put_aside(records);
                }
                Err(refusal) => open.give_up(refusal),
            }
        }
        (!to.one_way).then_some(Answer { to, result: Ok(Reply::None) })
    }

    /// A store of the open transaction made no sense. Nobody waits for its answer, so the vote fails, as it does in
    /// the reference, which looks at what is stored only then.
    ///
    /// # Errors
    /// The refusal itself if there is no transaction whose vote could fail.
    pub fn store_refused(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        match self.collecting_any() {
            Ok(open) => {
                open.give_up(refusal);
                Ok(())
            }
            Err(_) => Err(refusal),
        }
    }

    /// A name that names no transaction fails the vote, not the call, which nobody waits for.
    pub(super) fn undo(&mut self, to: Caller, given: &Value, undone: &[u8]) -> Step {
        let rules = self.rules;
        let open = match self.collecting(given) {
            Ok(open) => open,
            Err(refusal) => return to.refuse(refusal),
        };
        match undo::named(undone) {
            Ok(tid) => {
                if open.push(Write::Undo { tid }, &rules) == Pushed::TooLarge {
                    self.counters.transactions_too_large.fetch_add(1, Relaxed);
                }
            }
            Err(refusal) => {
                open.doom.get_or_insert(refusal);
            }
        }
        to.done()
    }

    pub(super) fn vote(&mut self, to: Caller, given: &Value) -> Step {
        let open = match self.collecting(given) {
            Ok(open) => open,
            Err(refusal) => return to.refuse(refusal),
        };
        if let Some(refusal) = open.doom.take() {
            self.end();
            return to.refuse(refusal);
        }
        let locks = open.lock_set();
        // The ticket is known after the coordinator was asked; `locked` comes next, always.
        open.phase = Phase::Waiting { call: to, transaction: TransactionId(0) };
        Step::Lock(locks)
    }

    /// The coordinator's answer to [`Step::Lock`]: the vote itself if the locks are held.
    pub fn locked(&mut self, transaction: TransactionId, lock: Lock) -> Option<VoteRequest> {
        if let Some(Transaction { phase: Phase::Waiting { transaction: ticket, .. }, .. }) =
            &mut self.transaction
        {
            *ticket = transaction;
        }
        match lock {
            Lock::Waiting => None,
            Lock::Granted => self.granted(transaction),
        }
    }

    /// The locks that a vote waited for are held. `None` if the vote has been given up meanwhile; its
    /// ticket is released already.
    pub fn granted(&mut self, granted: TransactionId) -> Option<VoteRequest> {
        let open = self.transaction.as_mut()?;
        let call = match &open.phase {
            Phase::Waiting { call, transaction } if *transaction == granted => call.clone(),
            _ => return None,
        };
        // With client-side resolution the same log is voted on again, with more stores at its end.
        let writes = if self.rules.collects_conflicts {
            open.writes.clone()
        } else {
            std::mem::take(&mut open.writes)
        };
        open.phase = Phase::Voting { call, transaction: granted };
        Some(VoteRequest { transaction: granted, writes, size: open.size })
    }

    /// What the storage said at vote: the answer to the client, and what is to be released.
    pub fn voted(&mut self, voted: TransactionId, outcome: Result<Voted, Refusal>) -> Verdict {
        let call = match self.transaction.as_ref().map(|open| &open.phase) {
            Some(Phase::Voting { call, transaction }) if *transaction == voted => call.clone(),
            _ => {
                let ready = matches!(outcome, Ok(Voted::Ready { .. }));
                return Verdict {
                    answer: None,
                    release: Some(Abandoned { transaction: voted, voted: ready }),
                };
            }
        };
        let release = Some(Abandoned { transaction: voted, voted: false });
        let (result, release) = match outcome {
            Ok(Voted::Ready { changed, resolved, undone }) => {
                self.set_phase(Phase::Voted { transaction: voted, changed });
                self.counters.conflicts_resolved.fetch_add(resolved.len() as u64, Relaxed);
                let undone = undone.into_iter().map(|undone| undone.oid);
                (Ok(Reply::Voted(undone.chain(resolved).collect())), None)
            }
            Ok(Voted::Conflicts(conflicts)) => {
                self.set_phase(Phase::Collecting);
                (Ok(Reply::Conflicts(conflicts)), release)
            }
            Err(refusal) => {
                if matches!(refusal, Refusal::Conflict { .. } | Refusal::ReadConflict { .. }) {
                    self.counters.conflicts.fetch_add(1, Relaxed);
                }
                self.end();
                (Err(refusal), release)
            }
        };
        Verdict { answer: Some(Answer { to: call, result }), release }
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(open) = &mut self.transaction {
            open.phase = phase;
        }
    }

    pub(super) fn finish(&mut self, to: Caller, given: &Value) -> Step {
        let open = match &mut self.transaction {
            Some(open) if open.id == *given => open,
            // Not an error.
            _ => return to.answer(Ok(Reply::None)),
        };
        match &mut open.phase {
            Phase::Voted { transaction, changed } => {
                let step = Step::Finish(*transaction, std::mem::take(changed));
                open.phase = Phase::Finishing { call: to };
                step
            }
            Phase::Collecting | Phase::Waiting { .. } | Phase::Voting { .. } | Phase::Finishing { .. } => {
                let refusal = Refusal::Assertion("the transaction has not been voted on".to_owned());
                to.refuse(refusal)
            }
        }
    }

    /// The log writer could not write the transaction; it is as if it had been aborted.
    pub fn finish_failed(&mut self, refusal: Refusal) -> Option<Answer> {
        let open = self.end()?;
        self.counters.aborts.fetch_add(1, Relaxed);
        match open.phase {
            Phase::Finishing { call } => Some(Answer { to: call, result: Err(refusal) }),
            Phase::Collecting | Phase::Waiting { .. } | Phase::Voting { .. } | Phase::Voted { .. } => None,
        }
    }

    pub(super) fn abort(&mut self, to: Caller, given: &Value) -> Step {
        let names_it = self.transaction.as_ref().is_some_and(|open| open.id == *given);
        if !names_it || self.is_finishing() {
            return to.answer(Ok(Reply::None));
        }
        Step::Abort(to, self.give_up())
    }

    /// The connection is gone: what must be cleaned up.
    pub fn close(&mut self) -> Option<Abandoned> {
        if self.is_finishing() {
            // The log writer ends it; nobody will hear.
            self.end();
            return None;
        }
        self.give_up()
    }

    fn give_up(&mut self) -> Option<Abandoned> {
        let open = self.end()?;
        self.counters.aborts.fetch_add(1, Relaxed);
        open.abandoned()
    }

    pub(super) fn end(&mut self) -> Option<Transaction> {
        let open = self.transaction.take()?;
        self.counters.active_transactions.fetch_sub(1, Relaxed);
        Some(open)
    }
}
