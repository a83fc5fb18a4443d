"""Demo storages, storages in memory and compressed records: the same answers as from Python's server.

Each script is played to the server under test and to ZEO's own with the same configuration; what came out of
both is compared, with tids and random oids replaced by the names of what they belong to.
"""
import base64
import io
import itertools
import os
import pathlib
import shutil
import sys
import zlib

import pytest
import servers
import transaction
import ZODB
from BTrees.Length import Length
from files import assert_clean, current, opened
from peers import Answered, Peer
from persistent.mapping import PersistentMapping
from ZODB._compat import Pickler
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.utils import maxtid, p64, u64, z64

REFERENCE = os.path.join(os.path.dirname(sys.executable), "runzeo")


class Reference:
    def __init__(self, oid):
        self.oid = oid


def record(*references, text=""):
    """A data record that refers to these objects, long enough to be worth compressing."""
    f = io.BytesIO()
    pickler = Pickler(f, 3)
    pickler.persistent_id = lambda value: (value.oid, None) if isinstance(value, Reference) else None
    pickler.dump((PersistentMapping, None))
    pickler.dump({"data": {"text": text * 20, "references": [Reference(oid) for oid in references]}})
    return f.getvalue()


class Script:
    """Talks to a server, and writes down what it answers in words that do not depend on time or chance."""

    def __init__(self, server, encoding):
        self.peer = Peer(server, encoding).register()
        self.names = {z64: "root or no tid", maxtid: "max"}
        self.said = []
        self.unequal = {"time", "name"}
        if self.peer.last_tid != z64:
            self.names[self.peer.last_tid] = "the last of the base"

    def plain(self, value):
        if isinstance(value, dict):
            return {key: self.plain(each) for key, each in value.items() if key not in self.unequal}
        if isinstance(value, (list, tuple)):
            return [self.plain(each) for each in value]
        return self.names.get(value, value) if isinstance(value, bytes) else value

    def call(self, method, *args):
        """The result or the error, written down."""
        try:
            answer = self.peer.call(method, *args)
        except Answered as error:
            # The texts of these name Python's own objects.
            payload = None if error.name == "builtins.AttributeError" else error.payload
            answer = {"error": error.name, "payload": payload}
            if error.name == "ZODB.POSException.POSKeyError":
                answer["payload"] = payload[:1]
        self.said.append((method, self.plain(args), self.plain(answer)))
        return answer

    def commit(self, name, *operations):
        """A transaction; its tid gets a name."""
        self.peer.tell("tpc_begin", 7, b"somebody", name.encode(), {"x": 1})
        for method, *args in operations:
            self.peer.tell(method, *args, 7)
        answer = self.call("vote", 7)
        if isinstance(answer, dict):
            return None
        tid = self.peer.call("tpc_finish", 7)
        self.names[tid], self.names[p64(u64(tid) + 1)] = "tid of " + name, "just after " + name
        return tid

    def look(self, oids, tids):
        """Asks for everything there is."""
        for oid in oids:
            self.call("getTid", oid)
            for size in 1, 9:
                self.call("history", oid, size)
            for tid in tids:
                self.call("loadBefore", oid, tid)
                self.call("loadBefore", oid, p64(u64(tid) + 1))
                self.call("loadSerial", oid, tid)
            self.call("loadBefore", oid, maxtid)
        info = self.call("get_info")
        self.call("lastTransaction")
        if info["supportsUndo"]:
            self.said.append(("undo log", [e["description"] for e in self.peer.call("undoLog", 0, -20)]))
        for start in (None, *tids[:2]):
            self.iterate(start)

    def iterate(self, start):
        number = self.peer.call("iterator_start", start, None)
        while True:
            found = self.peer.call("iterator_next", number)
            if found is None:
                return
            records = self.peer.call("iterator_record_start", number, found[0])
            shown = []
            while (data := self.peer.call("iterator_record_next", records)) is not None:
                shown.append(self.plain(data))
            self.said.append(("iterated", self.plain(found), shown))


