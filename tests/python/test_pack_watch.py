"""What an operator sees of a pack and can do about it: status, log, cancel, rate, full disk."""
import os
import time

import pack_figures
import pytest
import servers
from files import opened
from test_pack import reached
from ZEO.Exceptions import ServerException
from ZODB.scripts import fstest

pytestmark = [pytest.mark.quick, pytest.mark.beyond_reference("it tells nothing and can't be steered")]


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "Data.fs")
    pack_figures.generate(path, 3)
    return path


def pack_status(client):
    return client._call("server_status").get("pack")


def slow(path):
    """A storage whose pack takes a long time."""
    return servers.filestorage(path, extra="  pack-rate-max 1MB")


def test_a_pack_shows_how_far_it_is_and_can_be_cancelled(path, serve, connect):
    server = serve(storage=slow(path))
    packer, watcher = connect(server), connect(server, read_only=True)
    size = os.path.getsize(path)
    estimate = watcher._call("pack_estimate", time.time() - 86400 * 365 * 100)
    assert estimate == {"before": size, "after": size}
    assert pack_status(watcher) is None and watcher._call("pack_cancel") is False
    packer.pack(time.time(), wait=False)
    servers.wait_until("a second is over", lambda: (pack_status(watcher) or {}).get("seconds-left"))
    status = pack_status(watcher)
    assert set(status) == {"phase", "done", "total", "unit", "percent", "since", "seconds-left"}
    assert 0 < status["done"] <= status["total"] and 0 < status["percent"] < 100
    assert abs(status["since"] - time.time()) < 60
    with pytest.raises(ServerException, match="Already packing"):
        watcher.pack(time.time(), wait=True)
    assert pack_status(watcher), "the first one goes on"
    assert watcher._call("pack_cancel") is True
    servers.wait_until("it has ended", lambda: pack_status(watcher) is None)
    assert not os.path.exists(path + ".pack") and os.path.getsize(path) == size
    log = server.log()
    assert "('1') pack: looking for revisions" in log or "('1') pack: marking what is kept" in log, log
    servers.wait_until("the log says so", lambda: "cancelled: nothing has changed" in server.log())
    # And the server ends, whatever it is doing.
    packer.pack(time.time(), wait=False)
    servers.wait_until("it is packing", lambda: pack_status(watcher))
    begun = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - begun < 5
    fstest.check(path)


def test_a_full_disk_ends_the_pack_and_nothing_else(path, serve, connect):
    with opened(path, read_only=True) as storage:
        before = reached(storage)
    server = serve()
    client = connect(server)
    size = os.path.getsize(path)
    server.limit_file_size(size // 8)
    with pytest.raises(ServerException, match="Data.fs.pack: File too large"):
        client.pack(time.time(), wait=True)
    assert os.path.getsize(path) == size and not os.path.exists(path + ".pack")
    server.limit_file_size(None)
    client.pack(time.time(), wait=True)
    assert os.path.getsize(path) < 0.6 * size
    client.close()
    assert server.end() == 0
    with opened(path, read_only=True) as storage:
        assert reached(storage) == before


def test_a_pack_takes_sixteen_bytes_an_object_and_a_few_megabytes(tmp_path, serve, connect):
    path = str(tmp_path / "Data.fs")
    kept = pack_figures.generate(path, 200, size=20)
    server = serve(storage=servers.filestorage(path))
    client = connect(server)
    before, _ = pack_figures.memory_of(server.process.pid)
    objects = len(client)
    assert objects == kept * 3 // 2
    peak = pack_figures.Peak(server.process.pid)
    try:
        client.pack(time.time(), wait=True)
    finally:
        highest = peak.stop()
    client.close()
    assert server.end() == 0
    grown = (highest - before) * 2**20
    print("%d objects, %.1f bytes each" % (objects, grown / objects))
    assert grown < 16 * objects + 6 * 2**20
