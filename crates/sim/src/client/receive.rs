//! What a client makes of the frames that it gets. Each is dealt with whole before the next.

use super::{Client, Expected, Phase, tid_value};
use crate::{checks::Invariant, context::Context, history::Known, network::Toward};
use zeolith_types::{Oid, Tid, Value};

impl Client {
    pub(super) fn read_frames(&mut self, context: &mut Context) {
        while self.connection.is_some() && !context.checks.has_failed() {
            match self.incoming.next_frame() {
                Ok(Some(frame)) if self.phase == Phase::Hello => self.hello(&frame, context),
                Ok(Some(frame)) => {
                    let message = zeolith_wire::decode_message(self.encoding, &frame);
                    let parts = message.as_ref().ok().and_then(Value::as_sequence);
                    let Some([id, flag, Value::Str(name), body]) = parts else {
                        return context.checks.fail(Invariant::NoPanic, format!("no message: {message:?}"));
                    };
                    match name.as_str() {
                        ".reply" => self.reply(id, *flag != Value::Int(0), body, context),
                        "invalidateTransaction" => self.invalidated(body, context),
                        _ => {}
                    }
                }
                Ok(None) => return,
                Err(error) => return context.checks.fail(Invariant::NoPanic, error.to_string()),
            }
        }
    }

    /// Answers the announcement with the encoding of its choice, and registers without waiting.
    fn hello(&mut self, frame: &[u8], context: &mut Context) {
        let announced = zeolith_wire::parse_announcement(frame);
        if let Err(error) = announced {
            return context.checks.fail(Invariant::NoPanic, error.to_string());
        }
        if let Some(id) = self.connection {
            context.send(id, Toward::Server, zeolith_wire::answer(self.encoding));
        }
        self.phase = Phase::Registering;
        self.call("register", &[Value::Str("1".into()), Value::Bool(false)], Expected::Registered, context);
    }

    fn reply(&mut self, id: &Value, failed: bool, body: &Value, context: &mut Context) {
        if let Value::Tuple(parts) = id {
            let (oid, before) = (parts.first().and_then(oid_of), parts.get(1).and_then(tid_of));
            let (Some(oid), Some(before)) = (oid, before) else {
                return context.checks.fail(Invariant::NoPanic, format!("a reply to nothing: {id:?}"));
            };
            let at = self.loads.remove(&(oid, before)).unwrap_or_default();
            return self.loaded(&Asked { oid, before, at }, failed, body, context);
        }
        let expected = if let Value::Int(number) = id { self.pending.remove(number) } else { None };
        let Some(expected) = expected else {
            return context.checks.fail(Invariant::NoPanic, format!("a reply to nothing: {id:?}"));
        };
        match expected {
            Expected::Registered => self.registered(body, context),
            Expected::Invalidations => self.verified(body, context),
            Expected::Info => {
                self.phase = Phase::Ready;
                context.note(format_args!("client {} is ready at {:?}", self.number, self.cache.last()));
            }
            Expected::Oids => {
                self.new_oids = body.as_sequence().unwrap_or_default().iter().filter_map(oid_of).collect();
            }
            Expected::LastTransaction => {
                let (told, known) = (tid_of(body), self.cache.last());
                context.checks.ensure(
                    told.is_some_and(|told| told <= known),
                    Invariant::NoticedBeforeRevealed,
                    || {
                        format!(
                            "client {} knows {known}, the server's last transaction is {told:?}",
                            self.number
                        )
                    },
                );
            }
            Expected::Voted => self.voted(failed, body, context),
            Expected::Finished => self.finished(failed, body, context),
            Expected::Aborted => self.aborted(),
            // Whether it was packed the checks know from the server.
            Expected::Packed => {}
            Expected::Scanned(number) => self.scanned(number, failed, body, context),
            Expected::NoIterator => Self::no_iterator(failed, body, context),
            Expected::Outcome(id) => self.outcome(id, body, context),
        }
    }

    /// Decides by the server's last transaction what its cache is worth.
    fn registered(&mut self, body: &Value, context: &mut Context) {
        let (server, known) = (tid_of(body).unwrap_or_default(), self.cache.last());
        self.phase = Phase::Verifying;
        self.registered_at = server;
        if self.cache.is_empty() {
            self.cache.set_last(server, &mut context.checks);
            self.operational(context);
        } else if known > server {
            let what =
                format!("cache newer than server: client {} knows {known}, the server {server}", self.number);
            context.checks.fail(Invariant::DurableBeforeTold, what);
        } else if known == server {
            self.operational(context);
        } else {
            self.call("getInvalidations", &[tid_value(known)], Expected::Invalidations, context);
        }
    }

    fn verified(&mut self, body: &Value, context: &mut Context) {
        let parts = body.as_sequence().unwrap_or_default();
        if let [tid, oids] = parts {
            let (tid, known) = (tid_of(tid).unwrap_or_default(), self.cache.last());
            let oids: Vec<Oid> = oids.as_sequence().unwrap_or_default().iter().filter_map(oid_of).collect();
            let changed = context.history.changed(known, tid);
            let is_missing =
                |oid: &&Oid| !oids.contains(oid) && !context.history.may_go_untold(**oid, known, tid);
            let missing: Vec<_> = changed.iter().filter(is_missing).collect();
            context.checks.ensure(missing.is_empty(), Invariant::NoticedBeforeRevealed, || {
                format!("getInvalidations({known}) is through {tid} and leaves out {missing:?}")
            });
            oids.iter().for_each(|oid| self.cache.drop_current(*oid));
            self.cache.set_last(tid, &mut context.checks);
        } else {
            self.cache.clear();
            self.cache.set_last(self.registered_at, &mut context.checks);
        }
        self.operational(context);
    }