class ByPython:
    """Starts ZEO's own server for a `with` block, whatever the server under test is."""

    def __init__(self, *args, **settings):
        self.server = servers.Server(*args, **settings)

    def __enter__(self):
        before = os.environ.get("ZEOLITH_SERVER_CMD")
        os.environ["ZEOLITH_SERVER_CMD"] = REFERENCE
        try:
            return self.server.start()
        finally:
            if before is None:
                del os.environ["ZEOLITH_SERVER_CMD"]
            else:
                os.environ["ZEOLITH_SERVER_CMD"] = before

    def __exit__(self, *_):
        self.server.kill()


def base_file(directory):
    """A file with three objects, one of them changed once."""
    os.makedirs(directory)
    path = os.path.join(directory, "Base.fs")
    with opened(path) as storage:
        for number, stores in enumerate([[(0, z64), (1, z64), (2, z64)], [(1, None)]]):
            t = TransactionMetaData(b"base", b"base %d" % number)
            storage.tpc_begin(t)
            for oid, serial in stores:
                serial = storage.getTid(p64(oid)) if serial is None else serial
                storage.store(p64(oid), serial, record(text="base %d" % number), "", t)
            storage.tpc_vote(t)
            storage.tpc_finish(t)
        tids = [t.tid for t in storage.iterator()]
    return tids


def section(kind, *inside, name=""):
    return "<%s%s>\n%s\n</%s>" % (kind, " " + name if name else "", "\n".join(inside), kind)


def filestorage(path, name=""):
    return section("filestorage", "path " + path, name=name)


MAPPING = section("mappingstorage")
IMPORT = "%import zc.zlibstorage\n"

WITH_BASE = {
    "changes in memory": section("demostorage", filestorage("Base.fs")),
    "named": section("demostorage", "name Staging", filestorage("Base.fs"), section("mappingstorage", name="changes")),
    "changes in a file": section("demostorage", filestorage("Base.fs"), filestorage("Changes.fs", "changes")),
    "changes over changes": section("demostorage", section("demostorage", filestorage("Base.fs"))),
    "changes in a demostorage": section(
        "demostorage", filestorage("Base.fs"), section("demostorage", filestorage("Changes.fs", "changes"), name="Changes")
    ),
}


def play_on_both(tmp_path, conf, encoding, script, needs_base=False):
    """What the script had to say of each of the two servers."""
    said = []
    for name, started in ("ours", servers.Server), ("python", ByPython):
        directory = str(tmp_path / name)
        if name == "ours":
            tids = base_file(directory) if needs_base else []
        elif needs_base:
            # The same file, so that the tids are the same.
            os.makedirs(directory)
            shutil.copy(str(tmp_path / "base" / "Base.fs"), directory)
        if name == "ours" and needs_base:
            shutil.copytree(directory, str(tmp_path / "base"))
        with started(directory, storage=conf) as server:
            actor = Script(server, encoding)
            script(actor, tids)
            actor.peer.close()
        said.append(actor.said)
    ours, python = said
    for one, other in zip(ours, python, strict=True):
        assert one == other
    return ours


@pytest.mark.parametrize(
    ("conf", "encoding"), zip(WITH_BASE.values(), itertools.cycle([b"Z", b"M"])), ids=WITH_BASE.keys()
)
def test_a_demostorage_answers_as_pythons(tmp_path, conf, encoding):
    def script(actor, base):
        one, two, new = p64(1), p64(2), p64(77)
        actor.look([z64, one, new], base)
        changed = actor.commit("change", ("storea", one, base[1], record(text="changed")))
        actor.commit("too late", ("storea", one, base[1], record(text="late")))
        actor.commit("too late for the base", ("storea", two, base[1], record(text="late")))
        actor.commit("check", ("checkCurrentSerialInTransaction", two, base[0]))
        actor.commit("stale check", ("checkCurrentSerialInTransaction", one, base[1]))
        actor.commit("check of nothing", ("checkCurrentSerialInTransaction", p64(99), base[1]))
        again = actor.commit("again", ("storea", one, changed, record(text="again")), ("storea", new, z64, record()))
        actor.commit("nothing")
        actor.commit("delete", ("deleteObject", one, again))
        actor.commit("restore", ("restorea", one, again, b"x" * 30, None))
        actor.look([z64, one, two, new, p64(99)], [*base, changed, again])
        if actor.peer.call("get_info")["supportsUndo"]:
            actor.names[base64.b64encode(again)] = "again, in base 64"
            actor.commit("undo", ("undoa", base64.b64encode(again)))
            actor.look([one], [*base, changed, again])
        actor.call("undoLog", 5, 3)
        actor.call("record_iternext")
        first, second = (u64(oid) for oid in actor.peer.call("new_oids", 2))
        assert 0 < first < second == first + 1 and second.bit_length() <= 63

    said = play_on_both(tmp_path, conf, encoding, script, needs_base=True)
    assert len(said) > 60


