"""Who waits for whom, who is told what, and in which order: the two-phase commit, message by message."""
import random
import threading

import pytest
import servers
import ZODB
from peers import Answered, Peer
from persistent.mapping import PersistentMapping
from servers import wait_until

pytestmark = pytest.mark.quick

NEVER = b"\x7f" + b"\xff" * 7
NEW = b"\0" * 8
BOTH = pytest.mark.parametrize("encoding", [b"Z", b"M"], ids=["pickle", "msgpack"])


class Committer(Peer):
    """A peer with the steps of a commit."""

    def current(self, oid):
        data, tid, _ = self.call("loadBefore", oid, NEVER)
        return data, tid

    def begin(self, txn, **extension):
        self.tell("tpc_begin", txn, b"user", b"note", extension, None, " ")

    def store(self, txn, oid, serial=None, data=None):
        if serial is None:
            old, serial = self.current(oid)
            data = data or old
        self.tell("storea", oid, serial, data or b"data", txn)

    def voted(self, txn, *oids):
        """Begins, stores these existing objects, and votes; returns when the vote is answered."""
        self.prepared(txn, *oids)
        assert list(self.call("vote", txn)) == []
        return self

    def prepared(self, txn, *oids):
        self.begin(txn)
        for oid in oids:
            self.store(txn, oid)
        return self

    def finish(self, txn):
        return self.call("tpc_finish", txn)

    def abort(self, txn):
        return self.call("tpc_abort", txn)

    def reply_to(self, msgid):
        """(flag, result) of that call, and the names of the notices that came before it."""
        notices = []
        while True:
            message = self.read_message()
            assert message is not None, "the server closed the connection"
            if message[0] == msgid and message[2] == ".reply":
                return message[1], message[3], notices
            notices.append((message[2], message[3]))

    def next_invalidation(self):
        while True:
            message = self.read_message()
            assert message is not None, "the server closed the connection"
            if message[2] == "invalidateTransaction":
                tid, oids = message[3]
                return tid, list(oids)


class Site:
    """A server with a few objects, and committers connected to it."""

    def __init__(self, server, connect):
        self.server = server
        db = ZODB.DB(connect(server))
        with db.transaction() as connection:
            objects = [PersistentMapping(n=n) for n in range(6)]
            for n, thing in enumerate(objects):
                connection.root()[n] = thing
        self.oids = [thing._p_oid for thing in objects]
        db.close()
        self.watch = Peer(server).register(read_only=True)

    def committer(self, encoding=b"Z", read_only=False):
        return Committer(self.server, encoding).register(read_only=read_only)

    def waiting(self, number):
        wait_until("%d votes wait" % number, lambda: self.status()["waiting"] == number)

    def status(self):
        return self.watch.call("server_status")


@pytest.fixture
def site(serve, connect):
    return Site(serve(), connect)


@BOTH
def test_a_vote_waits_for_who_holds_the_object_and_goes_on_when_that_aborts(site, encoding):
    a, b = site.committer(encoding), site.committer(encoding)
    oid = site.oids[0]
    a.voted(1, oid)
    b.prepared(2, oid)
    vote = b.ask("vote", 2)
    site.waiting(1)

    a.abort(1)

    flag, resolved, _ = b.reply_to(vote)
    assert (flag, list(resolved)) == (0, [])
    tid = b.finish(2)
    assert site.committer().current(oid)[1] == tid


@BOTH
def test_a_waiting_vote_is_told_of_the_commit_first_and_of_the_conflict_then(site, encoding):
    a, b = site.committer(encoding), site.committer(encoding)
    oid = site.oids[0]
    _, read_serial = b.current(oid)
    a.voted(1, oid)
    b.prepared(2, oid)
    vote = b.ask("vote", 2)
    site.waiting(1)

    tid = a.finish(1)

    flag, (name, error), notices = b.reply_to(vote)
    assert flag and name == "ZODB.POSException.ConflictError"
    assert (error["oid"], tuple(error["serials"])) == (oid, (tid, read_serial))
    assert error["class_name"] == "persistent.mapping.PersistentMapping"
    assert set(error) == {"message", "oid", "class_name", "serials"}
    [(notice, (told_tid, oids))] = [n for n in notices if n[0] == "invalidateTransaction"]
    assert (told_tid, list(oids)) == (tid, [oid])
    # the transaction is gone: aborting it is no error, and the next one may begin
    assert b.abort(2) is None
    b.voted(3, oid).finish(3)


