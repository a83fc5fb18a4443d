"""What a peer can say wrong: it alone is disconnected, one log line names it, nobody else notices."""
import os
import pickle
import re
import struct

import pytest
import servers
import transaction
import ZODB
from peers import Answered, Peer
from servers import wait_until

BOTH = pytest.mark.parametrize("encoding", [b"Z", b"M"], ids=["pickle", "msgpack"])


@pytest.fixture
def witness(serve, connect):
    """A stock client at work on the server; `unharmed()` commits and reads through it."""
    return Witness(serve(), connect)


class Witness:
    def __init__(self, server, connect):
        self.server = server
        self.storage = connect(server)
        self.disconnects = 0
        self.storage_notify_disconnected = self.storage.notify_disconnected
        self.storage.notify_disconnected = self.count_disconnect
        self.db = ZODB.DB(self.storage)
        self.turns = 0

    def count_disconnect(self):
        self.disconnects += 1
        self.storage_notify_disconnected()

    def unharmed(self):
        """Still on its first connection, and able to commit, read and call."""
        self.turns += 1
        connection = self.db.open()
        connection.root()["turn"] = self.turns
        transaction.commit()
        connection.cacheMinimize()
        assert connection.root()["turn"] == self.turns
        connection.close()
        assert self.storage.server_status()["connections"] >= 1
        assert self.disconnects == 0 and self.server.process.poll() is None

    def connections(self):
        return self.storage.server_status()["connections"]


def assert_ended_alone(witness, peer):
    """The peer was disconnected, forgotten and named in one line; the witness works on."""
    assert peer.is_closed()
    assert_forgotten(witness, peer)
    witness.unharmed()


def assert_forgotten(witness, peer):
    # Python's server goes on counting a peer that it has closed itself
    if servers.is_reference():
        return
    wait_until("the peer is no longer counted", lambda: witness.connections() == 1)
    wait_until("the log names the peer", lambda: lines_naming(witness.server, peer, "WARNING|ERROR|CRITICAL"))
    [line] = lines_naming(witness.server, peer, "WARNING|ERROR|CRITICAL")
    assert len(line) < 1000, "what a peer sends does not fill the log"


def lines_naming(server, peer, levels):
    """The log lines of these levels that hold the peer's address."""
    return [
        line for line in server.log().splitlines()
        if re.match(r"\S+ (%s) " % levels, line) and peer.name() in line
    ]


@pytest.mark.beyond_reference("it waits for the four gigabytes")
@pytest.mark.quick
@pytest.mark.parametrize("moment", ["first", "after register"])
def test_a_frame_that_announces_four_gigabytes(witness, moment):
    peer = Peer(witness.server)
    if moment == "after register":
        peer.register()
    memory = resident_bytes(witness.server)

    peer.send(struct.pack(">I", 0xFFFFFFFF) + b"x" * 1000)

    assert_ended_alone(witness, peer)
    assert resident_bytes(witness.server) < memory + (32 << 20)


def resident_bytes(server):
    with open("/proc/%d/statm" % server.process.pid) as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.quick
@BOTH
def test_random_bytes_in_a_frame(witness, encoding):
    peer = Peer(witness.server, encoding).register()
    peer.send_frame(bytes(range(255, 0, -1)) * 20)
    assert_ended_alone(witness, peer)


@pytest.mark.quick
def test_random_bytes_instead_of_a_handshake(witness):
    for first in [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bytes(range(255, -1, -1)) * 3, b"\0\0\0\0"]:
        peer = Peer(witness.server)
        peer.send(first)
        if servers.is_reference():
            peer.close()  # it waits: for the rest of gigabytes, or for the next frame
        else:
            assert_ended_alone(witness, peer)
    witness.unharmed()


@pytest.mark.quick
def test_a_handshake_in_a_version_that_does_not_exist(witness):
    for answer in [b"Z4", b"Z309", b"Z6", b"M4", b"Z", b"Z5extra"]:
        peer = Peer(witness.server)
        peer.send_frame(answer)
        assert_ended_alone(witness, peer)


@pytest.mark.quick
def test_an_encoding_that_does_not_exist(witness):
    peer = Peer(witness.server)
    peer.send_frame(b"X5")
    if servers.is_reference():
        peer.send_frame(b"")  # it closes at the next frame
    assert_ended_alone(witness, peer)


