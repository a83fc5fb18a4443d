"""Undo: the same file as when Python's FileStorage undoes, and what clients see of it."""
import base64
import pickle
import random
import shutil
import struct

import pytest
import servers
import transaction
import ZODB
from files import assert_clean, opened
from peers import Answered, Peer
from persistent.mapping import PersistentMapping
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import ConflictError, MultipleUndoErrors, UndoError
from ZODB.utils import p64
from ZopeUndo.Prefix import Prefix

pytestmark = pytest.mark.quick

SEEDS = range(12)
RECORD = struct.Struct(">8s8s8s8sHQ")
TRANSACTION = struct.Struct(">8sQcHHH")


def commit(storage, *steps, user=b"", description=b""):
    """One transaction of the storage's own interface; each step gets the storage and the transaction."""
    t = TransactionMetaData(user, description)
    storage.tpc_begin(t)
    try:
        for step in steps:
            step(storage, t)
        storage.tpc_vote(t)
    except BaseException:
        storage.tpc_abort(t)
        raise
    return storage.tpc_finish(t)


def write(oid, data):
    def step(storage, t):
        try:
            serial = storage.getTid(oid)
        except KeyError:
            serial = b"\0" * 8
        storage.store(oid, serial, data, "", t)

    return step


def record(value):
    """A data record of an object that nobody can resolve conflicts of."""
    return pickle.dumps((PersistentMapping, None), 3) + pickle.dumps({"data": {"value": value}}, 3)


def undo(name):
    return lambda storage, t: storage.undo(name, t)


def content(path):
    """The bytes of a file, each tid replaced by its rank: what must not depend on the clock."""
    with open(path, "rb") as f:
        data = bytearray(f.read())
    ranks, position = {}, 4
    while position < len(data):
        tid, length, _, *texts = TRANSACTION.unpack_from(data, position)
        ranks[tid] = p64(len(ranks))
        data[position:position + 8] = ranks[tid]
        record, end = position + TRANSACTION.size + sum(texts), position + length
        while record < end:
            _, tid, _, _, _, size = RECORD.unpack_from(data, record)
            data[record + 8:record + 16] = ranks[tid]
            record += RECORD.size + (size or 8)
        position = end + 8
    return bytes(data)


def history(path, rng):
    """A file with a random history: small objects, few values, so that many undos meet the same data."""
    with opened(path) as storage:
        for number in range(rng.randint(10, 40)):
            oids = [p64(oid) for oid in rng.sample(range(1, 7), rng.randint(1, 3))]
            steps = [write(oid, record(rng.randint(0, 2))) for oid in oids]
            names = [entry["id"] for entry in storage.undoLog(0, 8)]
            if names and rng.random() < 0.4:
                steps = [undo(name) for name in rng.sample(names, min(len(names), rng.choice([1, 1, 2])))]
            try:
                commit(storage, *steps, user=b"u%d" % number)
            except (ConflictError, UndoError):  # also a new object with the oid of one whose creation was undone
                pass


def undo_at(storage, places, number):
    """Undoes the transactions at these places of the undo log, all in one transaction."""
    log = storage.undoLog(0, 12)
    commit(storage, *[undo(log[place]["id"]) for place in places], user=b"%d" % number)


def said(call):
    """What a call does: its error as plain values, or None."""
    try:
        call()
    except MultipleUndoErrors as error:
        return [(oid, inner._reason, inner._oid) for oid, inner in error._errs]
    except Exception as error:
        # Over the wire every other error of the storage is a ServerException of name and payload.
        args = error.args if type(error) is not UndoError else ("ZODB.POSException.UndoError", vars(error))
        return args
    return None


@pytest.mark.parametrize("seed", SEEDS)
def test_both_undo_alike(tmp_path, serve, connect, seed):
    rng = random.Random(seed)
    theirs, ours = str(tmp_path / "python.fs"), str(tmp_path / "Data.fs")
    history(theirs, rng)
    shutil.copy(theirs, ours)
    server = serve()
    client = connect(server)
    undone = 0
    with opened(theirs) as storage:
        for number in range(40):
            names = [entry["id"] for entry in storage.undoLog(0, 12)]
            places = rng.sample(range(len(names)), min(len(names), rng.choice([1, 1, 2, 3])))
            expected, mine = (said(lambda s=s: undo_at(s, places, number)) for s in (storage, client))
            assert mine == expected, (number, places)
            undone += mine is None
    assert undone, "the history leaves enough to undo"
    client.close()
    assert server.end() == 0
    assert content(ours) == content(theirs)
    assert_clean(ours)


def test_other_clients_see_an_undo(serve, connect):
    server = serve()
    one, two = (ZODB.DB(connect(server, server_sync=True)) for _ in range(2))
    with one.transaction("first") as connection:
        connection.root()["x"] = 1
    reader = two.open()
    # Opening alone asks the server nothing; `sync` does, and then what was committed before must be there.
    reader.sync()
    assert reader.root()["x"] == 1
    with one.transaction("second") as connection:
        connection.root()["x"] = 2
    reader.sync()
    assert reader.root()["x"] == 2

    one.undo(one.undoLog(0, 1)[0]["id"], transaction.get())
    transaction.commit()

    servers.wait_until("the undo is seen", lambda: reader.sync() or reader.root()["x"] == 1)
    reader.close()
    one.close()
    two.close()


def test_the_undo_log_is_filtered_as_zope_does_it(serve, connect):
    server = serve()
    client = connect(server)
    for user, description in (b"/site admin", b"a"), (b"/site/folder admin", b"b"), (b"/other admin", b"a"):
        commit(client, user=user, description=description)

    def users(**spec):
        return [entry["user_name"] for entry in client.undoInfo(0, -20, spec)]

    assert users() == [b"/other admin", b"/site/folder admin", b"/site admin"]
    assert users(description=b"a") == [b"/other admin", b"/site admin"]
    assert users(description=b"a", user_name=b"/site admin") == [b"/site admin"]
    assert users(user_name="/site admin") == []
    if not servers.is_reference():
        assert users(user_name=Prefix("/site")) == [b"/site/folder admin", b"/site admin"]
    assert [entry["description"] for entry in client.undoLog(1, 3)] == [b"b", b"a"]
    assert client.undoLog(0, 1)[0]["id"] == base64.encodebytes(client.lastTransaction()).rstrip()


@pytest.mark.parametrize("name, error", [
    (b"AAAAAAAAAAA=", "ZODB.POSException.UndoError"),
    (b"AAAAAAAAAAA", "binascii.Error"),
    (b"AAAA", "builtins.AssertionError"),
])
@pytest.mark.parametrize("encoding", [b"Z", b"M"], ids=["pickle", "msgpack"])
def test_the_vote_says_that_a_name_names_no_transaction(serve, encoding, name, error):
    peer = Peer(serve(), encoding).register()
    peer.tell("tpc_begin", 1, b"", b"", {}, None, " ")
    peer.tell("undoa", name, 1)
    with pytest.raises(Answered) as answered:
        peer.call("vote", 1)
    assert answered.value.name == error
    peer.tell("tpc_begin", 2, b"", b"", {}, None, " ")
    assert list(peer.call("vote", 2)) == []
