"""A disk that is full: whoever commits is told, nothing is half written, and all goes on when there is space.

The disk is filled by lowering the file size limit of the running server (RLIMIT_FSIZE),
which needs no file system of one's own: writes past the limit fail as on a full one.
"""
import os

import files
import pytest
import servers
import transaction
import ZODB
from peers import Answered, Peer
from persistent.mapping import PersistentMapping
from ZODB.POSException import ConflictError, StorageError

pytestmark = pytest.mark.quick


@pytest.fixture
def site(serve, connect, tmp_path):
    """A server with a megabyte of data, and its path."""
    server = serve()
    db = ZODB.DB(connect(server))
    connection = db.open()
    for number in range(20):
        connection.root()[number] = PersistentMapping(text="%d" % number * 30_000)
    transaction.commit()
    connection.close()
    db.close()
    return server


def path_of(server):
    return os.path.join(server.directory, "Data.fs")


def fill_disk(server):
    """From now on the file cannot grow by more than a few bytes."""
    server.limit_file_size(os.path.getsize(path_of(server)) + 50)


def make_space(server):
    server.limit_file_size(None)


def commit(db, number, size):
    while True:
        try:
            with db.transaction() as connection:
                connection.root()[number] = PersistentMapping(text="y" * size)
            return
        except ConflictError:
            pass  # another client's commit has not arrived here yet


def assert_holds(server, numbers):
    """The file is sound, and holds these entries and no others."""
    assert server.end() == 0
    files.assert_clean(path_of(server))
    with files.opened(path_of(server), read_only=True) as storage:
        db = ZODB.DB(storage)
        root = db.open().root()
        assert set(root) == set(numbers)
        for number in root:
            assert root[number]["text"]
        db.close()


@pytest.mark.parametrize("size", [200, 300_000, 20_000_000], ids=["small", "large", "huge"])
def test_a_vote_on_a_full_disk_fails_and_all_goes_on_when_space_is_back(site, connect, size):
    db = ZODB.DB(connect(site))
    other = ZODB.DB(connect(site))
    fill_disk(site)

    for attempt in range(3):
        with pytest.raises(StorageError):
            commit(db, "refused %d" % attempt, size)
    # readers notice nothing
    with other.transaction() as connection:
        assert [connection.root()[n]["text"][0] for n in range(10)] == list("0123456789")

    make_space(site)
    commit(db, "after", size)
    commit(other, "after too", 10)
    db.close()
    other.close()
    assert_holds(site, mixed("after", "after too"))


def mixed(*more):
    return list(range(20)) + list(more)


def test_a_killed_server_on_a_full_disk_leaves_a_sound_file(site, connect):
    db = ZODB.DB(connect(site))
    fill_disk(site)
    with pytest.raises(StorageError):
        commit(db, "refused", 300_000)
    db.close()
    site.kill()
    site.start()
    assert_holds(site, mixed())


@pytest.mark.beyond_reference("a finish that fails leaves its storage locked for ever")
def test_a_finish_on_a_full_disk_is_all_or_nothing(site, connect):
    """Between vote and finish the disk fills up: the answer tells which of the two it was."""
    oid = b"\0" * 7 + b"\x01"
    peer = Peer(site).register()
    data, serial, _ = peer.call("loadBefore", oid, b"\x7f" + b"\xff" * 7)
    watcher = Peer(site).register(read_only=True)
    # nothing may be written at or behind the present end of the file
    end = os.path.getsize(path_of(site))
    peer.tell("tpc_begin", 1, b"", b"", {}, None, " ")
    peer.tell("storea", oid, serial, data, 1)
    assert list(peer.call("vote", 1)) == []
    site.limit_file_size(end)

    try:
        tid = peer.call("tpc_finish", 1)
    except Answered as error:
        assert not error.name.startswith("builtins.Assertion")
        tid = None

    loaded = watcher.call("loadBefore", oid, b"\x7f" + b"\xff" * 7)
    assert loaded == (data, tid or serial, None), "what is read is what was answered"
    make_space(site)
    after = connect(site)
    commit(ZODB.DB(after), "after", 1000)
    assert site.end() == 0
    files.assert_clean(path_of(site))
    with files.opened(path_of(site), read_only=True) as storage:
        assert files.current(storage, oid) == (data, tid or serial)
        assert storage.lastTransaction() == after.lastTransaction()


def test_the_index_cannot_be_saved_on_a_full_disk_and_the_file_is_sound(site):
    site.limit_file_size(10)
    site.signal(15)
    if servers.is_reference():
        return  # its exit status tells of the index
    assert site.process.returncode >= 0, "it ends by itself"
    files.assert_clean(path_of(site))
