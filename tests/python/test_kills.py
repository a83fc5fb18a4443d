"""A server that is killed at random moments while stock clients commit to it: nothing acknowledged is lost.

`ZEOLITH_KILLS` is how often, `ZEOLITH_KILLS_SEED` what to begin with, to have the same choices again (the
moments themselves are never the same).
"""
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter

import kill_worker
import pytest
import servers
import ZODB.FileStorage
from files import assert_clean, opened, opened_where
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import POSKeyError
from ZODB.utils import load_current

KILLS = int(os.environ.get("ZEOLITH_KILLS", "25"))
SEED = os.environ.get("ZEOLITH_KILLS_SEED") or str(time.time_ns())
WORKERS = 4

pytestmark = [
    pytest.mark.beyond_reference("it has no transaction_outcome"),
    pytest.mark.timeout(60 + 3 * KILLS),
]


class Process:
    """A worker, and what it has written down."""

    def __init__(self, number, directory):
        command = [sys.executable, kill_worker.__file__, str(number), "%s-%d" % (SEED, number), directory]
        self.error_path = os.path.join(directory, "worker-%d.err" % number)
        with open(self.error_path, "wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.log_path, self.read_to = os.path.join(directory, "worker-%d.log" % number), 0

    def begin(self, address, blank):
        self.process.stdin.write(json.dumps({"address": address, "blank": blank}) + "\n")
        self.process.stdin.flush()

    def wait_for(self, word):
        heard = self.process.stdout.readline().strip()
        assert heard == word, "a worker died: " + servers.read_text(self.error_path)

    def news(self):
        """The lines that it has written since it was last asked."""
        with open(self.log_path, encoding="ascii") as log:
            log.seek(self.read_to)
            lines = log.readlines()
            self.read_to = log.tell()
        return map(json.loads, lines)

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


class Ledger:
    """What the workers have heard, and what is in the file: each is to explain the other."""

    def __init__(self, path):
        self.path = path
        self.attempts = {}  # by token
        self.found = {}  # the tid of each token in the file
        self.current = {}  # each object's newest revision in the file: tid and data
        self.last = None
        self.digest, self.size = hashlib.sha1(), 0
        self.seen = Counter()

    def read_file(self):
        """Takes what was added to the file; what was there before must be the same bytes."""
        self.take_digest()
        transactions = ZODB.FileStorage.FileIterator(self.path, start=self.last)
        try:
            for found in transactions:
                if self.last is not None and found.tid == self.last:
                    continue
                assert self.last is None or found.tid > self.last, "tids rise"
                self.last = found.tid
                self.take(found)
        finally:
            transactions.close()

    def take_digest(self):
        """Adds what is new to the digest of all, and looks at the end of what is old again."""
        with open(self.path, "rb") as f:
            f.seek(self.size)
            while part := f.read(1 << 20):
                self.digest.update(part)
            self.size = f.tell()

    def check_digest(self):
        """No byte of the past has ever changed."""
        with open(self.path, "rb") as f:
            assert hashlib.file_digest(f, "sha1").digest() == self.digest.digest()

    def take(self, found):
        records = {record.oid: record.data for record in found}
        for oid, data in records.items():
            self.current[oid] = found.tid, data
        token = found.extension.get(kill_worker.TOKEN)
        if token is None:
            return  # the preparation
        attempt = self.attempts[token.hex()]
        assert attempt["came"] in ("committed", "lost"), (attempt, "was never finished")
        assert records == written(attempt), "a transaction is whole or not there"
        assert token.hex() not in self.found, "and there once"
        assert found.tid.hex() > attempt["since"]
        self.found[token.hex()] = found.tid.hex()

    def take_news(self, news):
        """What a worker has heard; returns the attempts of this round."""
        attempts, latest = [], ""
        for line in news:
            what = line.pop("what")
            if what == "view":
                # Taken after the file was last read, from the client's cache or from the server.
                for oid, tid in line["view"].items():
                    assert tid >= self.current[bytes.fromhex(oid)][0].hex(), "nothing stale is read"
                continue
            if what == "outcome":
                known = self.found.get(line["token"])
                assert (line["outcome"], line["tid"]) == ("committed" if known else "aborted", known)
                continue
            if what == "try":
                attempts.append(line)
                self.attempts[line["token"]] = line
                continue
            attempt = attempts[-1]
            assert attempt["token"] == line["token"]
            attempt["came"] = what
            self.seen[what] += 1
            if what == "committed":
                self.seen["of them undos"] += attempt["undo"]
                assert latest < line["tid"], "tids rise"
                attempt["tid"] = latest = line["tid"]
            if what == "never" and line["why"] != "ClientDisconnected":
                shared = set(attempt["writes"]) & {oid.hex() for oid in kill_worker.SHARED}
                assert shared, "nobody else writes these objects"
        # Whoever lost the connection before it could say so has not finished.
        for attempt in attempts:
            attempt.setdefault("came", "never")
        return attempts


def written(attempt):
    """The records of an attempt, by oid."""
    return {bytes.fromhex(oid): kill_worker.record(*how) for oid, how in attempt["writes"].items()}


def check(ledger, client, attempts, chance):
    """What a client reads after a restart, against what was acknowledged and what is in the file."""
    for attempt in attempts:
        tid = ledger.found.get(attempt["token"])
        if attempt["came"] == "committed":
            assert tid == attempt["tid"], "what was acknowledged is there"
        if attempt["came"] == "lost":
            ledger.seen["lost, and there" if tid else "lost, and not there"] += 1
        if attempt["came"] == "lost" or chance.random() < 0.05:
            token, since = bytes.fromhex(attempt["token"]), bytes.fromhex(attempt["since"])
            expected = ["committed", bytes.fromhex(tid)] if tid else ["aborted", None]
            assert list(client._call("transaction_outcome", token, since)) == expected
    earlier = chance.sample(sorted(ledger.found), min(len(ledger.found), 20))
    for attempt in attempts + [ledger.attempts[token] for token in earlier]:
        tid = ledger.found.get(attempt["token"])
        if tid:
            for oid, data in written(attempt).items():
                assert client.loadSerial(oid, bytes.fromhex(tid)) == data
    for oid, (tid, data) in ledger.current.items():
        assert load_current(client, oid) == (data, tid)


def prepare(server):
    """The shared objects."""
    client = ClientStorage(server.address, wait_timeout=20)
    meta = TransactionMetaData()
    client.tpc_begin(meta)
    for oid in [b"\0" * 8] + kill_worker.SHARED:
        client.store(oid, kill_worker.NEW, kill_worker.record(99, 0, 10, False), "", meta)
    client.tpc_vote(meta)
    client.tpc_finish(meta)
    client.close()


class Meddler:
    """Takes away what is beside the file, or puts back what was there before."""

    def __init__(self, path, directory, chance):
        self.path, self.chance = path, chance
        self.kept = {suffix: os.path.join(directory, "kept" + suffix) for suffix in (".index", ".synced")}

    def keep(self):
        for suffix, kept in self.kept.items():
            if os.path.exists(self.path + suffix) and self.chance.random() < 0.3:
                shutil.copyfile(self.path + suffix, kept)

    def meddle(self, blank, seen):
        """`blank`: long zeros were committed. A watermark from before is then not one that a crash could leave."""
        for suffix, kept in self.kept.items():
            what = self.chance.random()
            if what < 0.15 and os.path.exists(self.path + suffix):
                os.remove(self.path + suffix)
                seen["removed " + suffix] += 1
            elif what < 0.4 and os.path.exists(kept) and not (blank and suffix == ".synced"):
                # In place: the file keeps its number.
                shutil.copyfile(kept, self.path + suffix)
                seen["stale " + suffix] += 1
            if blank and suffix == ".synced" and os.path.exists(kept):
                os.remove(kept)


def test_a_server_can_be_killed_at_any_moment_while_clients_commit(tmp_path, closing):
    print("ZEOLITH_KILLS=%d ZEOLITH_KILLS_SEED=%s" % (KILLS, SEED))
    chance = random.Random(SEED)
    path = str(tmp_path / "Data.fs")
    server = servers.Server(tmp_path)
    closing.callback(server.kill)
    prepare(server.start())
    server.kill()
    ledger, meddler = Ledger(path), Meddler(path, str(tmp_path), chance)
    ledger.read_file()
    workers = []
    for number in range(WORKERS):
        workers.append(Process(number, str(tmp_path)))
        closing.callback(workers[-1].end)
    attempts, slowest = [], 0.0
    for number in range(KILLS + 1):
        server.msgpack = chance.random() < 0.5
        if chance.random() < 0.2:
            # Killed while it starts, too.
            server.spawn()
            time.sleep(chance.uniform(0, 0.04))
            server.kill()
        begun = time.monotonic()
        server.start()
        slowest = max(slowest, time.monotonic() - begun)
        ledger.read_file()
        client = ClientStorage(server.address, wait_timeout=20)
        check(ledger, client, attempts, chance)
        client.close()
        if number == KILLS:
            break
        meddler.keep()
        blank = chance.random() < 0.25
        for worker in workers:
            worker.begin(server.address, blank)
        for worker in workers:
            worker.wait_for("up")
        time.sleep(chance.uniform(0, 0.15))
        assert server.process.poll() is None, server.said()
        # Now and then it is told to stop, which writes the index.
        orderly = chance.random() < 0.1
        assert server.end() == 0 if orderly else server.kill()
        ledger.seen["stops" if orderly else "kills"] += 1
        for worker in workers:
            worker.wait_for("down")
        attempts = [attempt for worker in workers for attempt in ledger.take_news(worker.news())]
        if chance.random() < 0.5:
            open_by_python_first(path, attempts, ledger.seen)
        meddler.meddle(blank, ledger.seen)
    assert server.end() == 0
    ledger.check_digest()
    check_by_python(path, ledger)
    print("%s; %d transactions, %d bytes; slowest start %.2f s" % (
        ", ".join("%d %s" % (count, what) for what, count in sorted(ledger.seen.items())),
        len(ledger.found), ledger.size, slowest))
    assert ledger.seen["committed"] and ledger.seen["lost, and there"], "it was killed in the middle of something"


def open_by_python_first(path, attempts, seen):
    """Python opens a copy of what was left, for writing, and finds all that was acknowledged."""
    copy = path + ".copy"
    shutil.copyfile(path, copy)
    with opened(copy) as storage:
        tids = {found.tid.hex() for found in storage.iterator()}
    assert {attempt["tid"] for attempt in attempts if attempt["came"] == "committed"} <= tids
    assert_clean(copy)
    seen["opened by Python first"] += 1
    for suffix in ("", ".index", ".lock", ".tr0"):
        if os.path.exists(copy + suffix):
            seen["cut off by Python"] += suffix == ".tr0"
            os.remove(copy + suffix)


def check_by_python(path, ledger):
    """Python reads the same with the index and without, and that is what the clients were told."""
    bare = path + ".bare"
    shutil.copyfile(path, bare)
    position, with_index = opened_where(path)
    without_index = ZODB.FileStorage.FileStorage(bare, read_only=True)
    try:
        assert position > 4, "Python trusts the index"
        last = {}
        for one, other in zip(with_index.iterator(), without_index.iterator(), strict=True):
            records = [(record.oid, record.data) for record in one]
            assert one.tid == other.tid
            assert records == [(record.oid, record.data) for record in other]
            last.update((oid, (data, one.tid)) for oid, data in records)
            token = one.extension.get(kill_worker.TOKEN)
            assert token is None or ledger.found[token.hex()] == one.tid.hex()
        for storage in (with_index, without_index):
            assert len(storage._index) == len(last) == len(ledger.current)
            for oid, expected in last.items():
                assert load_current(storage, oid) == expected
    finally:
        with_index.close()
        without_index.close()
    heard = {a["token"]: a["tid"] for a in ledger.attempts.values() if a["came"] == "committed"}
    assert heard.items() <= ledger.found.items()
    assert_clean(path)
    with opened(bare, read_only=True) as storage:
        assert len(list(storage.iterator())) == len(ledger.found) + 1
