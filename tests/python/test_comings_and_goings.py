"""Clients that come and go, silent ones among them, while others commit: each hears of every commit, once and in order."""
import itertools
import random
import threading

import pytest
from peers import Answered, Peer
from ZODB.utils import p64, z64

ALWAYS = b"\x7f" + b"\xff" * 7
COMMITTERS, LISTENERS, VISITS = 4, 24, 40


class Listener(Peer):
    """Writes down what it hears of."""

    last = None

    def register(self):
        super().register()
        self.first = self.last = self.last_tid
        self.heard = set()
        return self

    def hear(self, tid):
        assert self.last is not None, "heard of %s before the answer to register" % tid.hex()
        assert tid > self.last, "heard of %s after %s" % (tid.hex(), self.last.hex())
        self.last = tid
        self.heard.add(tid)

    def read_message(self):
        message = super().read_message()
        if message and message[2] == "invalidateTransaction":
            self.hear(message[3][0])
        return message


class Traffic:
    """Threads with connections of their own, what they were told, and how they failed."""

    def __init__(self, server):
        self.server = server
        self.acknowledged, self.visits, self.failures = set(), [], []
        self.over = threading.Event()

    def visit(self, rng):
        peer = Listener(self.server, rng.choice([b"M", b"Z"])).register()
        self.visits.append(peer)
        return peer

    def commit(self, number):
        """Commits to an object that is this thread's own until all is over, and leaves now and then, also in mid-commit."""
        rng, oid = random.Random(number), p64(number)
        while not self.over.is_set():
            peer = self.visit(rng)
            for transaction in itertools.takewhile(lambda _: not self.over.is_set(), range(rng.randint(1, 20))):
                peer.tell("tpc_begin", transaction, b"", b"", {}, None, " ")
                peer.tell("storea", oid, self.serial(peer, oid), b"record", transaction)
                try:
                    peer.call("vote", transaction)
                except Answered:
                    # What was left in mid-commit has been written after the load.
                    peer.call("tpc_abort", transaction)
                    continue
                if rng.random() < 0.1:
                    peer.ask("tpc_finish", transaction)
                    break
                tid = peer.call("tpc_finish", transaction)
                peer.hear(tid)
                self.acknowledged.add(tid)
            peer.close()

    @staticmethod
    def serial(peer, oid):
        try:
            return peer.call("loadBefore", oid, ALWAYS)[1]
        except Answered:
            return z64

    def listen(self, number):
        """Says nothing until it has heard of some commits, then asks something, again and again."""
        rng = random.Random(number)
        for _ in range(VISITS):
            peer = self.visit(rng)
            for wanted in range(1, rng.randint(2, 8)):
                while len(peer.heard) < wanted:
                    assert peer.read_message() is not None
                if rng.random() < 0.3:
                    assert peer.call("lastTransaction") <= peer.last
            peer.close()

    def run(self, work, number):
        try:
            work(number)
        except BaseException as error:
            self.failures.append(error)
            self.over.set()


@pytest.mark.timeout(120)
def test_who_comes_and_goes_hears_of_every_commit_once_and_in_order(serve):
    traffic = Traffic(serve())
    committers = [threading.Thread(target=traffic.run, args=(traffic.commit, n + 1)) for n in range(COMMITTERS)]
    listeners = [threading.Thread(target=traffic.run, args=(traffic.listen, n + 100)) for n in range(LISTENERS)]
    for thread in committers + listeners:
        thread.start()
    for thread in listeners:
        thread.join()
    traffic.over.set()
    for thread in committers:
        thread.join()
    assert traffic.failures == []
    for peer in traffic.visits:
        due = {tid for tid in traffic.acknowledged if peer.first < tid <= peer.last}
        assert due <= peer.heard, "%d commits were not told" % len(due - peer.heard)
    assert len(traffic.acknowledged) > VISITS