@pytest.mark.quick
def test_half_a_frame_and_silence(witness):
    """Nobody waits for the silent peer, and when it goes nothing of it is left."""
    peers = [Peer(witness.server), Peer(witness.server).shake_hands(), Peer(witness.server).register()]
    for peer in peers:
        peer.send(struct.pack(">I", 4000) + b"\x80\x03")
    assert witness.connections() == 2

    for _ in range(20):
        witness.unharmed()

    for peer in peers:
        peer.close()
    wait_until("the peers are no longer counted", lambda: witness.connections() == 1)
    witness.unharmed()


@pytest.mark.beyond_reference("a silent peer stays for ever")
@pytest.mark.parametrize("phase", ["nothing", "hello", "registered"])
def test_half_a_frame_and_silence_end_the_connection_in_time(serve, connect, phase):
    witness = Witness(serve(zeo="hello-timeout 2s\nframe-timeout 2s"), connect)
    peer = Peer(witness.server)
    if phase == "hello":
        peer.shake_hands()
    elif phase == "registered":
        peer.register()
    peer.send(struct.pack(">I", 4000) + b"\x80\x03")
    assert_ended_alone(witness, peer)


@pytest.mark.quick
@BOTH
@pytest.mark.parametrize("method", ["loadBefore", "lastTransaction", "get_info", "tpc_begin", "server_status"])
def test_a_method_before_register(witness, encoding, method):
    peer = Peer(witness.server, encoding).shake_hands()
    peer.ask(method)
    assert peer.read_frame() is None, "nothing is told to who has not registered"
    assert_ended_alone(witness, peer)


@pytest.mark.quick
@BOTH
@pytest.mark.parametrize("method", ["no_such_method", "__class__", "register", "close", "notify_disconnected", ""])
def test_a_method_that_does_not_exist(witness, encoding, method):
    peer = Peer(witness.server, encoding).register()
    peer.ask(method)
    assert_ended_alone(witness, peer)


@pytest.mark.quick
@BOTH
def test_a_message_that_is_no_message(witness, encoding):
    for value in [(), (1, 2, 3), (1, False, "ping", (), "more"), "ping", 7, None, {"ping": 1}]:
        peer = Peer(witness.server, encoding).register()
        peer.send_frame(packed(value, encoding))
        assert_ended_alone(witness, peer)


def packed(value, encoding):
    if encoding == b"Z":
        return pickle.dumps(value, 2)
    import msgpack

    return msgpack.packb(value, use_bin_type=True)


@pytest.mark.quick
@BOTH
def test_wrong_arguments_are_answered_and_harm_nobody(witness, encoding):
    peer = Peer(witness.server, encoding).register()
    for method, args in [("loadBefore", ()), ("loadBefore", (b"short",)), ("history", ()), ("getTid", (1, 2, 3))]:
        with pytest.raises(Answered) as caught:
            peer.call(method, *args)
        assert caught.value.name == "builtins.TypeError"
    assert peer.call("ping") is None
    witness.unharmed()


@pytest.mark.quick
@pytest.mark.parametrize(
    "module, name, argument",
    [
        ("builtins", "eval", "open({path!r}, 'w')"),
        ("builtins", "exec", "open({path!r}, 'w')"),
        ("__builtin__", "eval", "open({path!r}, 'w')"),
        ("builtins", "open", "{path}\x00w"),
        ("os", "system", "touch {path}"),
        ("subprocess", "getoutput", "touch {path}"),
    ],
)
@pytest.mark.parametrize("place", ["whole message", "arguments", "extension"])
def test_a_pickle_that_names_what_could_run(witness, tmp_path, module, name, argument, place):
    if servers.is_reference() and module in ("builtins", "__builtin__"):
        pytest.skip("not in Python's server: it runs the code")
    trace = tmp_path / "it-ran"
    arguments = tuple(argument.format(path=str(trace)).split("\x00"))
    call = reduce_opcodes(module, name, arguments)
    peer = Peer(witness.server).register()

    peer.send_frame(
        {
            "whole message": b"\x80\x02" + call + b".",
            # (1, False, 'ping', <call>)
            "arguments": b"\x80\x02(K\x01I00\nX\x04\0\0\0ping" + call + b"t.",
            # (0, True, 'tpc_begin', (1, b'', b'', {'x': <call>}, None, ' '))
            "extension": b"\x80\x03(K\0I01\nX\x09\0\0\0tpc_begin(K\x01C\0C\0}X\x01\0\0\0x" + call + b"sNX\x01\0\0\0 tt.",
        }[place]
    )

    assert_ended_alone(witness, peer)
    assert not trace.exists(), "%s.%s was called" % (module, name)