    fn operational(&mut self, context: &mut Context) {
        let queued = std::mem::take(&mut self.queued);
        for (tid, oids) in queued {
            if tid > self.cache.last() {
                self.apply(tid, &oids, context);
            }
        }
        self.cache.check(&context.history, &mut context.checks, self.number);
        self.phase = Phase::Info;
        self.call("get_info", &[], Expected::Info, context);
    }

    fn invalidated(&mut self, body: &Value, context: &mut Context) {
        let Some([tid, oids]) = body.as_sequence() else {
            return context.checks.fail(Invariant::NoPanic, format!("no invalidation: {body:?}"));
        };
        let tid = tid_of(tid).unwrap_or_default();
        let oids: Vec<Oid> = oids.as_sequence().unwrap_or_default().iter().filter_map(oid_of).collect();
        context.counts.invalidations += 1;
        if matches!(self.phase, Phase::Registering | Phase::Verifying) {
            self.queued.push((tid, oids));
        } else {
            self.apply(tid, &oids, context);
        }
    }

    /// Somebody else's transaction: the next one after the last that this client knows.
    fn apply(&mut self, tid: Tid, oids: &[Oid], context: &mut Context) {
        self.expect_next(tid, context);
        let said: std::collections::BTreeSet<Oid> = oids.iter().copied().collect();
        let changed: Option<std::collections::BTreeSet<Oid>> =
            context.history.get(tid).map(|commit| commit.changes.keys().copied().collect());
        context.checks.ensure(changed.as_ref() == Some(&said), Invariant::NoticedBeforeRevealed, || {
            format!("{tid} changed {changed:?}, clients are told {said:?}")
        });
        for oid in oids {
            self.cache.invalidate(*oid, tid, &mut context.checks);
        }
        self.cache.set_last(tid, &mut context.checks);
        for oid in oids {
            self.cache.check_object(*oid, &context.history, &mut context.checks, self.number);
        }
    }

    /// A client is told of every transaction, in order, and of none that could still vanish.
    pub(super) fn expect_next(&self, tid: Tid, context: &mut Context) {
        let next = context.history.next_after(self.cache.last());
        context.checks.ensure(next == Some(tid), Invariant::NoticedBeforeRevealed, || {
            let known = self.cache.last();
            format!("client {}, which knows {known}, is told of {tid}, the next is {next:?}", self.number)
        });
    }

    /// The answer to a load goes into the cache. It is what somebody sees who knows what this client knew at
    /// some time since it asked, but for its end, which is as of now, and not before what it asked for.
    fn loaded(&mut self, load: &Asked, failed: bool, body: &Value, context: &mut Context) {
        let Asked { oid, before, at } = *load;
        context.counts.loads += 1;
        let answer = match body.as_sequence() {
            Some([Value::Bytes(data), start, end]) if !failed => Known::Revision {
                start: tid_of(start).unwrap_or_default(),
                end: tid_of(end),
                data: data.clone(),
            },
            _ if !failed => Known::NothingBefore,
            Some([Value::Str(class), _]) if class == "ZODB.POSException.POSKeyError" => Known::NoObject,
            // The disk said no, or the process was dying.
            _ => return,
        };
        let (history, last) = (&context.history, self.cache.last());
        let mut moments = history.tids(last).filter(|tid| *tid > at).chain([at, last]);
        let was_seen = moments.any(|as_of| match (&answer, history.load_before(oid, before, as_of)) {
            (Known::Revision { start, data, .. }, Known::Revision { start: known, data: there, .. }) => {
                *start == known && *data == there
            }
            (answer, known) => history.allows(oid, &known, answer),
        });
        context.checks.ensure(was_seen, Invariant::NoticedBeforeRevealed, || {
            let number = self.number;
            format!(
                "client {number} asked at {at}, knows {last}, and loads {oid} before {before}: {answer:?}"
            )
        });
        if let Known::Revision { start, end, data } = answer {
            // Whoever asks for the current revision insists on it.
            context.checks.ensure(end.is_none_or(|end| end >= before), Invariant::NoStaleEnd, || {
                format!("client {} loads {oid} before {before}, and it ended at {end:?}", self.number)
            });
            self.cache.store(oid, start, end, data, &mut context.checks);
            self.cache.check_object(oid, &context.history, &mut context.checks, self.number);
        }
    }
}

/// A load under way.
struct Asked {
    oid: Oid,
    before: Tid,
    /// What the client knew when it asked.
    at: Tid,
}

pub(super) fn tid_of(value: &Value) -> Option<Tid> {
    let bytes: [u8; 8] = value.as_bytes()?.as_ref().try_into().ok()?;
    Some(Tid::from_bytes(bytes))
}

pub(super) fn oid_of(value: &Value) -> Option<Oid> {
    let bytes: [u8; 8] = value.as_bytes()?.as_ref().try_into().ok()?;
    Some(Oid::from_bytes(bytes))
}
