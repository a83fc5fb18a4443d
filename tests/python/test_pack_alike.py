"""Pack of a database such as sites have, by Zeolith and by Python from copies of one file: the same file.

At several times, among them those between a change and its undo, with garbage collection and without. The
database has `ZEOLITH_PACK_OBJECTS` objects: 2,000 if that is not set, and some 180,000 for the full comparison
of some ten minutes. `ZEOLITH_PACK_TIMES=0,5` packs to the first and the sixth of the times only; `-s` shows
their numbers.
"""
import os
import shutil

import generate
import pytest
import servers
import transaction
import ZODB
from files import assert_clean, oids, opened, transactions
from test_pack import python_is_sound, reached, seconds
from ZODB.FileStorage.fspack import PackError
from ZODB.serialize import referencesf

OBJECTS = int(os.environ.get("ZEOLITH_PACK_OBJECTS", "2000"))
# Which of the times; all if there is none.
CHOSEN = [int(number) for number in os.environ.get("ZEOLITH_PACK_TIMES", "").split(",") if number]
BATCH = 500
pytestmark = pytest.mark.timeout(120 + OBJECTS // 50)
# Where in the history the pack times are.
PLACES = (0.0, 0.3, 0.6, 0.9, 1.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The path of a database and the times to pack it to: {what it is about: tid}."""
    path = str(tmp_path_factory.mktemp("source") / "source.fs")
    generate.generate(path, OBJECTS)
    with opened(path) as storage:
        db = ZODB.DB(storage)
        drop_pages(db)
        db.close()
    with opened(path, read_only=True) as storage:
        told = [(t.tid, t.description) for t in storage.iterator()]
    times = {"%d %%" % (place * 100): told[round(place * (len(told) - 1))][0] for place in PLACES}
    for (tid, _), (_, description) in zip(told, told[1:]):
        if description.startswith((b"undo", b"restored")):
            times["before '%s'" % description.decode()] = tid
    assert len(times) > len(PLACES)
    return path, times


def drop_pages(db):
    """Takes every third page out of the trees, ties some of them to cycles, and undoes the last of that."""
    connection = db.open()
    root = connection.root()
    numbers = [number for number in root["pages"] if number % 3 == 0]
    for start in range(0, len(numbers), BATCH):
        before = None
        for number in numbers[start:start + BATCH]:
            page = root["pages"].pop(number)
            root["by-title"].pop(page["title"])
            if number % 2:
                page["next"], before = before, page
        # Something that stays refers to the last chain for a while.
        root["hot"]["dropped"] = before
        transaction.get().note("drop %d" % start)
        transaction.commit()
        connection.cacheMinimize()
    connection.close()
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.get().note("undo the last")
    transaction.commit()


def packed_by_python(source, path, tid, gc):
    shutil.copyfile(source, path)
    with opened(path, pack_gc=gc) as storage:
        before = reached(storage)
        try:
            storage.pack(seconds(tid), referencesf)
        except (AssertionError, PackError):  # without gc it can't keep what an undo points back to
            assert not gc
    return before


def packed_without_gc(told, pack_tid):
    """What a pack without garbage collection leaves of the time up to `pack_tid`: {(tid, oid): data}."""
    data_at, last, pointed_to = {}, {}, set()
    for tid, *_, records in told:
        for oid, _, data, data_txn in records:
            data_at[tid, oid] = data
            if tid <= pack_tid:
                last[oid] = (tid, oid)
            elif data_txn is not None and data_txn <= pack_tid:
                pointed_to.add((data_txn, oid))
    # What a later undo brings back has not been so since then: the state of the pack time stays, be it a deletion.
    brought_back = {oid for _, oid in pointed_to}
    kept = pointed_to | {place for oid, place in last.items() if data_at[place] is not None or oid in brought_back}
    return {place: data_at[place] for place in kept}


@pytest.mark.beyond_reference("its pack fails or exchanges data after some undos")
@pytest.mark.parametrize("gc", [True, False], ids=["gc", "no-gc"])
def test_a_database_is_packed_as_python_packs_it(tmp_path, source, serve, connect, gc):
    source, times = source
    with opened(source, read_only=True) as storage:
        source_told = transactions(storage)
    all_records = {(tid, record) for tid, *_, records in source_told for record in records}
    same = []
    for number, (about, tid) in enumerate(times.items()):
        if CHOSEN and number not in CHOSEN:
            continue
        theirs, ours = (str(tmp_path / ("%s%d.fs" % (who, number))) for who in ("theirs", "ours"))
        before = packed_by_python(source, theirs, tid, gc)
        shutil.copyfile(source, ours)
        server = serve(
            directory=str(tmp_path / ("server%d" % number)),
            storage=servers.filestorage(ours, extra="  pack-gc %s" % ("true" if gc else "false")),
        )
        client = connect(server)
        client.pack(seconds(tid), wait=True)
        client.close()
        assert server.end() == 0
        assert_clean(ours)
        with opened(ours, read_only=True) as mine, opened(theirs, read_only=True) as python:
            assert reached(mine) == before
            told = transactions(mine)
            count = sum(len(records) for *_, records in told)
            kept = {(at, record) for at, status, *_, records in told for record in records if status == " "}
            assert kept <= all_records, "what came after the pack time is as it was"
            if not gc:
                packed = [(at, records) for at, *_, records in told if at <= tid]
                assert {(at, oid): data for at, records in packed for oid, _, data, _ in records} == (
                    packed_without_gc(source_told, tid)), about
            is_sound = python_is_sound(python, all_records)
            if is_sound:
                assert sorted(oids(mine)) == sorted(oids(python)), about
                assert told == transactions(python), about
                same.append(about)
            print("%d, packed to %s: %d objects reached, %d of %d records kept; %s" % (
                number, about, len(before), count, len(all_records),
                "the same in both files" if is_sound
                else "Python gives up" if os.path.exists(theirs + ".pack") else "Python exchanges data"))
        for path in (theirs, ours):
            for suffix in ("", ".old", ".index", ".pack"):
                if os.path.exists(path + suffix):
                    os.remove(path + suffix)
    assert CHOSEN or len(same) >= len(PLACES) - 1, "Python packs at most times without a mistake"
