//! What a client may say when, and in which order it hears the answers.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use std::sync::Arc;
use zeolith_core::{
    Abandoned, Answer, BlobStep, CloseReason, Counters, Lock, LockSet, Outbox, Publication, PublicationLog,
    Read, Rules, Session, SessionId, Step, Verdict,
};
use zeolith_storage::{Found, Load, TransactionId, UploadedBlob, Voted, Write};
use zeolith_types::{
    Call, Conflict, MessageId, Oid, Refusal, Reply, Request, Revision, Tid, TransactionStart, Value,
};

/// Writes down what leaves, in its order.
#[derive(Default)]
struct Heard(Vec<String>);

impl Outbox for Heard {
    fn invalidate(&mut self, publication: &Publication) {
        self.0.push(format!("invalidate {}", publication.tid.get()));
    }
    fn info(&mut self) {
        self.0.push("info".to_owned());
    }
    fn reply(&mut self, id: &MessageId, reply: &Reply) {
        self.0.push(format!("{id:?} {reply:?}"));
    }
    fn refuse(&mut self, id: &MessageId, refusal: &Refusal) {
        self.0.push(format!("{id:?} refused: {refusal}"));
    }
}

const ME: SessionId = SessionId(1);
const SOMEBODY: SessionId = SessionId(2);
const RULES: Rules =
    Rules { collects_conflicts: false, transaction_memory_max: 1 << 20, transaction_size_max: 1 << 30 };

fn registered(last: u64) -> Session {
    let mut session = Session::new(ME, RULES);
    session.register(false, false, Tid::new(last), Arc::default()).expect("a writable storage");
    session
}

fn call(session: &mut Session, number: i128, request: Request) -> Step {
    session.receive(Call { id: MessageId::Value(Value::Int(number)), one_way: false, request })
}

fn tell(session: &mut Session, request: Request) -> Step {
    session.receive(Call { id: MessageId::Value(Value::Int(0)), one_way: true, request })
}

fn log(publications: &[(u64, SessionId, &[u64])]) -> PublicationLog {
    let mut log = PublicationLog::new(100, 10_000, Tid::ZERO, Vec::new());
    for (tid, committer, oids) in publications {
        log.append([Publication {
            tid: Tid::new(*tid),
            oids: oids.iter().map(|oid| Oid::new(*oid)).collect(),
            committer: Some(*committer),
        }]);
    }
    log
}

fn begin(session: &mut Session, id: i128) {
    let start = TransactionStart {
        id: Value::Int(id),
        user: Bytes::new(),
        description: Bytes::new(),
        extension: Bytes::new(),
        tid: None,
        status: b' ',
        token: None,
    };
    assert!(matches!(tell(session, Request::TpcBegin(Box::new(start))), Step::Done));
}

fn store(session: &mut Session, id: i128, oid: u64, serial: u64) {
    let data = Bytes::from_static(b"record");
    let (oid, serial) = (Oid::new(oid), Tid::new(serial));
    let step = tell(session, Request::Store { oid, serial, data, id: Value::Int(id) });
    assert!(matches!(step, Step::Done));
}

fn vote(session: &mut Session, id: i128) -> LockSet {
    match call(session, 90, Request::Vote { id: Value::Int(id) }) {
        Step::Lock(locks) => locks,
        other => unreachable!("a vote asks for locks, not {other:?}"),
    }
}

/// A session at 10 whose transaction 5, which is `TransactionId(3)` to the storage, has been voted.
fn voted() -> Session {
    let mut session = registered(10);
    begin(&mut session, 5);
    store(&mut session, 5, 1, 9);
    vote(&mut session, 5);
    session.locked(TransactionId(3), Lock::Granted).unwrap();
    session.voted(TransactionId(3), ready(&[1]));
    session
}

fn ready(changed: &[u64]) -> Result<Voted, Refusal> {
    let changed = changed.iter().map(|oid| Oid::new(*oid)).collect();
    Ok(Voted::Ready { changed, resolved: vec![], undone: vec![] })
}

fn answer_of(step: Step) -> Result<Reply, Refusal> {
    match step {
        Step::Answer(Answer { result, .. }) => result,
        other => unreachable!("an answer was expected, not {other:?}"),
    }
}

