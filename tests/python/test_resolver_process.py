"""Conflicts of an application's own classes: merged as in Python's server, and safe from what the classes do."""
import base64
import concurrent.futures
import contextlib
import os
import random
import struct
import sys

import pytest
import servers
import site_classes
import three_way
import transaction
import ZODB
from BTrees.Length import Length
from servers import wait_until
from ZODB.Connection import TransactionMetaData
from ZODB.ConflictResolution import tryToResolveConflict
from ZODB.POSException import ConflictError, UndoError
from ZODB.utils import p64, u64, z64

pytestmark = pytest.mark.quick

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = int(os.environ.get("ZEOLITH_RESOLVE_CASES", "300"))

BOTH = pytest.mark.parametrize("msgpack", [False, True], ids=["pickle", "msgpack"])
OURS = pytest.mark.beyond_reference("it runs the classes in its own process, which ends or hangs with them")


@pytest.fixture
def site(serve, connect):
    """`site(*keys)` starts a server with a resolver process and gives a client of it, and the server."""

    def start(*keys, python=sys.executable, **settings):
        if not servers.is_reference():
            settings["zeo"] = "\n".join(["conflict-resolver " + python, *keys])
        server = serve(environment={"PYTHONPATH": HERE}, **settings)
        return connect(server), server

    return start


def commit(client, *stores):
    """Stores (oid, serial, record); returns the tid."""
    meta = TransactionMetaData()
    client.tpc_begin(meta)
    try:
        for oid, serial, data in stores:
            client.store(oid, serial, data, "", meta)
        client.tpc_vote(meta)
    except BaseException:
        client.tpc_abort(meta)
        raise
    return client.tpc_finish(meta)


class Collision:
    """A state that is to be changed by two at once, and has been by one."""

    def __init__(self, client, cls, old, committed, new):
        self.client, self.oid = client, client.new_oid()
        old, committed, self.new = [three_way.record(cls, state) for state in (old, committed, new)]
        self.read = commit(client, (self.oid, z64, old))
        commit(client, (self.oid, self.read, committed))

    def happen(self):
        """Returns what the state is in the end, or raises the conflict."""
        commit(self.client, (self.oid, self.read, self.new))
        return three_way.shape(self.client.load(self.oid)[0])


def collide(*case):
    return Collision(*case).happen()


def counting(client):
    """A conflict of a class that means well."""
    return Collision(client, site_classes.Counter, {"value": 1}, {"value": 4}, {"value": 6})


def counts(collision):
    return collision.happen() == three_way.shape(three_way.record(site_classes.Counter, {"value": 9}))


def count(client):
    return counts(counting(client))


def logged(server, text):
    """Lines are written by a thread of their own, so they may come a moment later than answers."""
    wait_until("the log says %r" % text, lambda: text in server.log())
    return True


class Records:
    """The storage that ZODB asks for records."""

    def __init__(self, old):
        self.old = old

    def loadSerial(self, oid, serial):
        return self.old

    _crs_transform_record_data = _crs_untransform_record_data = staticmethod(lambda data: data)


class Cases:
    """Conflicts of the classes of the site, from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def case(self):
        return self.random.choice([self.counter, self.counter, self.linked, self.odd, self.unusual])()

    def states(self, cls, one):
        return [three_way.record(cls, one()) for _ in range(3)]

    def counter(self):
        pick = self.random
        what = pick.choice([None] * 6 + ["value", "conflict", "exit", "interrupt", "loop"])

        def one():
            state = {"value": pick.choice([pick.randrange(100), 0.5, 2**70])}
            return dict(state, **{"raise": what}) if what else state

        return self.states(pick.choice([site_classes.Counter, site_classes.Counter, site_classes.Mute]), one)

    def reference(self, number):
        """The same object in one of the spellings that references have, or a weak one, or another database's."""
        oid = struct.pack(">Q", number)
        return three_way.Reference(self.random.choice([
            (oid, site_classes.Counter), (oid, site_classes.Counter), oid, ["n", ("other", oid)],
            ["m", ("other", oid, site_classes.Mute)], ["w", (oid,)], ["w", (oid, "other")], [oid],
        ]))

    def linked(self):
        pick = self.random
        links = [self.reference(number) for number in range(5)]
        best = links[:pick.choice([1, 1, 2])]
        return self.states(site_classes.Linked, lambda: {
            "links": pick.sample(links, pick.randrange(4)), "best": pick.choice(best)})

    def odd(self):
        pick = self.random
        what = pick.choice("function generator btrees bucket itself deep file none text list class reference large "
                           "set".split())
        return self.states(site_classes.Odd, lambda: {"what": what, "link": self.reference(3)})

    def unusual(self):
        """Descriptions of the class that ZODB has written over the years, and classes that are not there."""
        pick = self.random
        name = pick.choice(["Counter", "WithArguments", "NotThere"])
        module = pick.choice(["site_classes", "site_classes", "site_classes", "no_such_module"])
        described = pick.choice([((module, name), None), ((module, name), (1, "a")), ((module, name), ())])
        if name == "WithArguments" and pick.random() < 0.5:
            described = (site_classes.WithArguments, (2,))
        return self.states(described, lambda: {"value": pick.randrange(100)})


