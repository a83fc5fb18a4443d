//! What became of a transaction that is not open any more: a search for its token in the storage.
//!
//! [`crate::Coordinator::inquire`] knows the transactions that are open; all others are in the storage or nowhere.
//! A token is in the extension of its transaction, so what the file says is true after a restart, too
//! (`docs/decisions/0017-a-token-tells-the-outcome.md`).

use bytes::Bytes;
use std::ops::ControlFlow;
use zeolith_types::{Outcome, Tid};

/// A search for the transaction of a token, which is not on its way any more and was not there yet when `since`
/// was committed. It wants to see all transactions from `since` on, in their order.
#[derive(Debug)]
pub struct OutcomeSearch {
    token: Bytes,
    since: Tid,
    is_there: bool,
    is_packed: bool,
    seen: usize,
}

impl OutcomeSearch {
    /// A search that has seen nothing yet.
    #[must_use]
    pub const fn new(token: Bytes, since: Tid) -> Self {
        Self { token, since, is_there: false, is_packed: false, seen: 0 }
    }

    /// Looks at the next transaction: its status, and the token that it has, if it has one. Breaks with the outcome as
    /// soon as that is known.
    pub fn see(&mut self, tid: Tid, status: u8, token: Option<&[u8]>) -> ControlFlow<Outcome> {
        // A pack marks what it has looked at. Where nothing is marked, nothing has been dropped.
        self.is_packed |= status == PACKED;
        self.seen += 1;
        if tid == self.since {
            self.is_there = true;
        } else if token == Some(&*self.token) {
            return ControlFlow::Break(Outcome::Committed(tid));
        }
        if self.seen < SEARCHED_MAX {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(Outcome::Unknown)
        }
    }

    /// There is no more to see. `packed_until` is [`crate::Coordinator::packed_until`], asked after the last look: a
    /// pack can have begun meanwhile, and not every storage marks all that it has packed.
    #[must_use]
    pub fn end(self, packed_until: Tid) -> Outcome {
        let is_all_there = self.is_there && !self.is_packed && packed_until <= self.since;
        if is_all_there { Outcome::Aborted } else { Outcome::Unknown }
    }
}

/// The status of a transaction that a pack has looked at.
const PACKED: u8 = b'p';
/// Transactions that are searched for a token. A client that asks after more than these is told that
/// nobody knows any more.
const SEARCHED_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Tid = Tid::new(5);
    const PLAIN: u8 = b' ';

    /// What comes of a search for `mine` among these.
    fn search(since: Tid, transactions: &[(u64, u8, Option<&str>)], packed_until: u64) -> Outcome {
        let mut search = OutcomeSearch::new(Bytes::from_static(b"mine"), since);
        for (tid, status, token) in transactions {
            let token = token.map(str::as_bytes);
            if let ControlFlow::Break(outcome) = search.see(Tid::new(*tid), *status, token) {
                return outcome;
            }
        }
        search.end(Tid::new(packed_until))
    }

    #[test]
    fn a_token_is_found_after_the_transaction_that_was_known_before() {
        let there = [(5, PLAIN, Some("mine")), (6, PLAIN, None), (7, PLAIN, Some("mine")), (8, PLAIN, None)];
        assert_eq!(search(SINCE, &there, 0), Outcome::Committed(Tid::new(7)));
        assert_eq!(
            search(SINCE, &there[..2], 0),
            Outcome::Aborted,
            "an earlier one of the same token is another"
        );
        assert_eq!(search(SINCE, &[(5, PLAIN, None), (6, PLAIN, Some("other"))], 0), Outcome::Aborted);
        assert_eq!(search(Tid::new(4), &there[..2], 0), Outcome::Committed(SINCE), "{there:?}");
        assert_eq!(search(Tid::new(4), &there[1..2], 0), Outcome::Unknown, "nobody knows what was before it");
    }

    #[test]
    fn what_a_pack_may_have_dropped_is_unknown() {
        let (before, after) = ((5, b'p', None), (6, PLAIN, None));
        assert_eq!(search(SINCE, &[before, after], 0), Outcome::Unknown);
        assert_eq!(search(Tid::new(6), &[after], 0), Outcome::Aborted);
        assert_eq!(search(Tid::new(6), &[after, (7, b'p', None)], 0), Outcome::Unknown);
        assert_eq!(search(Tid::new(6), &[after], 6), Outcome::Aborted);
        assert_eq!(search(Tid::new(6), &[after], 7), Outcome::Unknown, "one is under way that could drop it");
        assert_eq!(
            search(Tid::new(6), &[after, (7, b'p', Some("mine"))], 9),
            Outcome::Committed(Tid::new(7))
        );
    }

    #[test]
    fn nobody_searches_for_ever() {
        let mut search = OutcomeSearch::new(Bytes::from_static(b"mine"), SINCE);
        let seen =
            (5..).map(|tid| search.see(Tid::new(tid), PLAIN, None)).take_while(ControlFlow::is_continue);
        assert_eq!(seen.count(), SEARCHED_MAX - 1);
    }
}