IN_MEMORY = {"mapping": MAPPING, "demo": section("demostorage"), "file": filestorage("Data.fs")}


@pytest.mark.parametrize(
    ("conf", "needs_base", "encoding"),
    [
        *((conf, False, encoding) for conf, encoding in zip(IN_MEMORY.values(), [b"Z", b"M", b"Z"], strict=True)),
        (section("demostorage", filestorage("Changes.fs", "changes")), False, b"M"),
        (WITH_BASE["changes in memory"], True, b"Z"),
    ],
    ids=[*IN_MEMORY, "demo in a file", "demo over a base"],
)
def test_a_client_that_was_away_is_told_what_pythons_server_tells(tmp_path, conf, needs_base, encoding):
    def script(actor, base):
        def changes(after):
            told = actor.peer.call("getInvalidations", after)
            actor.said.append((actor.plain(after), told and (actor.plain(told[0]), sorted(told[1]))))

        # Of what changed in the base before its last transaction ours tells, and Python's does not.
        tids = [z64, *base[-1:]]
        for number in range(3):
            for tid in tids:
                changes(tid)
            tids.append(actor.commit("%d" % number, ("storea", p64(7), tids[-1] if number else z64, record()),
                                     ("storea", p64(80 + number), z64, record())))
        for tid in tids:
            changes(tid)

    said = play_on_both(tmp_path, conf, encoding, script, needs_base=needs_base)
    assert len(said) > 10


@pytest.mark.parametrize("kind", ["zlibstorage", "serverzlibstorage"])
def test_blobs_are_kept_as_they_are_beside_compressed_records(tmp_path, serve, connect, closing, kind):
    inner = section("filestorage", "path Data.fs", "blob-dir blobs")
    server = serve(storage=IMPORT + section(kind, inner))

    def database(name):
        client = connect(server, blob_dir=str(tmp_path / name), server_sync=True)
        if kind == "serverzlibstorage":
            from zc.zlibstorage import ZlibStorage

            client = ZlibStorage(client)
        database = ZODB.DB(client)
        closing.callback(database.close)
        return database

    one, other = database("one"), database("other")
    text = b"it would compress well " * 1000
    with one.transaction() as connection:
        root = connection.root()
        root["x" * 100] = Blob(text)
    with one.transaction() as connection:
        with connection.root()["x" * 100].open("w") as blob:
            blob.write(b"changed")
    with other.transaction() as connection:
        with connection.root()["x" * 100].open() as blob:
            assert blob.read() == b"changed"
    other.undo(other.undoLog(0, 1)[0]["id"])
    transaction.commit()
    with one.transaction() as connection:
        with connection.root()["x" * 100].open() as blob:
            assert blob.read() == text
    files = [path for path in (pathlib.Path(server.directory) / "blobs").rglob("*.blob")]
    assert sorted(path.read_bytes() for path in files) == sorted([text, b"changed", text])
    assert b"x" * 100 not in (pathlib.Path(server.directory) / "Data.fs").read_bytes()
    one.pack()
    files = [path for path in (pathlib.Path(server.directory) / "blobs").rglob("*.blob")]
    assert [path.read_bytes() for path in files] == [text]