def expected(oid, committed_tid, read_tid, old, committed, new):
    """What ZODB makes of it; None if it is a conflict."""
    try:
        return tryToResolveConflict(Records(old), oid, committed_tid, read_tid, new, committed)
    except ConflictError:
        return None


@BOTH
@pytest.mark.timeout(600)
def test_every_conflict_ends_as_in_python(site, msgpack):
    client, _ = site(msgpack=msgpack)
    generator = Cases("%s" % os.environ.get("ZEOLITH_RESOLVE_SEED", "1"))
    cases = [generator.case() for _ in range(CASES)]
    oids = [p64(number + 1) for number in range(CASES)]
    read = commit(client, *((oid, z64, old) for oid, (old, _, _) in zip(oids, cases)))
    committed_tid = commit(client, *((oid, read, committed) for oid, (_, committed, _) in zip(oids, cases)))
    resolved = 0
    for oid, case in zip(oids, cases):
        merged = expected(oid, committed_tid, read, *case)
        try:
            commit(client, (oid, read, case[2]))
        except ConflictError as error:
            assert merged is None, "%r is no conflict in Python" % (case,)
            assert (error.oid, error.serials) == (oid, (committed_tid, read))
        else:
            assert client.load(oid)[0] == merged, "%r" % (case,)
            resolved += 1
    assert CASES / 4 < resolved < CASES * 3 / 4, "a generator whose cases end alike shows nothing"


@BOTH
def test_an_undo_is_merged(site, closing, msgpack):
    client, _ = site(msgpack=msgpack)
    database = ZODB.DB(client)
    closing.callback(database.close)
    manager = transaction.TransactionManager()
    root = database.open(manager).root()
    for value in range(3):
        if not value:
            root["counter"] = site_classes.Counter()
            root["counter"].value = 0
        root["counter"].value += 10**value
        manager.get().note("value %d" % value)
        manager.commit()
    [entry] = [e for e in database.undoInfo(0, 20) if e["description"] in ("value 1", b"value 1")]
    database.undo(entry["id"], manager.get())
    manager.commit()
    assert root["counter"].value == 101


@OURS
def test_two_conflicts_at_once_do_not_wait_for_each_other(site, connect, tmp_path, closing):
    client, server = site()
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    pool = closing.enter_context(concurrent.futures.ThreadPoolExecutor())
    # Made before: a transaction of new objects only waits for all others.
    other = counting(client)
    waiting = pool.submit(Collision(connect(server), site_classes.Waits, {}, {}, {"fifo": fifo}).happen)
    with open(fifo, "w") as writer:  # which waits for the class to have opened it
        assert counts(other)
        assert not waiting.done()
        writer.write("enough")
    assert waiting.result() == three_way.shape(three_way.record(site_classes.Waits, {"read": "enough"}))


@OURS
def test_a_class_that_hangs_is_ended_with_its_children_and_others_go_on(site, connect):
    client, server = site("conflict-resolver-timeout 5")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        other = counting(client)
        hanging = pool.submit(Collision(connect(server), site_classes.Hangs, {}, {}, {}).happen)
        logged(server, "hanging with")
        assert counts(other)
        assert not hanging.done()
        with pytest.raises(ConflictError):
            hanging.result()
    assert logged(server, "the resolver process did not answer within 5 s and was ended")
    child = int(server.log().split("hanging with ")[1].split()[0])
    wait_until("the child of the class is gone", lambda: not is_running(child))
    assert count(client)


@OURS
@pytest.mark.parametrize("cls, said", [
    (site_classes.Crashes, "the resolver process ended without an answer: exit status: 7"),
    (site_classes.Scribbles, "the resolver process answered nonsense and was ended: not to this conflict"),
    (site_classes.Eats, "the resolver process ran out of memory and was ended: MemoryError"),
], ids=["crashes", "scribbles", "eats"])
def test_a_class_that_ruins_its_process_costs_one_conflict(site, cls, said):
    client, server = site("conflict-resolver-memory 256MB")
    assert count(client)
    with pytest.raises(ConflictError) as raised:
        collide(client, cls, {}, {}, {})
    assert raised.value.class_name == "site_classes." + cls.__name__
    assert logged(server, said)
    assert count(client)


@OURS
def test_a_class_that_comes_back_twice_is_believed_once(site):
    client, server = site()
    collide(client, site_classes.Forks, {}, {}, {"value": 1})
    # What its double said is taken for the answer to the next conflict, if it comes that late, and found out.
    with contextlib.suppress(ConflictError):
        assert count(client)
    assert count(client)


@OURS
def test_a_flood_of_prints_is_left_out_of_the_log_and_of_the_answer(site):
    client, server = site()
    merged = collide(client, site_classes.Prints, {}, {}, {"value": 1})
    assert merged == three_way.shape(three_way.record(site_classes.Prints, {"value": 1}))
    assert count(client)
    server.end()
    log = server.log()
    assert "a word before" in log
    assert "bytes of output are left out)" in log
    assert len(log) < 300_000, "24 MB were printed"


