"""Makes the seeds of the corpora: what Python writes, and what the golden files of the tests hold.

    .venv/bin/python fuzz/seeds.py

The seeds are committed, and so is what fuzzers found; this script says where the former come
from.  Run again it writes the same kinds of inputs with newer tids, and touches nothing else.
"""
import os
import pathlib
import struct
import sys
import tempfile

import transaction
import ZODB
import ZODB.FileStorage
from BTrees.IIBTree import IIBTree
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZEO.asyncio.marshal import encoder
from ZODB.serialize import referencesf

TOKEN = b"sixteen bytes ok"
BEYOND_REFERENCE = [
    ("call-tpc_begin-with-a-token", "tpc_begin", (7, b"", b"", {"zeolith-token": TOKEN}, None, " ")),
    ("call-transaction_outcome", "transaction_outcome", (TOKEN, b"\3\xf0" + bytes(6))),
    ("call-pack_estimate", "pack_estimate", (1.5e9,)),
    ("call-pack_cancel", "pack_cancel", ()),
]
FUZZ = pathlib.Path(__file__).parent
CORPUS = FUZZ / "corpus"
ROOT = FUZZ.parent
sys.path.insert(0, str(ROOT / "tests/python"))

import three_way  # noqa: E402: needs the path


def main():
    frames()
    files()
    records()
    conflicts()
    configurations()
    total = sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file())
    print("%d bytes in %s" % (total, CORPUS))