@pytest.mark.parametrize(
    ("conf", "encoding"),
    [(MAPPING, b"Z"), (section("demostorage"), b"M"), (IMPORT + section("zlibstorage", MAPPING), b"Z")],
    ids=["mapping", "demo", "zlib"],
)
def test_a_storage_in_memory_packs_as_pythons(tmp_path, conf, encoding):
    def script(actor, _):
        if "zlib" in conf:
            actor.unequal.add("size")
        one, two, three, four = map(p64, (1, 2, 3, 4))
        tids = [
            actor.commit(
                "begin", ("storea", z64, z64, record(one, two)), ("storea", one, z64, record(three)),
                ("storea", two, z64, record()), ("storea", three, z64, record()), ("storea", four, z64, record(four)),
            )
        ]
        tids.append(actor.commit("twice", ("storea", two, tids[0], record()), ("storea", two, tids[0], record(text="b"))))
        tids.append(actor.commit("unlink", ("storea", z64, tids[0], record(one))))
        objects = [z64, one, two, three, four]
        actor.look(objects, tids)
        actor.call("pack", 0.0)
        actor.look(objects, tids)
        actor.call("pack", 4e9)
        actor.look(objects, tids)
        actor.call("pack", 4e9)
        actor.call("pack", 3e9)
        tids.append(actor.commit("after", ("storea", z64, tids[2], record(one, text="after"))))
        actor.look(objects, tids)

    play_on_both(tmp_path, conf, encoding, script)


@pytest.mark.parametrize("changes", ["", section("filestorage", "path Changes.fs", "blob-dir new", name="changes")])
@pytest.mark.quick
def test_blobs_of_the_base_are_read_and_new_ones_go_to_the_changes(serve, connect, tmp_path, monkeypatch, changes):
    base = section("filestorage", "path Base.fs", "blob-dir blobs")
    server = serve(storage=base)
    database = ZODB.DB(connect(server, blob_dir=str(tmp_path / "cache 1")))
    with database.transaction() as connection:
        connection.root()["kept"], connection.root()["changed"] = Blob(b"kept"), Blob(b"before")
    database.close()
    server.end()
    before = sorted(str(path) for path in (tmp_path / "blobs").rglob("*.blob"))

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    server = serve(storage=section("demostorage", base, changes))
    database = ZODB.DB(connect(server, blob_dir=str(tmp_path / "cache 2")))
    with database.transaction() as connection:
        root = connection.root()
        root["new"] = Blob(b"new " * 30000)
        with root["changed"].open("w") as f:
            f.write(b"after")
    database.close()
    database = ZODB.DB(connect(server, blob_dir=str(tmp_path / "cache 3")))
    with database.transaction() as connection:
        contents = {name: connection.root()[name].open().read() for name in ("kept", "changed", "new")}
    assert contents == {"kept": b"kept", "changed": b"after", "new": b"new " * 30000}
    database.close()
    assert sorted(str(path) for path in (tmp_path / "blobs").rglob("*.blob")) == before
    assert len(list((tmp_path / "new" if changes else scratch).rglob("*.blob"))) == 2
    assert server.end() == 0
    if not servers.is_reference():
        assert list(scratch.iterdir()) == [], "what is temporary goes with the server"


@pytest.mark.beyond_reference("it fails, and loses objects of the changes")
@pytest.mark.parametrize("changes", ["", section("mappingstorage", name="changes"), filestorage("Changes.fs", "changes")])
def test_a_pack_of_changes_keeps_what_the_base_refers_to(serve, connect, tmp_path, changes):
    base_file(str(tmp_path / "x"))
    shutil.copy(str(tmp_path / "x" / "Base.fs"), str(tmp_path))
    server = serve(storage=section("demostorage", filestorage("Base.fs"), changes))
    storage = connect(server)
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        connection.get(p64(1)).text = "of the base"
        connection.get(p64(2)).child = PersistentMapping(a=1)
    with database.transaction() as connection:
        connection.get(p64(2)).child["a"] = 2
    before = storage.getSize()
    storage.pack(4e9, None)
    assert storage.getSize() < before
    database.cacheMinimize()
    with database.transaction() as connection:
        assert connection.get(p64(1)).text == "of the base"
        assert connection.get(p64(2)).child["a"] == 2
    database.close()