#[test]
fn before_register_nothing_else_is_allowed_and_afterwards_register_is_not() {
    let mut session = Session::new(ME, RULES);
    let step = call(&mut session, 1, Request::LastTransaction);
    assert!(matches!(step, Step::Close(CloseReason::InvalidMethod(name)) if name == "lastTransaction"));
    let mut session = registered(5);
    assert!(!session.admits("register"));
    let step = call(&mut session, 1, Request::Register { storage: "1".into(), read_only: false });
    assert!(matches!(step, Step::Close(CloseReason::InvalidMethod(name)) if name == "register"));
}

#[test]
fn a_read_only_storage_refuses_a_writer_who_may_then_register_to_read() {
    let mut session = Session::new(ME, RULES);
    let counters: Arc<Counters> = Arc::default();
    assert_eq!(session.register(false, true, Tid::new(5), Arc::clone(&counters)), Err(Refusal::ReadOnly));
    let step = call(&mut session, 2, Request::Register { storage: "1".into(), read_only: true });
    assert!(matches!(step, Step::Register { read_only: true, .. }));
    assert_eq!(session.register(true, true, Tid::new(5), counters), Ok(Reply::Tid(Tid::new(5))));
    let step = call(&mut session, 3, Request::NewOids { count: 3 });
    assert_eq!(answer_of(step), Err(Refusal::ReadOnly));
}

#[test]
fn notices_up_to_the_state_of_an_answer_leave_before_it_and_later_ones_after_it() {
    let mut session = registered(10);
    let log = log(&[(11, SOMEBODY, &[1]), (12, SOMEBODY, &[1]), (13, SOMEBODY, &[2])]);
    let mut heard = Heard::default();
    assert!(session.is_behind(Tid::new(12)));
    session.deliver(&log, Tid::new(12), &mut heard).unwrap();
    let Step::Answer(answer) = call(&mut session, 1, Request::Ping) else { panic!() };
    session.answer(answer, &mut heard).unwrap();
    session.deliver(&log, Tid::new(13), &mut heard).unwrap();
    assert_eq!(heard.0, ["invalidate 11", "invalidate 12", "Value(Int(1)) None", "invalidate 13"]);
}

#[test]
fn a_late_load_learns_that_its_revision_was_replaced_meanwhile() {
    let mut session = registered(10);
    let log = log(&[(11, SOMEBODY, &[1]), (12, SOMEBODY, &[1])]);
    let revision = Revision { data: Bytes::from_static(b"old"), start: Tid::new(9), end: None };
    let load = Load { found: Found::Revision(revision), as_of: Tid::new(10) };
    session.deliver(&log, Tid::new(12), &mut Heard::default()).unwrap();
    assert!(session.is_ahead_of(load.as_of));
    let corrected = session.correct_load(Oid::new(1), load.clone(), &log).unwrap();
    assert!(
        matches!(corrected.found, Found::Revision(Revision { end: Some(end), .. }) if end == Tid::new(11))
    );
    let untouched = session.correct_load(Oid::new(2), load.clone(), &log).unwrap();
    assert_eq!(untouched, load, "nobody wrote that object");
}

#[test]
fn a_late_load_is_done_again_if_it_is_not_what_was_asked_for_any_more() {
    let found = |end| {
        let end = Some(Tid::new(end));
        Found::Revision(Revision { data: Bytes::from_static(b"old"), start: Tid::new(9), end })
    };
    let load = Load { found: found(11), as_of: Tid::new(10) };
    assert!(Session::is_outdated(&load, Tid::MAX, 0), "the current one was asked for");
    assert!(!Session::is_outdated(&load, Tid::new(11), 0), "a reader of yesterday asked");
    assert!(!Session::is_outdated(&load, Tid::MAX, 1000), "it is never the current one");
}