def put(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def frames():
    """Calls of the golden file in both encodings, and a stream of them."""
    stream = {"Z": b"", "M": b""}
    for line in (ROOT / "crates/wire/tests/golden/frames.txt").read_text().splitlines():
        letter, name, digits = line.split()
        frame = bytes.fromhex(digits)
        if name.startswith("call-") and len(frame) < 2000:
            put({"Z": "pickle_call", "M": "msgpack_call"}[letter], name, frame)
            stream[letter] += struct.pack(">I", len(frame)) + frame
    for letter, target in (("Z", "pickle_call"), ("M", "msgpack_call")):
        encode = encoder(letter.encode())
        for number, (name, method, arguments) in enumerate(BEYOND_REFERENCE, 1):
            put(target, name, encode(number, False, method, arguments))
    for letter, hello in (("Z", b"Z5"), ("M", b"M5")):
        whole = struct.pack(">I", len(hello)) + hello + stream[letter]
        put("frames", "%s-in-pieces" % letter, b"\x0b" + whole[:1500])
        put("frames", "%s-at-once" % letter, b"\xff" + whole[:1500])
    put("frames", "an-empty-frame", b"\x03\0\0\0\0\0\0\0\x02M5")
    put("frames", "a-length-past-the-limit", b"\x03\x7f\xff\xff\xffM5")


def files():
    """Databases as Python leaves them, whole and broken off."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "Data.fs")
        database(path)
        whole = pathlib.Path(path).read_bytes()
        put("data_fs", "python.fs", whole)
        put("saved_index", "python.index", pathlib.Path(path + ".index").read_bytes())
        put("data_fs", "empty.fs", whole[:4])
        put("data_fs", "python-2.fs", b"FS21" + whole[4:200])
        put("data_fs", "broken-off.fs", whole[:-30])
        put("data_fs", "voted.fs", whole + voted(whole))
        storage = ZODB.FileStorage.FileStorage(path)
        last = storage.lastTransaction()
        storage.pack(ZODB.TimeStamp.TimeStamp(last).timeTime() - 0.001, referencesf)
        storage.close()
        put("data_fs", "packed.fs", pathlib.Path(path).read_bytes())
        put("saved_index", "packed.index", pathlib.Path(path + ".index").read_bytes())


def database(path):
    """A few objects with all that a file can hold: undo, deletion, many revisions, odd metadata."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(path))
    with db.transaction(note="made") as connection:
        connection.root()["map"] = PersistentMapping(a=1)
        connection.root()["count"] = Length()
        connection.root()["ints"] = IIBTree({number: number for number in range(8)})
        connection.root()["tree"] = OOBTree()
    connection = db.open()
    root = connection.root()
    for number in range(4):
        root["count"].change(1)
        root["map"]["a"] = "é" * number
        transaction.get().setUser("Jürgen")
        transaction.get().note("change %d" % number)
        transaction.get().setExtendedInfo("n", number)
        transaction.commit()
    root["tree"]["k"] = PersistentMapping()
    transaction.commit()
    for _ in range(3):
        # The creation is undone, then undoing that is undone, and that again.
        db.undo(db.undoLog(0, 1)[0]["id"])
        transaction.commit()
    connection.close()
    storage = db.storage
    meta = ZODB.Connection.TransactionMetaData()
    oid = root["map"]._p_oid
    storage.tpc_begin(meta)
    storage.deleteObject(oid, storage.load(oid)[1], meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    db.close()


def voted(whole):
    """A transaction that was voted and never finished, behind a whole file."""
    (length,) = struct.unpack(">Q", whole[-8:])
    transaction_bytes = whole[-8 - length:]
    return transaction_bytes[:16] + b"c" + transaction_bytes[17:]


def records():
    """Records of every pickle protocol, of the golden file."""
    for line in (ROOT / "crates/pickle/tests/golden/records.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, digits = line.split()[0], line.split()[-1]
            put("record", name, bytes.fromhex(digits))


def conflicts():
    """Two conflicts of a class of each kind, three records each."""
    names = ["BTrees.OOBTree OOBucket", "BTrees.OOBTree OOTreeSet", "BTrees.IIBTree IIBTree",
             "BTrees.IFBTree IFBucket", "BTrees.fsBTree fsBucket", "BTrees.LOBTree LOSet",
             "BTrees.Length Length", "zope.minmax._minmax Maximum"]
    for name in names:
        generator = three_way.Generator(*name.split(), seed=1)
        merged = refused = None
        for _ in range(500):
            case = generator.case()
            if sum(map(len, case)) > 1200:
                continue
            how, _ = three_way.outcome(*case)
            merged = merged or (case if how == "R" else None)
            refused = refused or (case if how == "B" else None)
        for how, case in (("merged", merged), ("refused", refused)):
            if case:
                old, committed, new = case
                lengths = struct.pack("<HH", len(old), len(committed))
                put("conflict", "%s-%s" % (name.split()[1], how), lengths + old + committed + new)


SITE = b"""\
%define home /srv/zeo
%define port 8100
<zeo>
  address 127.0.0.1:$port
  transaction-timeout 5m
  invalidation-queue-size 100
  msgpack true
</zeo>
<filestorage main>
  path ${home}/Data.fs
  quota 2GB
</filestorage>
<demostorage second>
  <filestorage>
    path $(HOME)/Other.fs
  </filestorage>
  <demostorage/>
</demostorage>
"""


def configurations():
    put("config", "site", SITE)
    put("config", "eventlog", SITE + b"<eventlog>\n  level info\n</eventlog>\n")
    put("config", "includes-itself", b"%define n 1\n%include zeo.conf\n")
    put("config", "includes-another", b"%define d$n x\n%include other.conf\n%import zc.zlibstorage\n")
    put("config", "doubles", b"%define a xxxxxxxxxx\n" + b"".join(
        b"%%define %c $%c$%c$%c\n" % (b, a, a, a) for a, b in zip(b"abcdefgh", b"bcdefghi")))
    put("config", "nests", b"<demostorage>\n" * 40)
    put("config", "odd", b"\xef\xbb\xbf<zeo>\naddress [::1]:80\ninvalidation-age 1e400\nport 70000\n"
        b"transaction-timeout -1d\nsmtp-server a:b:c\nmonitor-address /tmp/x$$y\n</zeo>\n")


if __name__ == "__main__":
    main()