@pytest.mark.beyond_reference("it fails to load the object's past, and takes no change of it any more")
@pytest.mark.quick
def test_an_object_of_the_base_whose_changes_are_undone_is_that_of_the_base(serve, tmp_path):
    base = base_file(str(tmp_path / "x"))
    shutil.copy(str(tmp_path / "x" / "Base.fs"), str(tmp_path))
    server = serve(storage=section("demostorage", filestorage("Base.fs"), filestorage("Changes.fs", "changes")))
    actor = Script(server, b"Z")
    one = p64(1)
    original = actor.peer.call("loadBefore", one, maxtid)[0]
    changed = actor.commit("change", ("storea", one, base[1], record(text="changed")))
    undone = actor.commit("undo", ("undoa", base64.b64encode(changed)))
    load = lambda tid: actor.peer.call("loadBefore", one, tid)  # noqa: E731
    assert load(maxtid) == (original, undone, None)
    assert load(undone) == (record(text="changed"), changed, undone)
    assert load(changed) == (original, base[1], changed)
    assert actor.peer.call("getTid", one) == undone
    assert actor.peer.call("loadSerial", one, undone) == original
    again = actor.commit("again", ("storea", one, undone, record(text="again")))
    assert load(maxtid) == (record(text="again"), again, None)
    assert load(again) == (original, undone, again)
    actor.commit("undo again", ("undoa", base64.b64encode(again)))
    assert load(maxtid)[0] == original


@pytest.mark.quick
def test_what_is_committed_to_changes_in_a_file_is_there_after_a_restart(serve, connect, tmp_path):
    base_file(str(tmp_path / "x"))
    shutil.copy(str(tmp_path / "x" / "Base.fs"), str(tmp_path))
    before = (tmp_path / "Base.fs").read_bytes()
    base = section("filestorage", "path Base.fs", "read-only true")
    conf = section("demostorage", base, filestorage("Changes.fs", "changes"))
    for number in range(3):
        server = serve(storage=conf)
        database = ZODB.DB(connect(server))
        with database.transaction() as connection:
            root = connection.root()
            assert sorted(key for key in root if isinstance(key, int)) == list(range(number))
            root[number] = PersistentMapping(number=number)
        database.close()
        assert server.end() == 0
    assert (tmp_path / "Base.fs").read_bytes() == before
    assert_clean_changes(tmp_path)


def assert_clean_changes(tmp_path):
    """Python lays the same changes over the same base."""
    from ZODB.DemoStorage import DemoStorage
    from ZODB.FileStorage import FileStorage

    base = FileStorage(str(tmp_path / "Base.fs"), read_only=True)
    changes = FileStorage(str(tmp_path / "Changes.fs"), read_only=True)
    database = ZODB.DB(DemoStorage(base=base, changes=changes))
    with database.transaction() as connection:
        assert [connection.root()[n]["number"] for n in range(3)] == [0, 1, 2]
    database.close()


@pytest.mark.parametrize("conf", ["demo", "zlib", "server zlib"])
def test_conflicts_are_resolved_whatever_holds_the_records(serve, connect, closing, conf):
    storage = {
        "demo": section("demostorage", filestorage("Base.fs")),
        "zlib": IMPORT + section("zlibstorage", filestorage("Data.fs")),
        "server zlib": IMPORT + section("serverzlibstorage", filestorage("Data.fs")),
    }[conf]
    server = serve(storage=storage)
    roots, managers = [], []
    for _ in range(2):
        client = connect(server, server_sync=True)
        if conf == "server zlib":
            from zc.zlibstorage import ZlibStorage

            client = ZlibStorage(client)
        database = ZODB.DB(client)
        closing.callback(database.close)
        managers.append(transaction.TransactionManager())
        roots.append(database.open(managers[-1]).root())
    roots[0]["long enough to be worth compressing"] = Length(10)
    managers[0].commit()
    for manager in managers:
        manager.begin()
    for root, delta in zip(roots, (5, 7), strict=True):
        root["long enough to be worth compressing"].change(delta)
    for manager in managers:
        manager.commit()
    for manager, root in zip(managers, roots, strict=True):
        manager.begin()
        assert root["long enough to be worth compressing"]() == 22