def test_votes_that_wait_for_one_object_are_answered_in_their_order(site):
    oid = site.oids[0]
    holder = site.committer().voted(1, oid)
    others = []
    for number in range(4):
        peer = site.committer().prepared(10 + number, oid)
        others.append((peer, 10 + number, peer.ask("vote", 10 + number)))
        site.waiting(number + 1)

    holder.abort(1)
    for left, (peer, txn, vote) in zip([3, 2, 1, 0], others):
        assert peer.reply_to(vote)[:2] == (0, [])
        site.waiting(left)
        peer.abort(txn)


def test_a_client_whose_vote_waits_is_still_answered(site):
    oid = site.oids[0]
    a, b = site.committer().voted(1, oid), site.committer().prepared(2, oid)
    vote = b.ask("vote", 2)
    site.waiting(1)
    assert b.call("ping") is None
    assert b.current(site.oids[1])
    with pytest.raises(Answered) as caught:
        b.call("vote", 2)
    assert caught.value.name == "ZODB.POSException.StorageTransactionError"
    a.abort(1)
    assert b.reply_to(vote)[0] == 0


@pytest.mark.parametrize("how", ["abort", "disconnect"])
def test_a_waiting_vote_can_be_given_up(site, how):
    oid = site.oids[0]
    a, b = site.committer().voted(1, oid), site.committer().prepared(2, oid)
    b.ask("vote", 2)
    site.waiting(1)
    if how == "abort":
        assert b.abort(2) is None, "and the vote itself is never answered"
    else:
        b.close()
    site.waiting(0)
    a.finish(1)
    site.committer().voted(3, oid).finish(3)


@pytest.mark.parametrize("stage", ["begun", "voted"])
def test_a_client_that_goes_away_leaves_no_lock_behind(site, stage):
    oid = site.oids[0]
    a = site.committer().prepared(1, oid)
    if stage == "voted":
        assert a.call("vote", 1) == []
    a.close()
    wait_until("the transaction is gone", lambda: site.status()["active_txns"] == 0)
    site.committer().voted(2, oid).finish(2)
    wait_until("the lock is free", lambda: site.status()["lock_time"] is None)


@pytest.mark.beyond_reference("it forgets to release the lock")
def test_who_holds_an_object_too_long_is_disconnected_and_the_next_goes_on(serve, connect):
    site = Site(serve(zeo="  transaction-timeout 1"), connect)
    oid = site.oids[0]
    a, b = site.committer().voted(1, oid), site.committer().prepared(2, oid)
    vote = b.ask("vote", 2)

    assert b.reply_to(vote)[:2] == (0, [])
    b.finish(2)

    assert a.is_closed()
    log = site.server.log()
    assert "Transaction timeout after 1 seconds" in log and " CRITICAL " in log
    wait_until("it is no longer counted", lambda: site.status()["connections"] == 2)
    site.committer().voted(3, oid).finish(3)


def test_the_timeout_does_not_touch_who_finishes_in_time(serve, connect):
    site = Site(serve(zeo="  transaction-timeout 2"), connect)
    a = site.committer()
    for txn in range(1, 30):
        a.voted(txn, site.oids[txn % 6]).finish(txn)
    assert "Transaction timeout" not in site.server.log()


@pytest.mark.beyond_reference("it has one lock for the whole storage")
def test_commits_of_disjoint_objects_overlap(site):
    a, b = site.committer().voted(1, site.oids[0]), site.committer()

    tids = [b.voted(txn, site.oids[1], site.oids[2]).finish(txn) for txn in range(2, 12)]

    assert site.status()["waiting"] == 0
    last = a.finish(1)
    assert tids + [last] == sorted({*tids, last}), "tids are given at finish, and rise"
    assert site.committer().current(site.oids[0])[1] == last


@pytest.mark.beyond_reference("it has one lock for the whole storage")
def test_commits_overlap_as_far_as_their_objects_are_disjoint(site):
    x, y, z = site.oids[:3]
    a = site.committer().voted(1, x)
    b = site.committer().prepared(2, x, y)
    vote = b.ask("vote", 2)
    site.waiting(1)
    # b holds nothing while it waits for x, so z is free for anybody
    site.committer().voted(3, z).finish(3)
    a.abort(1)
    assert b.reply_to(vote)[0] == 0
    b.finish(2)


