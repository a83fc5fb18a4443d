"""The program of the resolver process: merges conflicting records with the classes of a Python application.

Sent by Zeolith to the Python that it starts, never run by hand. Standard input is a socket to the server;
message.rs says what goes over it. The merging is ZODB's own, of the version that is installed there.
"""
import sys

if sys.path[:1] == [""]:
    # Of `-c`: whatever lies in the server's working directory is not meant.
    del sys.path[0]

import os
import signal
import struct
import traceback

VERSION = 1
REASON_MAX = 4000  # characters
HELLO = struct.Struct(">BQd")
LENGTH = struct.Struct(">I")
CONFLICT = struct.Struct(">Q8s8s8s")
ANSWER = struct.Struct(">cQ")
BTREES = struct.Struct(">iiii")


class Channel:
    """Frames to and from the server, on a descriptor that prints and children of the site's code can't reach."""

    def __init__(self):
        self.fd = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)

    def read(self):
        """The content of the next frame; None if the server is gone."""
        length = self.exactly(LENGTH.size)
        return None if length is None else self.exactly(*LENGTH.unpack(length))

    def exactly(self, size):
        parts = []
        while size:
            part = os.read(self.fd, min(size, 1 << 20))
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def write(self, *parts):
        data = memoryview(b"".join((LENGTH.pack(sum(map(len, parts))),) + parts))
        while data:
            data = data[os.write(self.fd, data):]


def bound_memory(size):
    """Lets what needs more fail by MemoryError."""
    try:
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    except (ImportError, OSError, ValueError) as error:
        print("the memory of the resolver process can't be bounded:", error, file=sys.stderr)


def serve(channel):
    version, memory, seconds = HELLO.unpack(channel.read() or bytes(HELLO.size))
    if version != VERSION:
        return channel.write(b"F", b"the resolver's program is of another version than the server")
    bound_memory(memory)
    # The server ends what takes too long, unless it is gone itself.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        resolver = Resolver()
    except BaseException as error:
        return channel.write(b"F", described(error))
    channel.write(b"R", ("Python %d.%d.%d" % sys.version_info[:3]).encode())
    while True:
        signal.setitimer(signal.ITIMER_REAL, 0)
        request = channel.read()
        if request is None:
            return None
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        channel.write(*resolver.answer(request))


class Resolver:
    """ZODB's conflict resolution, asked about one conflict after the other."""

    def __init__(self):
        import logging

        from ZODB import ConflictResolution
        from ZODB.POSException import BTreesConflictError, ConflictError

        self.zodb = ConflictResolution
        self.conflict_error, self.btrees_error = ConflictError, BTreesConflictError
        self.level = logging.DEBUG
        self.error = None

        class Listener(logging.Handler):
            """ZODB logs why it gives up while it handles the exception, and does not raise it."""

            def emit(_, record):
                self.error = sys.exc_info()[1] or self.error

        self.listener = Listener()

    def answer(self, request):
        number, oid, committed_tid, read_tid = CONFLICT.unpack_from(request)
        name, old, committed, new = parts_of(request, CONFLICT.size)
        self.listen()
        try:
            # `loadSerial` is asked for the old record only: the committed one is given.
            record = self.zodb.tryToResolveConflict(
                Storage(old), oid, committed_tid, read_tid, new, committed)
            return ANSWER.pack(b"R", number), record
        except BaseException as error:
            kind, reason = self.reason(self.error or error, name.decode())
        self.error = None
        return ANSWER.pack(kind, number), reason

    def listen(self):
        """The site's code may have configured logging in the meantime."""
        logger = self.zodb.logger
        logger.handlers[:] = [self.listener]
        logger.disabled = logger.propagate = False
        logger.setLevel(self.level)
        self.error = None

    def reason(self, error, name):
        """Which kind of failure this is, and what is to be said of it."""
        if isinstance(error, MemoryError):
            return b"M", described(error)
        if isinstance(error, self.btrees_error):
            return b"B", BTREES.pack(error.p1, error.p2, error.p3, error.reason)
        missing = self.missing(name)
        if missing:
            return b"E", missing
        if not isinstance(error, (self.conflict_error, self.zodb.BadClassName)):
            return b"E", described(error)
        # Raised by ZODB itself and not by a class, as it is when there is nothing to call.
        if error.__traceback__ is None or error.__traceback__.tb_next is None:
            return b"C", ("%s has no _p_resolveConflict" % name).encode()
        return b"C", described(error)

    def missing(self, name):
        """Why there is no such class here, if there is none."""
        module, _, attribute = name.rpartition(".")
        if not isinstance(self.zodb.find_global(module, attribute), self.zodb.BadClass):
            return None
        try:
            __import__(module)
            why = "the module has no such name"
        except ImportError as error:
            why = "%s: %s" % (type(error).__name__, error)
        return ("there is no class %s here: %s" % (name, why))[:REASON_MAX].encode("utf-8", "replace")


class Storage:
    """What ZODB needs of a storage."""

    def __init__(self, old):
        self.old = old

    def loadSerial(self, oid, serial):
        return self.old

    @staticmethod
    def _crs_untransform_record_data(data):
        return data

    _crs_transform_record_data = _crs_untransform_record_data


def parts_of(request, at):
    while at < len(request):
        [size] = LENGTH.unpack_from(request, at)
        at += LENGTH.size
        yield request[at:at + size]
        at += size


def described(error):
    """The exception on one line, with the places that it came through last."""
    try:
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        places = ", ".join("%s:%s in %s" % (frame[0], frame[1], frame[2]) for frame in frames)
        text = "%s: %s (%s)" % (type(error).__name__, " ".join(str(error).split()), places)
    except Exception:
        text = type(error).__name__
    return text[:REASON_MAX].encode("utf-8", "replace")


serve(Channel())
