"""Makes databases such as sites have: many objects, all the odd things a long life leaves in a file.

    python generate.py PATH [--objects N]

BTrees of several families and plain persistent objects, user names and descriptions
beyond ASCII, extension dicts, objects rewritten many times, creations that were undone
(so that an oid has a record that says "does not exist"), records pickled at protocol 2,
as Python 2 and ZODB before 5.4 wrote them, and at protocol 3, and an index of an earlier
moment beside the newest one (`PATH.index.old`).  Nothing is random: two runs differ in tids only.
"""
import argparse
import contextlib
import re
import shutil

import transaction
import ZODB
import ZODB.FileStorage
from BTrees.IIBTree import IIBTree
from BTrees.Length import Length
from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping
from ZODB.serialize import ObjectWriter

USERS = ["admin", "J\u00fcrgen M\u00fc\u00dfig", "\u5c71\u7530\u592a\u90ce", "\u0410\u043d\u043d\u0430", ""]
NOTES = ["edited /site/front-page", "Gr\u00f6\u00dfe ge\u00e4ndert", "\U0001f40d committed", "", "long " * 400]
EXTENSIONS = [{}, {"request": "/a/b"}, {"dur\u00e9e": 1.5, "tags": ["x", "\u00e9"], "n": 2**40}, {"raw": b"\0\xff"}]
BATCH = 250

PROTO_2, PROTO_3 = b"\x80\x02", b"\x80\x03"
# "eight bytes follow", and the zeros that an oid of a small database begins with
OID_AT_PROTOCOL_3 = re.compile(rb"C\x08(\0{5}...)", re.DOTALL)


def generate(path, objects=100_000):
    """Writes a database with at least so many objects to `path`, closes it, and keeps an old index."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(path))
    try:
        with records_as_python_2_wrote_them():
            fill(db, 0, objects // 2)
        undo_a_creation(db, "early")
        # closing writes the index; this one will be an old one in the end
        db.close()
        shutil.copyfile(path + ".index", path + ".index.old")
        db = ZODB.DB(ZODB.FileStorage.FileStorage(path))
        fill(db, objects // 2, objects)
        rewrite(db, min(60, objects // 20))
        undo_a_creation(db, "late")
        undo_a_change(db)
    finally:
        db.close()


def fill(db, first, end):
    """Adds pages numbered first..end, a batch a transaction, to trees that reach every one of them."""
    with db.transaction(note="open the site") as connection:
        root = connection.root()
        if "pages" not in root:
            root["pages"] = LOBTree()
            root["by-title"] = OOBTree()
            root["sizes"] = IIBTree()
            root["tags"] = OOTreeSet()
            root["count"] = Length()
    connection = db.open()
    root = connection.root()
    for start in range(first, end, BATCH):
        for number in range(start, min(start + BATCH, end)):
            page = new_page(number)
            root["pages"][number] = page
            root["by-title"][page["title"]] = page
            root["sizes"][number] = len(page["title"])
            root["tags"].insert("tag-%d" % (number % 97))
        root["count"].change(BATCH)
        describe(start // BATCH)
        transaction.commit()
        connection.cacheMinimize()
    connection.close()


def new_page(number):
    """One object; its kind and size depend on its number."""
    title = "p\u00e4ge %06d" % number
    if number % 10 == 3:
        page = PersistentMapping(title=title, parts=PersistentList([number, "x" * (number % 400)]))
    else:
        page = PersistentMapping(title=title, body="y" * (number % 200))
    return page


def rewrite(db, times):
    """Gives a few objects a long history, one transaction a revision."""
    connection = db.open()
    hot = connection.root()["hot"] = PersistentMapping()
    for turn in range(times):
        hot["turn"] = turn
        connection.root()["pages"][turn % 7]["turn"] = turn
        describe(turn)
        transaction.commit()
    connection.close()


def undo_a_creation(db, name):
    """Creates objects and undoes it: their oids stay, with nothing behind them."""
    with db.transaction(note="create " + name) as connection:
        connection.root()[name] = PersistentMapping(child=PersistentMapping())
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.get().note("undo " + name)
    transaction.commit()


def undo_a_change(db):
    """Undoes a change, so that the current record points back at older data."""
    with db.transaction(note="vandalism") as connection:
        connection.root()["hot"]["turn"] = "wrong"
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.get().note("restored")
    transaction.commit()


def describe(number):
    """Puts user, description and extension on the current transaction."""
    current = transaction.get()
    current.setUser(USERS[number % len(USERS)])
    current.note(NOTES[number % len(NOTES)])
    for key, value in EXTENSIONS[number % len(EXTENSIONS)].items():
        current.setExtendedInfo(key, value)


@contextlib.contextmanager
def records_as_python_2_wrote_them():
    """Records written meanwhile are at pickle protocol 2, their references byte strings of Python 2.

    Python 3 reads those only where every byte of a reference is below 0x80; the other records
    stay at protocol 3. (Pickling at protocol 2 on Python 3 would not do: each oid becomes a call.)
    """
    dump = ObjectWriter._dump

    def dump_2(writer, classmeta, state):
        data = dump(writer, classmeta, state)
        if any(byte >= 0x80 for oid in OID_AT_PROTOCOL_3.findall(data) for byte in oid):
            return data
        data = data.replace(b"." + PROTO_3, b"." + PROTO_2)
        return PROTO_2 + OID_AT_PROTOCOL_3.sub(b"U\x08\\1", data[len(PROTO_3):])

    ObjectWriter._dump = dump_2
    try:
        yield
    finally:
        ObjectWriter._dump = dump


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--objects", type=int, default=100_000)
    args = parser.parse_args()
    generate(args.path, args.objects)