def test_commits_that_name_no_existing_object_exclude_each_other(site):
    """A commit of new objects only takes the whole storage: upstream's tests rely on that."""
    a, b = site.committer(), site.committer()
    for txn, peer in (1, a), (2, b):
        peer.begin(txn)
        peer.store(txn, peer.call("new_oids", 1)[0], serial=NEW)
    assert a.call("vote", 1) == []
    vote = b.ask("vote", 2)
    site.waiting(1)

    first = a.finish(1)

    assert b.reply_to(vote)[0] == 0
    assert b.finish(2) > first


def test_nobody_who_reads_waits_for_a_commit(site):
    oid = site.oids[0]
    before = site.committer().current(oid)
    a = site.committer()
    a.begin(1)
    a.store(1, oid, before[1], b"not yet")
    assert a.call("vote", 1) == []

    reader = site.committer(read_only=True)
    for other in site.oids:
        assert reader.current(other)
    assert reader.current(oid) == before, "what is voted is not seen"
    assert reader.call("lastTransaction") == reader.last_tid
    tid = a.finish(1)
    assert reader.current(oid) == (b"not yet", tid)
    assert reader.call("loadBefore", oid, tid) == (before[0], before[1], tid)


@BOTH
def test_everybody_else_is_told_of_every_commit_once_and_in_order(site, encoding):
    a, b = site.committer(encoding), site.committer(encoding)
    watchers = [site.committer(encoding, read_only=True) for _ in range(3)]
    done = []
    for txn in range(1, 9):
        peer = (a, b)[txn % 2]
        new = peer.call("new_oids", 1)[0]
        peer.begin(txn)
        peer.store(txn, site.oids[txn % 6])
        peer.store(txn, new, serial=NEW)
        peer.call("vote", txn)
        done.append((peer.finish(txn), sorted([site.oids[txn % 6], new])))

    for watcher in watchers:
        told = [watcher.next_invalidation() for _ in done]
        assert [(tid, sorted(oids)) for tid, oids in told] == done
        assert watcher.call("ping") is None


def test_who_commits_is_told_the_size_before_the_tid(site):
    a = site.committer().voted(1, site.oids[0])
    flag, tid, notices = a.reply_to(a.ask("tpc_finish", 1))
    assert (flag, len(tid)) == (0, 8)
    assert [name for name, _ in notices] == ["info"]
    [(_, (info,))] = notices
    assert set(info) == {"length", "size"}


def test_an_empty_transaction_is_a_transaction(site):
    watcher = site.committer(read_only=True)
    a = site.committer()
    a.begin(1)
    assert a.call("vote", 1) == []
    tid = a.finish(1)
    assert watcher.next_invalidation() == (tid, [])
    assert a.call("lastTransaction") == tid


@pytest.mark.beyond_reference("others learn the tid, but not what was deleted")
def test_a_deleted_object_is_told_to_others(site):
    oid = site.oids[0]
    watcher = site.committer(read_only=True)
    a = site.committer()
    _, serial = a.current(oid)
    a.begin(1)
    a.tell("deleteObject", oid, serial, 1)
    assert a.call("vote", 1) == []
    tid = a.finish(1)
    assert watcher.next_invalidation() == (tid, [oid])
    with pytest.raises(Answered) as caught:
        watcher.call("loadBefore", oid, NEVER)
    assert (caught.value.name, tuple(caught.value.payload)) == ("ZODB.POSException.POSKeyError", (oid,))
    data, start, end = watcher.call("loadBefore", oid, tid)
    assert (start, end) == (serial, tid) and data


@pytest.mark.beyond_reference("others learn the tid, but not what was restored")
def test_a_restored_object_is_told_to_others(site):
    oid = site.oids[0]
    watcher = site.committer(read_only=True)
    a = site.committer()
    tid = (int.from_bytes(a.call("lastTransaction"), "big") + 1000).to_bytes(8, "big")
    a.tell("tpc_begin", 1, b"", b"", {}, tid, " ")
    a.tell("restorea", oid, tid, b"restored", None, 1)
    assert a.call("vote", 1) == []
    assert a.finish(1) == tid
    assert watcher.next_invalidation() == (tid, [oid])
    assert watcher.call("loadBefore", oid, NEVER) == (b"restored", tid, None)


