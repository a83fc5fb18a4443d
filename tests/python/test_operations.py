"""What an operator uses: ruok, zeo-nagios, several storages in one server, the files it leaves behind."""
import json
import os
import signal
import subprocess
import sys

import pytest
import servers
import transaction
import ZODB
from peers import Answered, Peer
from servers import filestorage, wait_until

pytestmark = pytest.mark.quick

STATUS_KEYS = {
    "connections", "loads", "stores", "commits", "aborts", "conflicts", "conflicts_resolved", "active_txns",
    "lock_time", "start", "waiting", "timeout-thread-is-alive", "last-transaction",
}


def put(client, **values):
    """Commits these values to the root object, one transaction; the client is closed."""
    db = ZODB.DB(client)
    with db.transaction() as connection:
        connection.root().update(values)
    last = client.lastTransaction()
    db.close()
    return last


def ask_ruok(server):
    peer = Peer(server)
    peer.send_frame(b"ruok")
    answer = peer.read_frame()
    assert peer.is_closed()
    return json.loads(answer.decode("ascii"))


def test_ruok_tells_the_state_of_every_storage(tmp_path, serve, connect):
    server = serve(storage=filestorage("a.fs", "first") + "\n" + filestorage("b.fs", "second"))
    last = put(connect(server, storage="second"), x=1)
    staying = connect(server, storage="second")

    status = ask_ruok(server)

    assert set(status) == {"first", "second"}
    assert set(status["first"]) == set(status["second"]) == STATUS_KEYS
    assert status["first"]["last-transaction"] == "0" * 16
    assert status["second"]["last-transaction"] == last.hex()
    assert (status["second"]["connections"], status["first"]["connections"]) == (1, 0)
    assert status["second"]["commits"] == 2 and status["second"]["stores"] == 2
    assert staying.server_status() == ask_ruok(server)["second"]


def nagios(server, *options):
    address = server.address if isinstance(server.address, str) else "%s:%d" % server.address
    done = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "zeo-nagios"), *options, address],
        capture_output=True, text=True, timeout=30,
    )
    return done.returncode, done.stdout.strip()


def test_zeo_nagios_reads_the_state(tmp_path, serve, connect):
    server = serve()
    assert nagios(server) == (1, "Empty storage '1'")
    put(connect(server), x=1)
    assert nagios(server) == (0, "OK")
    status, said = nagios(server, "-m", "-s", str(tmp_path / "nagios.json"))
    assert status == 0 and said.startswith("OK|active_txns=0")
    put(connect(server), x=2)
    status, said = nagios(server, "-m", "-s", str(tmp_path / "nagios.json"))
    assert status == 0 and "commits=" in said and "waiting=0" in said
    server.end()
    status, said = nagios(server)
    assert status == 2 and said.startswith("Can't connect")


def test_storages_of_one_server_do_not_touch_each_other(tmp_path, serve, connect):
    server = serve(storage=filestorage("a.fs", "First") + "\n" + filestorage("b.fs", "2"))
    # the names of sections are lower-cased
    first, second = connect(server, storage="first"), connect(server, storage="2")
    db_first, db_second = ZODB.DB(first), ZODB.DB(second)
    with db_first.transaction() as connection:
        connection.root()["where"] = "first"
    with db_second.transaction() as connection:
        connection.root()["where"] = "second"

    # a commit that stalls in one does not hold up the other, nor is it told there
    peer = Peer(server).register("first")
    data, serial, _ = peer.call("loadBefore", b"\0" * 8, b"\x7f" + b"\xff" * 7)
    peer.tell("tpc_begin", 1, b"", b"", {}, None, " ")
    peer.tell("storea", b"\0" * 8, serial, data, 1)
    assert peer.call("vote", 1) == []
    listener = Peer(server).register("2", True)
    with db_second.transaction() as connection:
        connection.root()["more"] = 1
    assert peer.call("tpc_finish", 1) == first_tid_after(peer)
    assert listener.read_message()[2:] == ("invalidateTransaction", (second.lastTransaction(), [b"\0" * 8]))
    assert listener.call("ping") is None

    for db, where in (db_first, "first"), (db_second, "second"):
        with db.transaction() as connection:
            assert connection.root()["where"] == where
    assert server.end() == 0
    assert os.path.getsize(tmp_path / "a.fs") != os.path.getsize(tmp_path / "b.fs")


