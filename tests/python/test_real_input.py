"""Databases as sites have them: what the server gives is what Python's FileStorage gives, and stays so.

Databases come from `generate.py`; the big one has 100,000 objects. Python's FileStorage
reads each before the server and after it, with fstest and fsrefs.
"""
import os
import shutil
import time

import files
import generate
import pytest
import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from servers import filestorage
from ZODB.FileStorage import FileStorage
from ZODB.fsIndex import fsIndex
from ZODB.POSException import POSKeyError
from ZODB.scripts import fstest
from ZODB.utils import load_current, p64, u64, z64

WINDOW = 4000  # loads that are under way at once


@pytest.fixture(scope="session")
def big(tmp_path_factory):
    """The path of a database of 100,000 objects; copy it before use."""
    return generated(tmp_path_factory.mktemp("big"), 100_000)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The same kinds of things, 2,000 objects."""
    return generated(tmp_path_factory.mktemp("small"), 2_000)


def generated(directory, objects):
    path = str(directory / "Data.fs")
    generate.generate(path, objects)
    files.assert_clean(path)
    return path


def copied(original, directory, index="new"):
    """A copy in the test's directory, with the newest index, with none or with an old one."""
    path = str(directory / "Data.fs")
    shutil.copyfile(original, path)
    if index == "new":
        shutil.copyfile(original + ".index", path + ".index")
    elif index == "old":
        shutil.copyfile(original + ".index.old", path + ".index")
    return path


@pytest.mark.parametrize("index, ending", [("new", "end"), ("none", "kill"), ("old", "end")])
def test_a_hundred_thousand_objects_are_read_and_the_file_goes_back_to_python(
    big, tmp_path, serve, connect, index, ending
):
    path = copied(big, tmp_path, index)
    server = serve()
    client = connect(server, cache_size=300 << 20)

    assert_every_object_equals(client, big)
    client.close()
    committed = commit_some(connect(server))
    getattr(server, ending)()

    assert_python_goes_on_with(path, committed, indexed_up_to(big, index), ended_well=ending == "end")


@pytest.mark.quick
@pytest.mark.parametrize("ending", ["end", "kill"])
@pytest.mark.parametrize("index", ["new", "none", "old"])
def test_a_small_database_is_served_and_goes_back_to_python(small, tmp_path, serve, connect, index, ending):
    path = copied(small, tmp_path, index)
    server = serve()

    assert_every_object_equals(connect(server), small)
    committed = commit_some(connect(server))
    getattr(server, ending)()

    assert_python_goes_on_with(path, committed, indexed_up_to(small, index), ended_well=ending == "end")


def indexed_up_to(original, index):
    """Where the index ends, at least, that is there after the server opened the file.

    It writes a new one only after a full scan, and not for a file of less than a megabyte.
    """
    size = os.path.getsize(original)
    if index == "old":
        return fsIndex.load(original + ".index.old")["pos"]
    return size if index == "new" or size > 1 << 20 else 4


def assert_every_object_equals(client, path):
    """Every oid of the file, loaded over the wire many at a time, is as in the file."""
    with files.opened(path, read_only=True) as expected:
        oids = files.oids(expected)
        assert len(client) == len(oids)
        missing = 0
        for start in range(0, len(oids), WINDOW):
            window = oids[start:start + WINDOW]
            existing = [oid for oid in window if files.current(expected, oid)]
            before = p64(u64(client.lastTransaction()) + 1)
            client._server.prefetch(existing, before).result(60)
            for oid in window:
                want = files.current(expected, oid)
                if want is None:
                    missing += 1
                    with pytest.raises(POSKeyError):
                        load_current(client, oid)
                else:
                    data, tid, end = client.loadBefore(oid, before)
                    assert (data, tid) == want and end is None
        assert missing == 4, "two creations of two objects each were undone"


def commit_some(client, times=20):
    """Commits over the wire; returns what must be in the database from now on."""
    db = ZODB.DB(client)
    connection = db.open()
    for number in range(times):
        connection.root()["over the wire %d" % number] = PersistentMapping(n=number, tree=OOBTree({"k": number}))
        transaction.get().note("written over the wire \u2013 %d" % number)
        transaction.commit()
    connection.root()["hot"]["turn"] = times
    transaction.commit()
    last = client.lastTransaction()
    connection.close()
    db.close()
    return {"times": times, "last": last}