#[test]
fn the_committer_gets_info_and_tid_at_the_place_of_its_own_commit() {
    let mut session = registered(10);
    begin(&mut session, 5);
    store(&mut session, 5, 1, 9);
    assert_eq!(vote(&mut session, 5), LockSet::Objects(vec![Oid::new(1)]));
    let request = session.locked(TransactionId(3), Lock::Granted).unwrap();
    assert_eq!(request.writes.writes.len(), 1);
    let Verdict { answer, release } = session.voted(TransactionId(3), ready(&[1]));
    assert_eq!((answer.unwrap().result, release), (Ok(Reply::Voted(vec![])), None));
    let step = call(&mut session, 91, Request::TpcFinish { id: Value::Int(5) });
    assert!(matches!(step, Step::Finish(TransactionId(3), changed) if changed == [Oid::new(1)]));
    let log = log(&[(11, SOMEBODY, &[8]), (12, ME, &[1]), (13, SOMEBODY, &[8])]);
    let mut heard = Heard::default();
    session.deliver(&log, Tid::new(13), &mut heard).unwrap();
    let tid = format!("Value(Int(91)) Tid({:?})", Tid::new(12));
    assert_eq!(heard.0, ["invalidate 11", "info", &tid, "invalidate 13"]);
    assert!(!session.is_voting());
}

#[test]
fn what_somebody_else_has_told_the_client_is_not_told_again_and_late_loads_know_of_it() {
    assert_eq!(Session::new(ME, RULES).may_be_told(), None, "it has not registered");
    let mut session = registered(10);
    assert_eq!(session.may_be_told(), Some(Tid::new(10)));
    session.told(Tid::new(11));
    assert_eq!(session.may_be_told(), Some(Tid::new(11)));
    let log = log(&[(11, SOMEBODY, &[1]), (12, SOMEBODY, &[2])]);
    let mut heard = Heard::default();
    session.deliver(&log, Tid::new(12), &mut heard).unwrap();
    assert_eq!(heard.0, ["invalidate 12"]);
    assert!(session.is_ahead_of(Tid::new(10)));
}

#[test]
fn nobody_else_tells_a_client_what_may_be_of_its_own_transaction() {
    let mut session = voted();
    assert_eq!(session.may_be_told(), Some(Tid::new(10)));
    call(&mut session, 91, Request::TpcFinish { id: Value::Int(5) });
    assert_eq!(session.may_be_told(), None);
    session.deliver(&log(&[(11, ME, &[1])]), Tid::new(11), &mut Heard::default()).unwrap();
    assert_eq!(session.may_be_told(), Some(Tid::new(11)));
}

#[test]
fn a_client_too_far_behind_is_cut_off() {
    let mut session = registered(10);
    let mut log = PublicationLog::new(1, 10_000, Tid::ZERO, Vec::new());
    for tid in 11..30_000 {
        let oids = Arc::from([Oid::new(1)]);
        log.append([Publication { tid: Tid::new(tid), oids, committer: None }]);
    }
    assert_eq!(session.keeps_up(&log, Tid::new(29_999)), Err(CloseReason::Lagged));
    let told = session.deliver(&log, Tid::new(29_999), &mut Heard::default());
    assert_eq!(told, Err(CloseReason::Lagged));
    assert_eq!(registered(29_000).keeps_up(&log, Tid::new(29_999)), Ok(()));
}

#[test]
fn while_a_vote_waits_other_calls_are_served_and_abort_takes_it_back_unanswered() {
    let mut session = registered(10);
    begin(&mut session, 5);
    store(&mut session, 5, 1, 9);
    vote(&mut session, 5);
    assert!(session.locked(TransactionId(3), Lock::Waiting).is_none());
    assert!(matches!(call(&mut session, 1, Request::GetInfo), Step::Read(_, Read::Info)));
    let again = answer_of(call(&mut session, 2, Request::Vote { id: Value::Int(5) }));
    assert_eq!(again, Err(Refusal::Transaction("Already voting (waiting)".into())));
    let step = call(&mut session, 3, Request::TpcAbort { id: Value::Int(5) });
    let waited = Abandoned { transaction: TransactionId(3), voted: false };
    assert!(matches!(step, Step::Abort(_, Some(abandoned)) if abandoned == waited));
    assert!(session.granted(TransactionId(3)).is_none(), "a grant on its way finds nobody");
}