def first_tid_after(peer):
    return peer.call("lastTransaction")


def test_an_unknown_storage_is_refused_by_its_name_and_another_may_be_tried(serve):
    peer = Peer(serve()).shake_hands()
    with pytest.raises(Answered) as caught:
        peer.call("register", "nowhere", False)
    assert (caught.value.name, caught.value.payload) == ("builtins.ValueError", ("unknown storage: nowhere",))
    assert peer.call("register", "1", False) == b"\0" * 8


def test_a_mappingstorage_is_served_and_forgotten(serve, connect):
    server = serve(storage="<mappingstorage>\n</mappingstorage>")
    put(connect(server), x=1)
    client = connect(server)
    assert client.lastTransaction() != b"\0" * 8
    client.close()
    server.end()
    server.start()
    assert Peer(server).register().last_tid == b"\0" * 8


def test_every_frame_is_answered_in_the_encoding_the_client_chose(serve):
    """Whatever the server announces, the client's answer decides."""
    for announced in False, True:
        server = serve(msgpack=announced, directory=None)
        for encoding in b"Z", b"M":
            peer = Peer(server, encoding)
            assert peer.greeting == (b"M5" if announced else b"Z5")
            assert peer.register().call("ping") is None
        server.end()


def test_many_requests_in_one_write_are_answered_in_order(serve, connect):
    server = serve()
    put(connect(server), x=1)
    peer = Peer(server).register()
    asked = [(b"\0" * 8, tid.to_bytes(8, "big")) for tid in range(1 << 62, (1 << 62) + 500)]
    frames = b"".join(framed(peer.encode(msgid, False, "loadBefore", msgid)) for msgid in asked)

    peer.send(frames)

    # loadBefore is asked with a pair as its id, and gets it back as a pair
    assert [peer.read_message()[0] for _ in asked] == asked


def framed(payload):
    return len(payload).to_bytes(4, "big") + payload


def test_heartbeats_are_taken_without_an_answer(serve):
    peer = Peer(serve()).shake_hands()
    for _ in range(3):
        peer.send_message(-1, 0, ".reply", None)
    peer.call("register", "1", False)
    peer.send_message(-1, 0, ".reply", None)
    assert peer.call("ping") is None


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 1)])
def test_the_server_ends_in_order_while_clients_are_connected(tmp_path, serve, number, status):
    server = serve()
    idle = Peer(server).register()
    voter = Peer(server).register()
    oid = voter.call("new_oids", 1)[0]
    voter.tell("tpc_begin", 1, b"", b"", {}, None, " ")
    voter.tell("storea", oid, b"\0" * 8, b"data", 1)
    assert voter.call("vote", 1) == []

    assert server.signal(number) == status

    assert idle.is_closed() and voter.is_closed()
    assert "by SIG" in server.log()
    server.start()
    assert Peer(server).register().last_tid == b"\0" * 8 or servers.is_reference()


def test_the_log_is_opened_anew_after_it_was_moved(tmp_path, serve):
    server = serve()
    os.rename(server.log_path, server.log_path + ".1")
    server.process.send_signal(signal.SIGUSR2)
    wait_until("there is a new log", lambda: os.path.exists(server.log_path))
    wait_until("it says so", lambda: "Log files reopened successfully" in server.log())


def test_a_read_only_server_refuses_to_write_and_still_reads(serve, connect):
    server = serve()
    put(connect(server), x=1)
    server.end()
    server.zeo = "  read-only true"
    server.start()
    peer = Peer(server).shake_hands()
    with pytest.raises(Answered) as caught:
        peer.call("register", "1", False)
    assert caught.value.name == "ZODB.POSException.ReadOnlyError"
    assert len(peer.call("register", "1", True)) == 8
    assert peer.call("loadBefore", b"\0" * 8, b"\x7f" + b"\xff" * 7)


def test_a_large_record_and_many_small_ones_arrive_whole(serve, connect):
    client = connect(serve())
    db = ZODB.DB(client)
    connection = db.open()
    connection.root()["large"] = os.urandom(8 << 20)
    transaction.commit()
    large = connection.root()["large"]
    with db.transaction() as other:
        for number in range(3000):
            other.root()[number] = "small"
    connection.close()
    client._cache.clear()
    db.cacheMinimize()
    connection = db.open()
    assert connection.root()["large"] == large and len(connection.root()) == 3001
    connection.close()
