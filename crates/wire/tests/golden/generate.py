"""Writes frames.txt: messages as the Python reference encodes them.

Needs ZEO 6.2, ZODB 6.4 and ZopeUndo; the file is committed, so tests run without them:

    python generate.py > frames.txt

Each line is the encoding, a name, and the message in hex without its length.
"""

import binascii

from ZEO.asyncio.marshal import encoder, reduce_exception
from ZODB import POSException
from ZODB.FileStorage.FileStorage import FileStorageError, FileStorageQuotaError
from ZopeUndo.Prefix import Prefix


def id8(number):
    return number.to_bytes(8, "big")


OID, TID, READ = id8(0x1234), id8(0x03F0_1234_5678_9ABC), id8(0x03F0_0000_0000_0001)
TXN = 140_000_000_000_123
POS = "ZODB.POSException."


def reply(value):
    return (7, 0, ".reply", value)


def refusal(exception):
    return (7, 2, ".reply", reduce_exception(exception))


def notice(name, *args):
    return (0, True, name, args)


def call(msgid, name, *args, one_way=False):
    return (msgid, one_way, name, args)


INFO = {
    "length": 70_000,
    "size": 5_000_000_000,
    "name": "var/Data.fs",
    "supportsUndo": False,
    "supports_record_iternext": True,
    "interfaces": (("ZODB.interfaces", "IStorage"), ("zope.interface", "Interface")),
}
STATUS = {
    "connections": 3,
    "loads": 300,
    "stores": 70_000,
    "commits": 1,
    "aborts": 0,
    "active_txns": 2,
    "lock_time": 1776083670.25,
    "conflicts": 4,
    "conflicts_resolved": 0,
    "start": "Mon Apr 13 12:34:30 2026",
    "waiting": 1,
    "timeout-thread-is-alive": "stub",
    "last-transaction": TID.hex(),
}
HISTORY = {"note": "x", "time": 1.5, "user_name": b"bob", "description": b"d", "tid": TID, "size": 9}
MEMORY_HISTORY = {
    "time": 1.5, "tid": TID, "serial": TID, "user_name": b"bob", "description": b"d",
    "extension": {"note": "x"}, "size": 9,
}
UNDO = {
    "id": b"A/ASNFZ4mrw=", "time": 1.5, "user_name": b"bob", "size": 200, "description": b"d",
    "note": "x",
}
CONFLICT = {"oid": OID, "serials": (TID, READ), "data": b"resolve me"}


def conflict(cls, data=None):
    error = cls(oid=OID, serials=(TID, READ))
    if data:
        error.class_name = data
    return error


