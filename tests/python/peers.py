"""A peer on a bare socket: says exactly the bytes a test wants, and sees exactly what comes back."""
import socket
import struct

from ZEO.asyncio.marshal import decoder, encoder

SECONDS = 15


class Peer:
    """One connection to a server, before or after the handshake."""

    def __init__(self, server, encoding=b"Z"):
        if isinstance(server.address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(server.address)
        else:
            self.socket = socket.create_connection(server.address)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(SECONDS)
        self.encode, self.decode = encoder(encoding), decoder(encoding)
        self.encoding = encoding
        self.calls = 0
        self.greeting = self.read_frame()

    def name(self):
        """As the server may call it in its log: host:port."""
        host, port = self.socket.getsockname()[:2]
        return "%s:%d" % (host, port)

    def shake_hands(self):
        """Answers the server's greeting."""
        self.send_frame(self.encoding + b"5")
        return self

    def register(self, storage="1", read_only=False):
        """Handshake and registration; returns the last tid."""
        self.shake_hands()
        self.last_tid = self.call("register", storage, read_only)
        return self

    def send(self, data):
        """Bytes as they are."""
        self.socket.sendall(data)

    def send_frame(self, payload):
        self.send(struct.pack(">I", len(payload)) + payload)

    def send_message(self, msgid, flag, name, args):
        self.send_frame(self.encode(msgid, flag, name, args))

    def read_frame(self):
        """The next frame; None when the server has closed the connection."""
        head = self.read_exactly(4)
        return None if head is None else self.read_exactly(struct.unpack(">I", head)[0])

    def read_exactly(self, size):
        data = b""
        while len(data) < size:
            try:
                part = self.socket.recv(size - len(data))
            except ConnectionError:
                return None
            if not part:
                return None
            data += part
        return data

    def read_message(self):
        """The next message, decoded; None when the server has closed the connection."""
        frame = self.read_frame()
        return None if frame is None else self.decode(frame)

    def tell(self, name, *args):
        """A one-way call."""
        self.send_message(0, True, name, args)

    def ask(self, name, *args):
        """Sends a call without waiting for its reply; returns its msgid."""
        self.calls += 1
        self.send_message(self.calls, False, name, args)
        return self.calls

    def call(self, name, *args):
        """A call and its result; `Answered` if the result is an error. Notices are passed over."""
        msgid = self.ask(name, *args)
        while True:
            message = self.read_message()
            assert message is not None, "the server closed the connection during %s" % name
            if message[0] == msgid and message[2] == ".reply":
                if message[1]:
                    raise Answered(*message[3])
                return message[3]

    def is_closed(self):
        """Reads on until the server closes the connection; fails if it does not."""
        try:
            while self.read_frame() is not None:
                pass
        except socket.timeout:
            raise AssertionError("the server keeps the connection open") from None
        return True

    def close(self):
        self.socket.close()


class Answered(Exception):
    """An error reply: the name of the error's class and what it carries."""

    def __init__(self, name, payload):
        super().__init__(name, payload)
        self.name, self.payload = name, payload