def reduce_opcodes(module, name, arguments):
    """GLOBAL, the arguments, REDUCE."""
    body = b"c%s\n%s\n(" % (module.encode(), name.encode())
    for argument in arguments:
        body += b"X" + struct.pack("<I", len(argument)) + argument.encode()
    return body + b"tR"


@pytest.mark.quick
def test_a_pickle_that_takes_up_memory_or_stack(witness):
    """Deep nesting, a huge declared length, a memo bomb: refused before they cost anything."""
    memory = resident_bytes(witness.server)
    bombs = [
        b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02X" + struct.pack("<I", 0xFFFFFFF0) + b"abc",
        b"\x80\x03B" + struct.pack("<I", 0xFFFFFFF0) + b"abc",
        b"\x80\x02\x8b" + struct.pack("<i", 0x7FFFFFFF) + b"abc",
        # a list that doubles forty times over: terabytes if it is ever written out
        b"\x80\x02]q\0" + b"".join(b"](h%ch%ce" % (n, n) + b"q%c" % (n + 1) for n in range(40)) + b".",
    ]
    for bomb in bombs:
        peer = Peer(witness.server).register()
        peer.send_frame(bomb)
        assert_ended_alone(witness, peer)
    assert servers.is_reference() or resident_bytes(witness.server) < memory + (64 << 20)


@pytest.mark.quick
def test_msgpack_nested_ten_thousand_deep(witness):
    for opening in [b"\x91", b"\x81\xa1a", b"\xdd\0\0\0\x01"]:
        peer = Peer(witness.server, b"M").register()
        peer.send_frame(opening * 10_000 + b"\xc0")
        assert_ended_alone(witness, peer)


@pytest.mark.quick
def test_msgpack_that_announces_more_than_it_brings(witness):
    memory = resident_bytes(witness.server)
    for announced in [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xf0a"]:
        peer = Peer(witness.server, b"M").register()
        peer.send_frame(announced)
        assert_ended_alone(witness, peer)
    assert servers.is_reference() or resident_bytes(witness.server) < memory + (64 << 20)


@pytest.mark.beyond_reference("it keeps the lock of who it has disconnected")
@pytest.mark.quick
def test_a_lock_of_a_disconnected_peer_is_released(witness):
    oid = first_oid(witness)
    peer = Peer(witness.server).register()
    peer.tell("tpc_begin", 1, b"", b"", {}, None, " ")
    peer.tell("storea", oid, witness.storage.getTid(oid), b"data", 1)
    assert peer.call("vote", 1) == []
    peer.ask("no_such_method")
    assert_ended_alone(witness, peer)


@pytest.mark.quick
def test_a_failing_one_way_call_closes_the_connection(witness):
    """A one-way call has no other way to say that it failed."""
    peer = Peer(witness.server).register()
    peer.tell("storea", b"\0" * 8, b"\0" * 8, b"data", 12345)
    assert peer.is_closed()
    witness.unharmed()


def first_oid(witness):
    witness.unharmed()
    return b"\0" * 8


@pytest.mark.beyond_reference("its memory grows with what a client does not read")
def test_a_client_that_reads_nothing_is_disconnected_and_slows_nobody(serve, connect):
    """Its queue is bounded: neither the server's memory nor the writer pays for it."""
    server = serve()
    witness = Witness(server, connect)
    connection = witness.db.open()
    connection.root()["blob"] = "x" * (1 << 20)
    transaction.commit()
    connection.close()
    oid = b"\0" * 8
    peer = Peer(server).register()
    memory = resident_bytes(server)

    # asks for a gigabyte and takes nothing of it
    peer.socket.settimeout(2)
    try:
        for number in range(1000):
            peer.send_message(number + 10, False, "loadBefore", (oid, b"\x7f" + b"\xff" * 7))
            if number % 100 == 0:
                witness.unharmed()
    except OSError:
        pass  # the server no longer reads what it says, or has closed: both bound it

    witness.unharmed()
    assert resident_bytes(server) < memory + (200 << 20)
    peer.close()
    wait_until("the peer is no longer counted", lambda: witness.connections() == 1)