def test_what_was_read_and_has_changed_meanwhile_is_a_read_conflict(site):
    a = site.committer()
    _, stale = a.current(site.oids[0])
    tid = site.committer().voted(1, site.oids[0]).finish(1)
    a.prepared(2, site.oids[1])
    a.tell("checkCurrentSerialInTransaction", site.oids[0], stale, 2)
    with pytest.raises(Answered) as caught:
        a.call("vote", 2)
    assert caught.value.name == "ZODB.POSException.ReadConflictError"
    assert (caught.value.payload["oid"], caught.value.payload["serials"]) == (site.oids[0], (tid, stale))


@BOTH
def test_conflicts_are_given_to_a_client_that_is_to_resolve_them(serve, connect, encoding):
    site = Site(serve(zeo="  client-conflict-resolution true"), connect)
    a, b = site.committer(encoding), site.committer(encoding)
    oid = site.oids[0]
    data, stale = a.current(oid)
    committed = b.voted(1, oid).finish(1)
    a.begin(2)
    a.store(2, oid, stale, data)

    [conflict] = a.call("vote", 2)
    assert (conflict["oid"], tuple(conflict["serials"]), conflict["data"]) == (oid, (committed, stale), data)
    # the lock is free meanwhile
    b.voted(3, site.oids[1]).finish(3)
    a.store(2, oid, committed, data)
    assert list(a.call("vote", 2)) == []
    assert a.current(oid)[1] == committed
    assert a.finish(2) > committed


def test_steps_out_of_turn_are_answered_as_the_protocol_says(site):
    a = site.committer()
    for step, answer in [("vote", "ZODB.POSException.StorageTransactionError"), ("tpc_finish", None), ("tpc_abort", None)]:
        assert outcome(a, step, 99) == answer, step
    a.prepared(1, site.oids[0])
    assert outcome(a, "vote", 99) == "ZODB.POSException.StorageTransactionError"
    assert outcome(a, "tpc_finish", 99) is None
    assert outcome(a, "tpc_abort", 99) is None
    assert outcome(a, "tpc_finish", 1) == "builtins.AssertionError", "it is not voted yet"
    a.begin(1)  # the same again is ignored
    assert a.call("vote", 1) == []
    assert outcome(a, "vote", 1) == "ZODB.POSException.StorageTransactionError"
    assert len(a.finish(1)) == 8
    assert a.finish(1) is None


def test_two_transactions_at_once_on_one_connection_end_it(site):
    a = site.committer()
    a.begin(1)
    a.begin(2)
    assert a.is_closed()


def outcome(peer, *call):
    """The result of a call, or the name of the error it was answered with."""
    try:
        return peer.call(*call)
    except Answered as error:
        return error.name


def test_a_read_only_registration_cannot_write(site):
    a = site.committer(read_only=True)
    for call in [("new_oids",), ("vote", 1), ("tpc_finish", 1), ("tpc_abort", 1)]:
        assert outcome(a, *call) == "ZODB.POSException.ReadOnlyError"
    a.begin(1)
    assert a.is_closed()


def test_many_writers_of_overlapping_objects_neither_deadlock_nor_lose_anything(site):
    """Each commit adds one to three of six counters, in an order of its own."""
    turns, writers = 12, 6
    errors = []
    setup = site.committer()
    setup.begin(1)
    for oid in site.oids:
        setup.store(1, oid, setup.current(oid)[1], b"0")
    setup.call("vote", 1)
    setup.finish(1)

    def write(seed):
        chance = random.Random(seed)
        peer = site.committer()
        try:
            txn = 0
            for _ in range(turns):
                oids = chance.sample(site.oids, 3)
                while True:
                    txn += 1
                    peer.begin(txn)
                    for oid in oids:
                        data, serial = peer.current(oid)
                        peer.store(txn, oid, serial, b"%d" % (int(data) + 1))
                    result = outcome(peer, "vote", txn)
                    if result == []:
                        assert len(peer.finish(txn)) == 8
                        break
                    assert result == "ZODB.POSException.ConflictError", result
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(seed,), daemon=True) for seed in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads) and errors == []
    reader = site.committer(read_only=True)
    assert sum(int(reader.current(oid)[0]) for oid in site.oids) == 3 * turns * writers
    wait_until("no transaction is left", lambda: site.status()["waiting"] == site.status()["active_txns"] == 0)
