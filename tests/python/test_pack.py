"""Pack: the same file as when Python's FileStorage packs, and what clients see of it meanwhile."""
import os
import random
import shutil
import threading
import time

import pytest
import servers
import transaction
import ZODB
from files import assert_clean, current, oids, opened, transactions
from persistent.mapping import PersistentMapping
from persistent.TimeStamp import TimeStamp
from ZODB.FileStorage.fspack import PackError
from ZODB.serialize import referencesf

pytestmark = pytest.mark.quick

SEEDS = range(8)


def build(path, rng, commits=60):
    """A database with cycles, garbage, weak references and undos; returns the tids of its transactions."""
    with opened(path) as storage:
        db = ZODB.DB(storage)
        connection = db.open()
        root = connection.root()
        root["tree"] = PersistentMapping()
        transaction.commit()
        nodes = [root["tree"]]
        for number in range(commits):
            if number > 4 and rng.random() < 0.2:
                # The last ones, newest first: that always leaves a whole database.
                db.undoMultiple([entry["id"] for entry in db.undoLog(0, rng.randint(1, 3))])
                transaction.commit()
                nodes = [root["tree"]] + reachable(root["tree"])
                continue
            for _ in range(rng.randint(1, 4)):
                node, key = rng.choice(nodes), str(rng.randint(0, 3))
                kind = rng.random()
                if kind < 0.5:
                    node[key] = PersistentMapping(text="x" * rng.randint(0, 300))
                    nodes.append(node[key])
                elif kind < 0.7:
                    node[key] = rng.choice(nodes)
                elif kind < 0.85:
                    node.pop(key, None)
                else:
                    node["text"] = "y" * rng.randint(0, 300)
            transaction.get().note("%d" % number)
            transaction.commit()
            nodes = [root["tree"]] + reachable(root["tree"])
        transaction.abort()
        tids = [t.tid for t in storage.iterator()]
        connection.close()
        db.close()
    return tids


def reachable(node):
    """The nodes below a node, each once."""
    seen, todo = {node._p_oid: node}, [node]
    while todo:
        for child in todo.pop().values():
            if isinstance(child, PersistentMapping) and child._p_oid not in seen:
                seen[child._p_oid] = child
                todo.append(child)
    return [child for child in seen.values() if child is not node]


def reached(storage):
    """What can be reached from the root: {oid: (data, tid)}."""
    found, todo = {}, [b"\0" * 8]
    while todo:
        oid = todo.pop()
        if oid not in found:
            found[oid] = current(storage, oid)
            todo.extend(referencesf(found[oid][0]))
    return found


def seconds(tid):
    return TimeStamp(tid).timeTime() + 1e-6


def without_states_at_pack_time(ours, theirs):
    """Leaves out what an object was at the pack time and a later undo reaches behind: only we keep that."""
    reached_behind = {
        oid for _, status, *_, records in ours if status == " " for oid, _, _, data_txn in records if data_txn
    }
    python_has = {record for *_, records in theirs for record in records}
    left = []
    for tid, status, user, description, extension, records in ours:
        if status == "p":
            kept = [record for record in records if record in python_has or record[0] not in reached_behind]
            if not kept and records:
                continue
            records = kept
        left.append((tid, status, user, description, extension, records))
    return left