def assert_python_goes_on_with(path, committed, indexed, ended_well):
    """Python's FileStorage opens the file by its index, finds the commits, and can write."""
    start, storage = files.opened_where(path)
    size = os.path.getsize(path)
    assert storage.lastTransaction() == committed["last"]
    storage.close()
    if ended_well:
        assert start == size, "the index is accepted, and covers the whole file"
        files.assert_clean(path)
    else:
        # What follows the last transaction, perhaps, Python cuts off below.
        assert indexed <= start <= size, "the index is accepted, and the scan goes on from where it ends"
    db = ZODB.DB(FileStorage(path))
    connection = db.open()
    root = connection.root()
    assert [root["over the wire %d" % n]["tree"]["k"] for n in range(committed["times"])] == list(
        range(committed["times"])
    )
    assert root["hot"]["turn"] == committed["times"]
    root["back in Python"] = PersistentMapping()
    transaction.commit()
    db.close()
    fstest.check(path)


@pytest.mark.quick
def test_iteration_over_the_wire_tells_every_transaction_and_record(small, tmp_path, serve, connect):
    copied(small, tmp_path)
    client = connect(serve())

    over_the_wire = files.transactions(client)

    with files.opened(small, read_only=True) as expected:
        assert over_the_wire == files.transactions(expected)
        # both ends are inclusive, and need not be tids of transactions
        tids = [t[0] for t in over_the_wire]
        for start, stop in [(tids[3], tids[7]), (None, tids[2]), (tids[-2], None), (p64(u64(tids[3]) + 1), tids[6])]:
            assert files.transactions(client, start, stop) == files.transactions(expected, start, stop)
        assert [t[0] for t in files.transactions(client, tids[3], tids[7])] == tids[3:8]


def test_a_copy_made_from_the_server_is_the_file_byte_for_byte(small, tmp_path, serve, connect):
    copied(small, tmp_path)
    client = connect(serve())

    with files.opened(tmp_path / "copy.fs") as copy, files.opened(tmp_path / "twin.fs") as twin:
        copy.copyTransactionsFrom(client)
        with files.opened(small, read_only=True) as original:
            twin.copyTransactionsFrom(original)

    assert (tmp_path / "copy.fs").read_bytes() == (tmp_path / "twin.fs").read_bytes()


def test_a_copy_made_into_the_server_is_the_file_python_makes(small, tmp_path, serve, connect):
    server = serve()
    client = connect(server)

    with files.opened(small, read_only=True) as original, files.opened(tmp_path / "twin.fs") as twin:
        client.copyTransactionsFrom(original)
        twin.copyTransactionsFrom(original)
    client.close()
    assert server.end() == 0

    assert (tmp_path / "Data.fs").read_bytes() == (tmp_path / "twin.fs").read_bytes()
    files.assert_clean(str(tmp_path / "Data.fs"))


@pytest.mark.quick
def test_the_past_is_told_as_python_tells_it(small, tmp_path, serve, connect):
    copied(small, tmp_path)
    client = connect(serve())
    with files.opened(small, read_only=True) as expected:
        told = [(t.tid, [r.oid for r in t]) for t in expected.iterator()]
        tids = [tid for tid, _ in told]
        hot = sorted({oid for _, oids in told[-20:] for oid in oids})
        asked = 0
        for oid in hot + files.oids(expected)[::211]:
            for tid in tids + [z64, p64(u64(tids[5]) + 1), b"\x7f" + b"\xff" * 7]:
                got, want = (answer(s.loadBefore, oid, tid) for s in (client, expected))
                assert got == want, (oid, tid)
                asked += 1
            for tid in tids[-30:]:
                got, want = (answer(s.loadSerial, oid, tid) for s in (client, expected))
                assert got == want, (oid, tid)
            if files.current(expected, oid):
                assert client.history(oid, 1000) == expected.history(oid, 1000)
                assert client.history(oid) == expected.history(oid)
        assert asked > 500
        unknown = p64(10**9)
        assert answer(client.loadBefore, unknown, tids[-1]) == answer(expected.loadBefore, unknown, tids[-1])


