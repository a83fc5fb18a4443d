//! What others have to say to a session, until its connection reads it.
//!
//! Most sessions are never told anything this way. A channel would have room for the first thirty-two letters from the
//! start, more than a kilobyte for each client; this has none until there is one.

use crate::host::Mail;
use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// The mailbox of one session: anybody puts letters in, its connection takes them out.
#[derive(Default)]
pub(crate) struct Mailbox(Mutex<State>);

#[derive(Default)]
struct State {
    letters: VecDeque<Mail>,
    /// Who waits for the next one.
    reader: Option<Waker>,
}

impl Mailbox {
    /// Puts a letter in, behind those that are there.
    pub(crate) fn put(&self, mail: Mail) {
        let mut state = self.state();
        state.letters.push_back(mail);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The oldest letter, if there is one.
    pub(crate) fn try_take(&self) -> Option<Mail> {
        self.state().letters.pop_front()
    }

    /// Waits for a letter. Safe to cancel; only the last one who waits is woken.
    pub(crate) async fn take(&self) -> Mail {
        poll_fn(|context| self.poll_take(context)).await
    }

    fn poll_take(&self, context: &Context<'_>) -> Poll<Mail> {
        let mut state = self.state();
        if let Some(mail) = state.letters.pop_front() {
            return Poll::Ready(mail);
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(context.waker()),
            None => state.reader = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, time::Duration};

    #[tokio::test]
    async fn letters_come_in_their_order_whether_somebody_waits_or_not() {
        let mailbox = Arc::new(Mailbox::default());
        assert!(mailbox.try_take().is_none());
        mailbox.put(Mail::SizesChanged);
        mailbox.put(Mail::Disowned);
        assert!(matches!(mailbox.take().await, Mail::SizesChanged));
        assert!(matches!(mailbox.try_take(), Some(Mail::Disowned)));
        let (reading, written) = (Arc::clone(&mailbox), 1000);
        let reader = tokio::spawn(async move {
            for number in 0..written {
                let waited = Duration::from_millis(number);
                assert!(matches!(reading.take().await, Mail::TimedOut(time) if time == waited));
            }
        });
        std::thread::spawn(move || {
            (0..written).for_each(|number| mailbox.put(Mail::TimedOut(Duration::from_millis(number))));
        });
        tokio::time::timeout(Duration::from_secs(60), reader).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_letter_that_comes_when_nobody_waits_any_more_is_there_for_the_next_one() {
        let mailbox = Mailbox::default();
        tokio::select! {
            biased;
            _ = mailbox.take() => panic!("there is no letter"),
            () = std::future::ready(()) => {}
        }
        mailbox.put(Mail::Disowned);
        assert!(matches!(mailbox.take().await, Mail::Disowned));
    }
}