@pytest.mark.beyond_reference("its pack fails or exchanges data after some undos")
@pytest.mark.parametrize("gc", [True, False], ids=["gc", "no-gc"])
@pytest.mark.parametrize("seed", SEEDS)
def test_both_pack_alike(tmp_path, serve, connect, seed, gc):
    rng = random.Random(seed)
    source = str(tmp_path / "source.fs")
    tids = build(source, rng)
    with opened(source) as storage:
        all_records = {(tid, record) for tid, *_, records in transactions(storage) for record in records}
    same = 0
    for number, place in enumerate(sorted({0, len(tids) // 3, len(tids) * 2 // 3, len(tids) - 1})):
        theirs, ours = (str(tmp_path / ("%s%d.fs" % (who, number))) for who in ("theirs", "ours"))
        shutil.copy(source, theirs)
        shutil.copy(source, ours)
        failed = None
        with opened(theirs, pack_gc=gc) as storage:
            before = reached(storage)
            try:
                storage.pack(seconds(tids[place]), referencesf)
            except (AssertionError, PackError):  # without gc it can't keep what an undo points back to
                assert not gc
        server = serve(
            directory=str(tmp_path / ("server%d" % number)),
            storage=servers.filestorage(ours, extra="pack-gc %s" % ("true" if gc else "false")),
        )
        client = connect(server)
        client.pack(seconds(tids[place]), wait=True)
        client.close()
        assert server.end() == 0
        assert_clean(ours)
        assert not os.path.exists(ours + ".pack")
        with opened(ours) as mine, opened(theirs) as python:
            assert reached(mine) == before
            told = transactions(mine)
            kept = {(tid, record) for tid, status, *_, records in told for record in records if status == " "}
            assert kept <= all_records, "what came after the pack time is as it was"
            if python_is_sound(python, all_records):
                assert sorted(oids(mine)) == sorted(oids(python))
                assert without_states_at_pack_time(told, transactions(python)) == transactions(python)
                assert os.path.exists(ours + ".old") == os.path.exists(theirs + ".old")
                same += 1
    assert same, "Python packs at least once without a mistake"


def python_is_sound(storage, all_records):
    """Whether Python has packed, and without exchanging data: where one transaction undid several that
    changed an object, its pack takes the first record of the object in that transaction for any other."""
    told = transactions(storage)
    later = {(tid, record) for tid, status, *_, records in told for record in records if status == " "}
    return not os.path.exists(storage.getName() + ".pack") and later <= all_records


@pytest.mark.beyond_reference("its pack drops what an object refers to that an undo brings back")
def test_what_an_undo_brings_back_is_whole_after_a_pack_to_before_it(tmp_path, serve, connect):
    path = str(tmp_path / "Data.fs")
    with opened(path) as storage:
        db = ZODB.DB(storage)
        with db.transaction() as connection:
            connection.root()["page"] = PersistentMapping()
        with db.transaction() as connection:
            connection.root()["page"]["image"] = PersistentMapping()
        with db.transaction() as connection:
            del connection.root()["page"]["image"]
            del connection.root()["page"]
        pack_time = seconds(storage.lastTransaction())
        db.undo(db.undoLog(0, 1)[0]["id"])
        transaction.commit()
        before = reached(storage)
        assert len(before) == 3
        db.close()
    server = serve()
    client = connect(server)
    client.pack(pack_time, wait=True)
    client.close()
    assert server.end() == 0
    assert_clean(path)
    with opened(path) as storage:
        assert {oid: data for oid, (data, _) in reached(storage).items()} == {
            oid: data for oid, (data, _) in before.items()
        }


def test_clients_work_on_while_the_storage_is_packed(serve, connect):
    server = serve()
    db = ZODB.DB(connect(server))
    with db.transaction() as connection:
        for number in range(50):
            connection.root()[number] = PersistentMapping(text="x" * 10_000)
    for number in range(10):
        with db.transaction() as connection:
            for value in connection.root().values():
                value["text"] = "%d" % number * 10_000
    size = db.getSize()
    done = threading.Event()
    counts, lasts = [], []

    def work(place):
        other = ZODB.DB(connect(server))
        count = 0
        while not done.is_set() or count < 5:
            with other.transaction() as connection:
                connection.root()[place]["count"] = count
            count += 1
        counts.append((place, count))
        lasts.append(other.lastTransaction())
        other.close()

    workers = [threading.Thread(target=work, args=(place,)) for place in range(3)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(5):
            db.pack()
    finally:
        done.set()
        for worker in workers:
            worker.join()
    assert len(counts) == 3
    # It hears of them without asking, but not before they hear that they are done.
    servers.wait_until("the client has heard of all commits", lambda: db.lastTransaction() >= max(lasts))
    with db.transaction() as connection:
        for place, count in counts:
            assert connection.root()[place]["count"] == count - 1
        assert all(value["text"] == "9" * 10_000 for value in connection.root().values())
    db.close()
    other = connect(server)
    assert other.getSize() < size / 5
    other.close()
    assert server.end() == 0
    assert_clean(os.path.join(server.directory, "Data.fs"))


def test_everybody_hears_of_the_new_size_before_the_packer_goes_on(serve, connect):
    server = serve()
    packer, other = connect(server, read_only=True), connect(server)
    db = ZODB.DB(other)
    for number in range(20):
        with db.transaction() as connection:
            connection.root()["x"] = "%d" % number * 1000
    size = other.getSize()
    packer.pack(time.time() + 60, wait=True)
    assert packer.getSize() < size
    servers.wait_until("the other client hears of it", lambda: other.getSize() == packer.getSize())
    db.close()


def test_a_killed_pack_loses_nothing(tmp_path, serve, connect):
    path = str(tmp_path / "Data.fs")
    build(path, random.Random(1), commits=200)
    with opened(path, read_only=True) as storage:
        before = reached(storage)
    for delay in (0.0, 0.001, 0.003, 0.006, 0.01, 0.02):
        server = serve()
        client = connect(server)
        client.pack(time.time() + 60, wait=False)
        time.sleep(delay)
        server.kill()
        client.close()
        with opened(path) as storage:
            assert reached(storage) == before
    server = serve()
    assert not os.path.exists(path + ".pack")
    server.end()
    assert_clean(path)