@pytest.mark.parametrize(
    ("kind", "compress", "encoding"),
    [("zlibstorage", "", b"Z"), ("zlibstorage", "compress no", b"M"), ("serverzlibstorage", "", b"M")],
)
def test_compressed_records_are_stored_and_given_out_as_by_python(tmp_path, kind, compress, encoding):
    conf = IMPORT + section(kind, compress, filestorage("Data.fs"))
    small, large = record(), record(text="long " * 100)
    compressed = b".z" + zlib.compress(large)

    def script(actor, _):
        # Both compress well, but not to the same byte.
        actor.unequal.add("size")
        tids = [
            actor.commit(
                "mixed", ("storea", z64, z64, small), ("storea", p64(1), z64, large),
                ("storea", p64(2), z64, compressed), ("storea", p64(3), z64, b"tiny record"),
            )
        ]
        tids.append(actor.commit("more", ("storea", p64(1), tids[0], large + b"x")))
        actor.commit("conflict", ("storea", p64(1), tids[0], large))
        actor.names[base64.b64encode(tids[1])] = "more, in base 64"
        tids.append(actor.commit("undo", ("undoa", base64.b64encode(tids[1]))))
        actor.look([z64, p64(1), p64(2), p64(3)], tids)
        actor.call("record_iternext", None)

    play_on_both(tmp_path, conf, encoding, script)
    with opened(tmp_path / "ours" / "Data.fs") as ours, opened(tmp_path / "python" / "Data.fs") as python:
        for oid in map(p64, range(4)):
            stored = [current(storage, oid)[0] for storage in (ours, python)]
            assert stored[0][:2] == stored[1][:2]
            assert [zlib.decompress(data[2:]) if data[:2] == b".z" else data for data in stored[:1]] == [
                zlib.decompress(data[2:]) if data[:2] == b".z" else data for data in stored[1:]
            ]
    assert_clean_unless_compressed(tmp_path / "ours" / "Data.fs")


def assert_clean_unless_compressed(path):
    """fstest knows nothing of compression, fsrefs does not want to hear of it."""
    from ZODB.scripts import fstest

    fstest.check(str(path))


@pytest.mark.quick
def test_a_pack_follows_the_references_of_compressed_records(serve, connect, tmp_path):
    server = serve(storage=IMPORT + section("zlibstorage", filestorage("Data.fs")))
    storage = connect(server)
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        connection.root()["kept " * 20] = PersistentMapping({"x" * 100: PersistentMapping(a=1)})
        connection.root()["gone"] = PersistentMapping({"y" * 100: 1})
    with database.transaction() as connection:
        del connection.root()["gone"]
    assert len(storage) == 4
    storage.pack(4e9, None)
    assert len(storage) == 3
    database.cacheMinimize()
    with database.transaction() as connection:
        assert connection.root()["kept " * 20]["x" * 100]["a"] == 1
    database.close()


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ("%import ZEO\n" + MAPPING, "%import ZEO is not supported"),
        ("%import relstorage\n" + MAPPING, "%import relstorage is not supported"),
        (section("zlibstorage", MAPPING), "unknown type name: 'zlibstorage'"),
        (section("zeoclient", "server localhost:1"), "<zeoclient> is not supported yet"),
        (section("fullstorage", "envdir x"), "<fullstorage> is not supported"),
        (section("demostorage", MAPPING, MAPPING), "Too many base storages defined!"),
    ],
)
@pytest.mark.beyond_reference("it says what went wrong in Python")
@pytest.mark.quick
def test_what_can_not_be_served_is_refused_by_its_line(serve, conf, said):
    with pytest.raises(servers.NotStarted) as refused:
        serve(storage=conf)
    assert refused.value.status == 2
    assert "Error: " + said in refused.value.said and "(line " in refused.value.said
