//! What became of a transaction, for a client that lost its connection before it heard: shows the core's search what
//! is in the storage.

use crate::host::Host;
use bytes::Bytes;
use std::ops::ControlFlow;
use zeolith_core::OutcomeSearch;
use zeolith_storage::Result;
use zeolith_types::{Outcome, Tid};

/// What became of the transaction of a token, which is not on its way any more and was not there yet when `since`
/// was committed.
///
/// # Errors
/// Those of reading the storage.
pub(crate) fn find(host: &Host, token: Bytes, since: Tid) -> Result<Outcome> {
    let mut search = OutcomeSearch::new(token, since);
    let mut transactions = host.storage.iterate(Some(since), None)?;
    while let Some(transaction) = transactions.next_transaction()? {
        let token = zeolith_pickle::transaction_token(&transaction.extension);
        if let ControlFlow::Break(outcome) = search.see(transaction.tid, transaction.status, token.as_deref())
        {
            return Ok(outcome);
        }
    }
    let packed_until = host.coordinator().packed_until();
    Ok(search.end(packed_until))
}
