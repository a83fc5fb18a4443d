//! Transactions whose end a client has not heard of: how it loses its connection over them, and what it makes of the
//! answer when it asks.

use super::{
    Client, Expected,
    receive::tid_of,
    tid_value,
    transaction::{Open, Transaction},
};
use crate::{checks::Invariant, context::Context, history::History};
use bytes::Bytes;
use zeolith_types::{TOKEN_KEY, Tid, Value};

/// A transaction that its client could not see to the end.
#[derive(Debug)]
pub(super) struct Lost {
    open: Open,
    /// Its token.
    token: Bytes,
    is_asked_for: bool,
}

impl Client {
    /// The extension of a transaction.
    pub(super) fn extension(&self, open: &Open, context: &Context) -> Value {
        let entry = || (Value::Str(TOKEN_KEY.to_owned()), Value::Bytes(token(&open.label)));
        Value::Dict(if context.plan.tokens { vec![entry()] } else { Vec::new() })
    }

    /// Sometimes it gives up a connection with which it is committing. The server hears of that much later, and what was
    /// said last on that connection comes as late.
    pub(super) fn deserts(&mut self, context: &mut Context) -> bool {
        let is_committing = matches!(
            self.transaction,
            Transaction::Voting(_) | Transaction::Voted(_) | Transaction::Finishing(_)
        );
        let Some(id) = self.connection.filter(|_| is_committing && context.plan.tokens && !context.calm)
        else {
            return false;
        };
        if !self.chance.chance(context.plan.deserts) {
            return false;
        }
        let late = self.chance.between(1, LATE_MAX);
        context.note(format_args!("client {} deserts {}", self.number, id.0));
        let Context { network, schedule, random, .. } = context;
        network.desert(id, late, schedule, random);
        self.disconnected(context);
        true
    }

    /// The connection is gone, and with it what the client would have heard of its transaction.
    pub(super) fn lose_transaction(&mut self, context: &Context) {
        let transaction = std::mem::replace(&mut self.transaction, Transaction::None);
        if let Transaction::Voting(open) | Transaction::Voted(open) | Transaction::Finishing(open) =
            transaction
            && context.plan.tokens
        {
            self.lost.push(Lost { token: token(&open.label), open, is_asked_for: false });
        }
        self.lost.iter_mut().for_each(|lost| lost.is_asked_for = false);
    }

    /// Asks what became of a transaction, if one is lost and it has not asked.
    pub(super) fn ask(&mut self, context: &mut Context) {
        let Some(lost) = self.lost.iter_mut().find(|lost| !lost.is_asked_for) else { return };
        if !context.calm && !self.chance.chance(ASKS) {
            return;
        }
        lost.is_asked_for = true;
        let (id, since) = (lost.open.id, lost.open.since);
        let question = [Value::Bytes(lost.token.clone()), tid_value(since)];
        self.call("transaction_outcome", &question, Expected::Outcome(id), context);
    }

    /// What the server says must be so, and stay so.
    pub(super) fn outcome(&mut self, id: i128, body: &Value, context: &mut Context) {
        let Some(at) = self.lost.iter().position(|lost| lost.open.id == id) else { return };
        let mut lost = self.lost.remove(at);
        let label = lost.open.label.clone();
        context.note(format_args!("client {} asks for {label:?}: {body:?}", self.number));
        let answer = body.as_sequence().and_then(|answer| match answer {
            [Value::Str(outcome), tid] => Some((outcome.as_str(), tid_of(tid))),
            _ => None,
        });
        match answer {
            Some(("committed", Some(tid))) => self.is_committed(&lost.open, tid, context),
            Some(("aborted", None)) => context.history.is_aborted(&label, &mut context.checks),
            // Asked again until somebody knows.
            Some(("undecided", None)) => {
                lost.is_asked_for = false;
                self.lost.push(lost);
                return;
            }
            Some(("unknown", None)) => {
                let since = lost.open.since;
                let is_excused = context.history.may_be_packed_after(since);
                context.checks.ensure(is_excused, Invariant::OutcomesAreTrue, || {
                    format!("nobody knows of {label:?}, and no pack went beyond {since}")
                });
            }
            _ => context.checks.fail(Invariant::OutcomesAreTrue, format!("{label:?} is {body:?}")),
        }
        context.counts.outcomes += 1;
    }

    fn is_committed(&self, open: &Open, tid: Tid, context: &mut Context) {
        let (known, is_it) = (self.cache.last(), open.is(tid, &context.history));
        context.checks.ensure(is_it, Invariant::OutcomesAreTrue, || {
            let there = context.history.get(tid);
            format!("{:?} is said to be committed at {tid}, which is {there:?}", open.label)
        });
        context.checks.ensure(tid <= known, Invariant::NoticedBeforeRevealed, || {
            format!("client {} knows {known}, and is told that it has committed {tid}", self.number)
        });
    }
}

impl Open {
    /// Whether this is what the history knows under that tid.
    pub(super) fn is(&self, tid: Tid, history: &History) -> bool {
        history.get(tid).is_some_and(|commit| {
            let undone = || commit.changes.keys().eq(&self.undone);
            commit.label == self.label
                && if self.undoes.is_empty() { commit.changes == self.changes } else { undone() }
        })
    }
}

/// No two transactions have the same label, and so no two have the same token.
fn token(label: &Bytes) -> Bytes {
    [b"token of ", label.as_ref()].concat().into()
}

/// Until the server hears that a connection has been deserted, in microseconds, at most.
const LATE_MAX: u64 = 30_000;
/// In so many of 1000 decisions a client asks for what it has lost.
const ASKS: u64 = 400;