#[test]
fn a_vote_that_fails_ends_the_transaction_and_releases_its_locks() {
    let mut session = registered(10);
    begin(&mut session, 5);
    store(&mut session, 5, 1, 9);
    vote(&mut session, 5);
    session.locked(TransactionId(3), Lock::Granted).unwrap();
    let Verdict { answer, release } = session.voted(TransactionId(3), Err(Refusal::NoObject(Oid::new(1))));
    assert_eq!(answer.unwrap().result, Err(Refusal::NoObject(Oid::new(1))));
    assert_eq!(release, Some(Abandoned { transaction: TransactionId(3), voted: false }));
    let step = call(&mut session, 4, Request::TpcAbort { id: Value::Int(5) });
    assert!(matches!(step, Step::Answer(Answer { result: Ok(Reply::None), .. })));
}

#[test]
fn a_client_that_resolves_conflicts_votes_again_on_the_whole_log() {
    let mut session = Session::new(ME, Rules { collects_conflicts: true, ..RULES });
    session.register(false, false, Tid::new(10), Arc::default()).unwrap();
    begin(&mut session, 5);
    store(&mut session, 5, 1, 9);
    vote(&mut session, 5);
    session.locked(TransactionId(3), Lock::Granted).unwrap();
    let conflict = Conflict {
        oid: Oid::new(1),
        committed: Tid::new(10),
        read: Tid::new(9),
        data: Bytes::from_static(b"record"),
    };
    let Verdict { answer, release } =
        session.voted(TransactionId(3), Ok(Voted::Conflicts(vec![conflict.clone()])));
    assert_eq!(answer.unwrap().result, Ok(Reply::Conflicts(vec![conflict])));
    assert!(release.is_some(), "the locks are given up while the client resolves");
    store(&mut session, 5, 1, 10);
    vote(&mut session, 5);
    let request = session.locked(TransactionId(4), Lock::Granted).unwrap();
    assert_eq!(request.writes.writes.len(), 2);
}

#[test]
fn finish_and_abort_of_an_unknown_transaction_answer_none_and_finish_without_vote_fails() {
    let mut session = registered(10);
    let unknown = || Value::Int(77);
    assert_eq!(answer_of(call(&mut session, 1, Request::TpcFinish { id: unknown() })), Ok(Reply::None));
    assert_eq!(answer_of(call(&mut session, 2, Request::TpcAbort { id: unknown() })), Ok(Reply::None));
    begin(&mut session, 5);
    let early = answer_of(call(&mut session, 3, Request::TpcFinish { id: Value::Int(5) }));
    assert!(matches!(early, Err(Refusal::Assertion(_))));
    let wrong = answer_of(call(&mut session, 4, Request::Vote { id: unknown() }));
    assert_eq!(wrong, Err(Refusal::WrongTransaction { current: Some(Value::Int(5)), given: Value::Int(77) }));
}

#[test]
fn a_one_way_call_that_fails_closes_the_connection() {
    let mut session = registered(10);
    let data = Bytes::new();
    let stray = Request::Store { oid: Oid::new(1), serial: Tid::ZERO, data, id: Value::Int(5) };
    let Step::Answer(answer) = tell(&mut session, stray) else { panic!("the session leaves it to `answer`") };
    let closed = session.answer(answer, &mut Heard::default());
    assert!(matches!(closed, Err(CloseReason::OneWayFailed("storea", Refusal::WrongTransaction { .. }))));
}

#[test]
fn a_second_begin_is_ignored_for_the_same_transaction_and_refused_for_another() {
    let mut session = registered(10);
    begin(&mut session, 5);
    begin(&mut session, 5);
    let start = TransactionStart {
        id: Value::Int(6),
        user: Bytes::new(),
        description: Bytes::new(),
        extension: Bytes::new(),
        tid: None,
        status: b' ',
        token: None,
    };
    let step = call(&mut session, 1, Request::TpcBegin(Box::new(start)));
    assert!(matches!(answer_of(step), Err(Refusal::Transaction(_))));
}

#[test]
fn a_connection_that_breaks_gives_back_what_it_held_unless_the_log_writer_has_it() {
    let mut session = voted();
    assert_eq!(session.close(), Some(Abandoned { transaction: TransactionId(3), voted: true }));

    let mut session = voted();
    call(&mut session, 9, Request::TpcFinish { id: Value::Int(5) });
    assert_eq!(session.close(), None);
}