def answer(call, *arguments):
    """What a call returns, or the name of what it raises."""
    try:
        return call(*arguments)
    except POSKeyError:
        return "POSKeyError"


@pytest.mark.quick
def test_current_records_are_iterated_in_order_of_oid(small, tmp_path, serve, connect):
    copied(small, tmp_path)
    client = connect(serve())

    with files.opened(small, read_only=True) as expected:
        oids = files.oids(expected)
        existing = [oid for oid in oids if files.current(expected, oid)]
        got = []
        following = None
        while following is not None or not got:
            try:
                oid, tid, data, following = client.record_iternext(following)
            except POSKeyError:
                # Python's server stumbles over an undone creation; step over it
                assert following not in existing
                following = next((oid for oid in existing if oid > following), None)
            else:
                got.append((oid, (data, tid)))
        assert got == [(oid, files.current(expected, oid)) for oid in existing]


@pytest.mark.quick
def test_a_client_that_was_away_learns_what_changed_however_long_ago(small, tmp_path, serve, connect):
    copied(small, tmp_path)
    client = connect(serve(zeo="  invalidation-queue-size 5\n  invalidation-age 3600"))

    with files.opened(small, read_only=True) as expected:
        history = [(t.tid, {r.oid for r in t}) for t in expected.iterator()]
    last = history[-1][0]
    for position in [-1, -2, -5, -6, -20, len(history) // 2, 1]:
        tid = history[position][0]
        changed = set().union(*(oids for t, oids in history if t > tid)) if tid < last else set()
        answered = client._call("getInvalidations", tid)
        if tid == last:
            assert answered is None or set(answered[1]) == set()
        else:
            assert answered is not None, "position %d" % position
            assert (answered[0], set(answered[1])) == (last, changed)


def test_what_can_be_undone_is_listed_as_python_lists_it(small, tmp_path, serve, connect):
    copied(small, tmp_path)
    client = connect(serve())

    if not client.supportsUndo():
        # a server that does not claim undo says that there is nothing to undo
        assert list(client.undoLog(0, 20)) == []
        return
    with files.opened(small) as expected:
        for first, last in [(0, 20), (0, -5), (3, 9), (10, 10)]:
            assert client.undoLog(first, last) == expected.undoLog(first, last)


@pytest.mark.quick
def test_a_new_file_is_made_where_there_is_none(tmp_path, serve, connect):
    server = serve(storage=filestorage("new.fs"))
    client = connect(server)
    assert len(client) == 0

    committed = commit_to_empty(client)
    assert server.end() == 0

    start, storage = files.opened_where(str(tmp_path / "new.fs"))
    assert storage.lastTransaction() == committed
    assert start == os.path.getsize(tmp_path / "new.fs")
    storage.close()
    files.assert_clean(str(tmp_path / "new.fs"))


def commit_to_empty(client):
    db = ZODB.DB(client)
    with db.transaction() as connection:
        connection.root()["first"] = PersistentMapping()
    last = client.lastTransaction()
    db.close()
    return last


def test_tids_go_on_rising_when_the_file_is_ahead_of_the_clock(tmp_path, serve, connect, monkeypatch):
    """A file from a machine whose clock was wrong: new tids are later than its last one."""
    path = str(tmp_path / "Data.fs")
    db = ZODB.DB(FileStorage(path))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 300)
    with db.transaction() as connection:
        connection.root()["ahead"] = 1
    monkeypatch.undo()
    ahead = db.storage.lastTransaction()
    db.close()

    server = serve()
    first = commit_some_times(connect(server), 3)
    server.kill()
    second = commit_some_times(connect(serve()), 3)

    assert ahead < first[0] and first + second == sorted(set(first + second))
    files.assert_clean(path)


def commit_some_times(client, times):
    db = ZODB.DB(client)
    tids = []
    for number in range(times):
        with db.transaction() as connection:
            connection.root()["n"] = number
        tids.append(client.lastTransaction())
    db.close()
    return tids