MESSAGES = {
    # client to server
    "call register": call(1, "register", "1", False),
    "call register with a number": call(1, "register", "1", 0),
    "call get_info": call(2, "get_info"),
    "call lastTransaction": call(3, "lastTransaction"),
    "call getInvalidations": call(4, "getInvalidations", TID),
    "call ping": call(5, "ping"),
    "call new_oids": call(6, "new_oids"),
    "call loadBefore": call((OID, TID), "loadBefore", OID, TID),
    "call loadBefore counted": call(9, "loadBefore", OID, TID),
    "call loadSerial": call(8, "loadSerial", OID, TID),
    "call getTid": call(8, "getTid", OID),
    "call history": call(8, "history", OID, 20),
    "call record_iternext": call(8, "record_iternext", None),
    "call tpc_begin": call(0, "tpc_begin", TXN, b"/ bob", b"d", {}, None, " ", one_way=True),
    "call tpc_begin with all": call(
        0, "tpc_begin", TXN, "bob", "d", {"note": "x"}, TID, "p", one_way=True
    ),
    "call storea": call(0, "storea", OID, READ, b"r" * 300, TXN, one_way=True),
    "call restorea": call(0, "restorea", OID, TID, None, READ, TXN, one_way=True),
    "call deleteObject": call(0, "deleteObject", OID, READ, TXN, one_way=True),
    "call checkCurrentSerialInTransaction": call(
        0, "checkCurrentSerialInTransaction", OID, READ, TXN, one_way=True
    ),
    "call vote": call(10, "vote", TXN),
    "call tpc_finish": call(11, "tpc_finish", TXN),
    "call tpc_abort": call(12, "tpc_abort", TXN),
    "call undoLog": call(13, "undoLog", 0, -20),
    "call undoInfo": call(13, "undoInfo", 0, -20, {"user_name": "bob"}),
    "call pack": call(14, "pack", 1776083670.25, True),
    "call iterator_start": call(15, "iterator_start", None, TID),
    "call iterator_gc": call(0, "iterator_gc", [1, 2], one_way=True),
    "call set_client_label": call(0, "set_client_label", "zope-1", one_way=True),
    "heartbeat": (-1, 0, ".reply", None),
    # server to client
    "reply none": reply(None),
    "reply tid": reply(TID),
    "reply oids": reply([OID, id8(1), id8(2)]),
    "reply one oid": reply([OID]),
    "reply voted": reply([]),
    "reply loaded": ((OID, TID), 0, ".reply", (b"r" * 300, READ, TID)),
    "reply loaded current": ((OID, TID), 0, ".reply", (b"r" * 200, READ, None)),
    "reply data": reply(b"record"),
    "reply info": reply(INFO),
    "reply invalidations": reply((TID, [OID])),
    "reply current record": reply((OID, TID, b"record", id8(0x1235))),
    "reply history": reply([HISTORY]),
    "reply memory history": reply([MEMORY_HISTORY]),
    "reply conflicts": reply([CONFLICT]),
    "reply iterator id": reply(3),
    "reply transaction": reply((TID, "p", b"bob", b"d", {"note": "x"})),
    "reply record": reply((OID, TID, None, READ)),
    "reply undo log": reply([UNDO]),
    "reply no undo log": reply(()),
    "reply status": reply(STATUS),
    "notice invalidate": notice("invalidateTransaction", TID, [OID, id8(1)]),
    "notice invalidate nothing": notice("invalidateTransaction", TID, []),
    "notice info": notice("info", {"length": 1, "size": 300}),
    "notice blob start": notice("receiveBlobStart", OID, TID),
    "notice blob chunk": notice("receiveBlobChunk", OID, TID, b"chunk"),
    "notice blob stop": notice("receiveBlobStop", OID, TID),
    # refusals
    "refusal no object": refusal(POSException.POSKeyError(OID)),
    "refusal no blob file": refusal(POSException.POSKeyError("No blob file at b/x", OID, TID)),
    "refusal conflict": refusal(
        conflict(POSException.ConflictError, "persistent.mapping.PersistentMapping")
    ),
    "refusal conflict without class": refusal(conflict(POSException.ConflictError)),
    "refusal read conflict": refusal(conflict(POSException.ReadConflictError)),
    "refusal read only": refusal(POSException.ReadOnlyError()),
    "refusal wrong transaction": refusal(POSException.StorageTransactionError(None, TXN)),
    "refusal transaction": refusal(POSException.StorageTransactionError("Multiple")),
    "refusal quota": refusal(FileStorageQuotaError("The storage quota has been exceeded.")),
    "refusal file storage": refusal(FileStorageError("Already packing")),
    "refusal undo": refusal(POSException.UndoError("Some data", OID)),
    "refusal undo of one": refusal(
        POSException.MultipleUndoErrors([(OID, POSException.UndoError("Some data", OID))])
    ),
    "refusal undo of several": refusal(
        POSException.MultipleUndoErrors(
            [
                (OID, POSException.UndoError("Some data", OID)),
                (id8(1), POSException.UndoError("_loadBack() failed", id8(1))),
            ]
        )
    ),
    "refusal base64": refusal(binascii.Error("Incorrect padding")),
    "refusal unsupported": refusal(POSException.Unsupported("no")),
    "refusal os": refusal(OSError(28, "No space left on device")),
    "refusal value": refusal(ValueError("unknown storage: X")),
    "refusal type": refusal(TypeError("no")),
    "refusal attribute": refusal(AttributeError("new_oid")),
    "refusal assertion": refusal(AssertionError("finished called wo lock")),
    "refusal key": refusal(KeyError(5)),
    "refusal exception": refusal(Exception("Out-of-order")),
    "refusal storage": refusal(POSException.StorageError("closed")),
}
PICKLE_ONLY = {
    "call undoInfo with a prefix": call(1, "undoInfo", 0, -20, {"user_name": Prefix("/a")}),
    "call iterator_gc with a set": call(0, "iterator_gc", {4}, one_way=True),
}

if __name__ == "__main__":
    for letter, messages in ("Z", MESSAGES | PICKLE_ONLY), ("M", MESSAGES):
        encode = encoder(letter.encode(), server=True)
        for name, message in messages.items():
            print(letter, name.replace(" ", "-"), encode(*message).hex())