@OURS
@pytest.mark.parametrize("python, said", [
    ("/no/python", "the resolver process /no/python can't be started: No such file or directory"),
    (sys._base_executable, "is of no use: ModuleNotFoundError: No module named 'ZODB'"),
    ("/bin/false", "the resolver process ended without an answer: exit status: 1"),
], ids=["missing", "without-zodb", "failing"])
def test_a_python_that_is_of_no_use_is_reported_at_start_and_conflicts_stand(site, python, said, tmp_path):
    client, server = site(python=python.replace("/no/", "%s/" % tmp_path))
    said = said.replace("/no/", "%s/" % tmp_path)
    assert logged(server, said)
    with pytest.raises(ConflictError):
        count(client)
    assert logged(server, "conflict on site_classes.Counter")


@OURS
def test_a_class_that_only_clients_have_is_named_in_the_log(site, tmp_path, monkeypatch):
    (tmp_path / "only_in_clients.py").write_text("from site_classes import Counter as C\nclass Counter(C): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_in_clients
    client, server = site()
    with pytest.raises(ConflictError):
        collide(client, only_in_clients.Counter, {"value": 1}, {"value": 2}, {"value": 3})
    said = "there is no class only_in_clients.Counter here: ModuleNotFoundError: No module named 'only_in_clients'"
    assert logged(server, said)


@OURS
def test_what_a_class_raises_is_in_the_log_with_its_place(site):
    client, server = site()
    with pytest.raises(ConflictError):
        collide(client, site_classes.Counter, {"value": 1}, {"value": 1}, {"raise": "value"})
    assert logged(server, "Unexpected error while trying to resolve conflict on site_classes.Counter")
    assert logged(server, "ValueError: no (") and logged(server, "site_classes.py:")


@OURS
@BOTH
def test_conflicts_are_counted_by_class_and_by_what_became_of_them(site, msgpack):
    client, server = site(msgpack=msgpack)
    assert "conflicts_by_class" not in client.server_status(), "monitors find what they know until there is one"
    assert count(client) and count(client)
    collide(client, Length, 1, 2, 3)
    for _ in range(3):
        with pytest.raises(ConflictError) as raised:
            collide(client, site_classes.Mute, {}, {"a": 1}, {"b": 2})
    assert client.server_status()["conflicts_by_class"] == {
        "site_classes.Counter": {"process": 2}, "BTrees.Length.Length": {"native": 1},
        "site_classes.Mute": {"refused": 3},
    }
    committed, read = raised.value.serials
    logged(server, "conflict on site_classes.Mute 0x%02x: committed %s, read %s" % (
        u64(raised.value.oid), "0x" + committed.hex(), "0x" + read.hex()))


@OURS
def test_an_undo_that_can_not_be_merged_is_counted(site):
    client, _ = site()
    collision = Collision(client, site_classes.Mute, {}, {"a": 1}, {"b": 2})
    current = client.load(collision.oid)[1]
    commit(client, (collision.oid, current, collision.new))
    undone = next(entry["id"] for entry in client.undoLog(0, 9) if entry["id"] == base64.b64encode(current))
    for _ in range(2):
        meta = TransactionMetaData()
        client.tpc_begin(meta)
        client.undo(undone, meta)
        with pytest.raises(UndoError):
            client.tpc_vote(meta)
        client.tpc_abort(meta)
    assert client.server_status()["conflicts_by_class"] == {"site_classes.Mute": {"refused": 2}}


@pytest.mark.parametrize("kind", ["zlibstorage", "serverzlibstorage"])
def test_the_process_sees_compressed_records_whole(site, kind):
    client, _ = site(storage="%%import zc.zlibstorage\n<%s>\n%s\n</%s>" % (
        kind, servers.filestorage("Data.fs"), kind))
    if kind == "serverzlibstorage":
        from zc.zlibstorage import ZlibStorage

        client = ZlibStorage(client)
    ballast = "compresses well " * 50
    states = [{"value": value, "ballast": ballast} for value in (1, 4, 6)]
    merged = collide(client, site_classes.Counter, *states)
    assert merged == three_way.shape(three_way.record(site_classes.Counter, {"value": 9, "ballast": ballast}))


@OURS
def test_what_clients_are_asked_to_resolve_is_counted(site, connect):
    client, _ = site("client-conflict-resolution true")
    assert count(client)
    assert client.server_status()["conflicts_by_class"] == {"site_classes.Counter": {"client": 1}}


@OURS
@pytest.mark.parametrize("number", ["end", "kill"])
def test_no_process_outlives_its_server(site, number):
    client, server = site()
    assert count(client)
    children = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent(pid) == server.process.pid]
    assert len(children) == 1
    getattr(server, number)()
    wait_until("the process is gone", lambda: not is_running(children[0]))


@OURS
def test_the_environment_names_the_python_too(serve, connect):
    server = serve(environment={"PYTHONPATH": HERE, "ZEOLITH_CONFLICT_RESOLVER": sys.executable})
    assert count(connect(server))


def parent(pid):
    """The parent of a process; None if there is none of this number."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return int(f.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_running(pid):
    """Whether there is such a process and it has not ended, though its parent may not have noticed yet."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