#[test]
fn a_finish_that_could_not_be_written_is_answered_and_the_client_may_begin_again() {
    let mut session = voted();
    call(&mut session, 9, Request::TpcFinish { id: Value::Int(5) });
    let full = Refusal::Os { errno: Some(28), text: "disk full".into() };
    assert_eq!(session.finish_failed(full.clone()).unwrap().result, Err(full));
    begin(&mut session, 6);
}

fn upload_begins(session: &mut Session) -> Step {
    tell(session, Request::StoreBlobStart)
}

fn upload_ends(session: &mut Session, id: i128, oid: u64) -> Step {
    let (oid, serial, data) = (Oid::new(oid), Tid::ZERO, Bytes::from_static(b"record"));
    tell(session, Request::StoreBlobEnd { oid, serial, data, id: Value::Int(id) })
}

fn chunk(session: &mut Session) -> Step {
    tell(session, Request::StoreBlobChunk { chunk: Bytes::from_static(b"chunk") })
}

fn refused(step: &Step) -> bool {
    matches!(step, Step::Answer(Answer { result: Err(_), .. }))
}

#[test]
fn an_upload_becomes_a_write_of_its_transaction() {
    let mut session = registered(5);
    begin(&mut session, 7);
    assert!(matches!(upload_begins(&mut session), Step::Blob(_, BlobStep::Begin)));
    assert!(matches!(chunk(&mut session), Step::Blob(_, BlobStep::Append(_))));
    let Step::Blob(to, BlobStep::End(record)) = upload_ends(&mut session, 7, 3) else {
        panic!("the upload does not end");
    };
    let blob = UploadedBlob::new("content", 7);
    let step = session.blob_uploaded(to, record, Ok(blob.clone()));
    assert!(matches!(step, Step::Done));
    assert!(matches!(call(&mut session, 1, Request::Vote { id: Value::Int(7) }), Step::Lock(_)));
    let request = session.locked(TransactionId(1), Lock::Granted).expect("the locks are held");
    let data = Bytes::from_static(b"record").into();
    let write = Write::StoreBlob { oid: Oid::new(3), serial: Tid::ZERO, data, blob };
    assert_eq!(request.writes.writes, [write]);
}

#[test]
fn an_upload_needs_a_transaction_and_a_beginning_of_its_own() {
    let mut session = registered(5);
    assert!(refused(&upload_begins(&mut session)));
    begin(&mut session, 7);
    assert!(refused(&chunk(&mut session)));
    assert!(refused(&upload_ends(&mut session, 7, 3)));
    assert!(matches!(upload_begins(&mut session), Step::Blob(..)));
    assert!(refused(&upload_begins(&mut session)));
    assert!(refused(&upload_ends(&mut session, 8, 3)));
    assert!(matches!(upload_ends(&mut session, 7, 3), Step::Blob(..)));
    assert!(refused(&chunk(&mut session)));
}

#[test]
fn a_refused_upload_ends_the_connection_and_a_reader_can_not_begin_one() {
    let mut session = registered(5);
    begin(&mut session, 7);
    upload_begins(&mut session);
    let Step::Blob(to, BlobStep::End(record)) = upload_ends(&mut session, 7, 3) else {
        panic!("the upload does not end");
    };
    let refusal = Refusal::Storage("disk full".to_owned());
    let Step::Answer(answer) = session.blob_uploaded(to, record, Err(refusal)) else {
        panic!("no answer");
    };
    let mut heard = Heard::default();
    assert!(matches!(session.answer(answer, &mut heard), Err(CloseReason::OneWayFailed("storeBlobEnd", _))));

    let mut reader = Session::new(ME, RULES);
    reader.register(true, false, Tid::ZERO, Arc::default()).expect("anybody may read");
    assert!(refused(&upload_begins(&mut reader)));
    let name = "x.tmp-".to_owned();
    let (oid, serial, data, id) = (Oid::new(3), Tid::ZERO, Bytes::new(), Value::Int(7));
    assert!(refused(&tell(&mut reader, Request::StoreBlobShared { oid, serial, data, filename: name, id })));
    let asks = call(&mut reader, 1, Request::SendBlob { oid, serial });
    assert!(matches!(asks, Step::SendBlob { .. }));
}
