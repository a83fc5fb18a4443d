"""A server that is killed in the middle of a pack, while clients commit: nothing acknowledged is lost."""
import os
import random
import shutil
import threading
import time

import pack_figures
import pytest
import servers
from files import opened
from test_pack import reached
from ZEO.Exceptions import ClientDisconnected
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import StorageError
from ZODB.scripts import fstest

KILLS = int(os.environ.get("ZEOLITH_PACK_KILLS", "12"))
MEGABYTES = int(os.environ.get("ZEOLITH_PACK_MEGABYTES", "2"))


class Committer(threading.Thread):
    """Adds one object a transaction until the server is gone; remembers what was acknowledged."""

    def __init__(self, client, first):
        super().__init__()
        self.client, self.next, self.acknowledged = client, first, {}
        self.data = pack_figures.record([], 3, 900)

    def run(self):
        while True:
            try:
                meta = TransactionMetaData()
                oid = pack_figures.oid(self.next)
                self.client.tpc_begin(meta)
                self.client.store(oid, b"\0" * 8, self.data, "", meta)
                self.client.tpc_vote(meta)
                self.acknowledged[self.client.tpc_finish(meta)] = oid
                self.next += 1
            except (ClientDisconnected, StorageError):
                return


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("source") / "source.fs")
    count = pack_figures.generate(path, MEGABYTES)
    with opened(path, read_only=True) as storage:
        return path, count, reached(storage)


def test_a_pack_can_be_killed_at_any_moment(tmp_path, source, serve, connect):
    source_path, count, before = source
    path = str(tmp_path / "Data.fs")
    chance = random.Random(KILLS)
    duration, left, packed, acknowledged = None, 0, 0, 0
    for number in range(KILLS + 1):
        pack_figures.remove(path)
        shutil.copyfile(source_path, path)
        server = serve()
        packer, client = connect(server), connect(server)
        pack_time = time.time()
        time.sleep(0.01)
        committer = Committer(client, 10 * count)
        committer.start()
        servers.wait_until("something is committed", lambda: committer.acknowledged)
        begun = time.monotonic()
        if duration is None:
            # The first pack goes on to its end, and tells how long that takes.
            packer.pack(pack_time, wait=True)
            duration = time.monotonic() - begun
        else:
            packer.pack(pack_time, wait=False)
            time.sleep(chance.uniform(0, 1.2 * duration))
        server.kill()
        committer.join()
        for each in (packer, client):
            each.close()
        left += os.path.exists(path + ".pack")
        packed += os.path.getsize(path) < 0.8 * os.path.getsize(source_path)
        acknowledged += len(committer.acknowledged)
        if number % 2:
            # As it was left, and as Python finds it.
            check(path, before, committer.acknowledged)
        server = serve()
        assert not os.path.exists(path + ".pack")
        assert server.end() == 0
        check(path, before, committer.acknowledged)
        fstest.check(path)
    print("%d kills: %d left a .pack, %d came after the switch; %d commits acknowledged, none lost"
          % (KILLS, left, packed - 1, acknowledged))
    assert left and packed > 1, "both kinds of moments were met"


def check(path, before, acknowledged):
    """What could be reached can be reached, and what was acknowledged is there."""
    with opened(path, read_only=True) as storage:
        assert reached(storage) == before
        # Not from a start: that is looked for from the end of the file, which may be room for more.
        found = {t.tid: [record.oid for record in t] for t in storage.iterator()}
    assert {tid: [oid] for tid, oid in acknowledged.items()}.items() <= found.items()
