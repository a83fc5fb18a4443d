"""One client process whose server is killed again and again; run by `test_kills.py`.

    python kill_worker.py NUMBER SEED DIRECTORY

Reads one line of JSON a round from its input, `{"address": [host, port], "blank": bool}`.  It connects a stock
ClientStorage, says `up`, commits until the server is gone, and says `down`.  What it is about to do, and what
came of it, it adds to `worker-NUMBER.log`, a line of JSON each, before it goes on.

All workers write the shared objects; each has objects of its own, and undoes some of what it did to them.
Every transaction has a token in its extension, by which the worker asks in the next round what became of a
transaction whose outcome it did not hear.
"""
import base64
import contextlib
import json
import os
import pickle
import random
import sys
import time

from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import ConflictError, POSKeyError
from ZODB.utils import load_current, p64

SHARED = [p64(number) for number in range(1, 7)]
OWN = 12
NEW = b"\0" * 8
TOKEN = "zeolith-token"
CLASS = pickle.dumps((PersistentMapping, None), 3)


def record(worker, number, size, blank):
    """The record that a worker's transaction of this number writes to all of its objects."""
    text = bytes(size) if blank else (b"%d of %d; " % (number, worker) * (size // 8 + 1))[:size]
    return CLASS + pickle.dumps({"data": {"written": (worker, number, text)}}, 3)


class Worker:
    def __init__(self, number, seed, directory):
        self.number, self.directory = number, directory
        self.chance = random.Random(seed)
        self.own = [p64(1000 * (number + 1) + place) for place in range(OWN)]
        # What is known of the own objects: each one's revisions, a tid and what was written.
        self.history = {oid: [] for oid in self.own}
        self.committed = []  # the own transactions, a tid and the oids, the newest last
        self.lost = None
        self.count = 0
        self.log = open(os.path.join(directory, "worker-%d.log" % number), "a", encoding="ascii")

    def say(self, what, **entry):
        self.log.write(json.dumps(dict(entry, what=what)) + "\n")
        self.log.flush()

    def round(self, address, blank):
        # The cache is kept in a file from round to round, and verified.
        client = ClientStorage(
            address, wait_timeout=20, client="kills-%d" % self.number, var=self.directory, cache_size=1 << 20)
        # From now on nobody waits for a server that is gone.
        client._server.timeout = 0.01
        print("up", flush=True)
        try:
            self.settle(client)
            self.look(client)
            while True:
                self.commit(client, blank)
        except ClientDisconnected:
            pass
        finally:
            client.close()
        print("down", flush=True)

    def settle(self, client):
        """Asks what became of the transaction whose outcome was not heard."""
        if self.lost is None:
            return
        attempt, before = self.lost
        for _ in range(100):
            outcome, tid = client._call(
                "transaction_outcome", bytes.fromhex(attempt["token"]), bytes.fromhex(attempt["since"]))
            if outcome != "undecided":
                break
            time.sleep(0.05)
        self.lost = None
        self.say("outcome", token=attempt["token"], outcome=outcome, tid=tid and tid.hex())
        if outcome == "committed":
            self.enter(tid, attempt, before)

    def look(self, client):
        """Which revisions of the shared objects it takes for current, in part from the cache."""
        view = {}
        for oid in SHARED:
            with contextlib.suppress(POSKeyError):
                view[oid.hex()] = load_current(client, oid)[1].hex()
        self.say("view", view=view)

    def commit(self, client, blank):
        self.count += 1
        size = self.chance.choice([10, 100, 100, 600, 2000] if self.chance.random() < 0.98 else [60_000])
        written = [self.number, self.count, size, blank and size > 500]
        data = record(*written)
        kind = self.chance.random()
        undone = self.undoable() if kind < 0.15 else None
        serials, before = {}, None
        if undone:
            tid, oids = undone
            before = {oid: self.history[oid][-2][1] for oid in oids}
            writes = {oid.hex(): before[oid] for oid in oids}
        else:
            places = SHARED if kind < 0.55 else self.own
            for oid in self.chance.sample(places, self.chance.choice([1, 1, 2, 3, 5])):
                try:
                    serials[oid] = load_current(client, oid)[1]
                except POSKeyError:
                    serials[oid] = NEW
            writes = {oid.hex(): written for oid in serials}
        token = self.chance.randbytes(16)
        attempt = {"token": token.hex(), "since": client.lastTransaction().hex(), "writes": writes}
        self.say("try", **attempt, undo=bool(undone))
        meta = TransactionMetaData("worker %d" % self.number, "transaction %d" % self.count, {TOKEN: token})
        try:
            client.tpc_begin(meta)
            if undone:
                client.undo(base64.encodebytes(tid).rstrip(), meta)
            for oid, serial in serials.items():
                client.store(oid, serial, data, "", meta)
            client.tpc_vote(meta)
        except (ConflictError, ClientDisconnected) as error:
            # Without tpc_finish there is no doubt.
            self.say("never", token=attempt["token"], why=type(error).__name__)
            client.tpc_abort(meta)
            if isinstance(error, ClientDisconnected):
                raise
            return
        try:
            tid = client.tpc_finish(meta)
        except ClientDisconnected:
            self.say("lost", token=attempt["token"])
            self.lost = attempt, before
            raise
        self.say("committed", token=attempt["token"], tid=tid.hex())
        self.enter(tid, attempt, before)

    def undoable(self):
        """The newest own transaction, if each of its objects has an earlier revision to go back to."""
        for tid, oids in self.committed[-1:]:
            if all(len(self.history[oid]) > 1 and self.history[oid][-1][0] == tid for oid in oids):
                return tid, oids
        return None

    def enter(self, tid, attempt, before):
        """Remembers a transaction that is committed; the shared objects are not this worker's alone."""
        oids = [bytes.fromhex(oid) for oid in attempt["writes"]]
        if oids[0] in SHARED:
            return
        for oid in oids:
            self.history[oid].append((tid, before[oid] if before else attempt["writes"][oid.hex()]))
        self.committed.append((tid, oids))


def main():
    worker = Worker(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    for line in sys.stdin:
        order = json.loads(line)
        worker.round(tuple(order["address"]), order["blank"])


if __name__ == "__main__":
    main()
