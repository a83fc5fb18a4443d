"""Starts the server under test, one process a server, and stops it by its pid.

The command is `$ZEOLITH_SERVER_CMD`, which may hold `{conf}` (else `-C {conf}` is
added), or the project's own `runzeo`: release if it was built, else debug.  Every
server listens on 127.0.0.1, ::1 or a Unix socket, on a port that was free.
"""
import ctypes
import os
import random
import resource
import shlex
import signal
import socket
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
START_SECONDS = 30
STOP_SECONDS = 20
PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1
# Variables that would change what a server does.
UNWANTED = ("ZEO_MSGPACK", "INSTANCE_HOME", "ZEOLITH_CONFLICT_RESOLVER")


def server_command():
    """The template of the command, as a list; None if no server was built."""
    command = os.environ.get("ZEOLITH_SERVER_CMD")
    if not command:
        built = program("runzeo")
        if built is None:
            return None
        command = shlex.quote(built)
    return shlex.split(command if "{conf}" in command else command + " -C {conf}")


def program(name):
    """The path of a command of the project, release before debug; None if it was not built."""
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    built = [os.path.join(target, kind, name) for kind in ("release", "debug")]
    return next((path for path in built if os.path.exists(path)), None)


def is_reference():
    """Whether the server under test is ZEO's own, written in Python."""
    program = server_command()[0]
    with open(program, "rb") as f:
        first = f.readline()
    return first.startswith(b"#!") and b"python" in first


def wait_until(what, condition, seconds=20.0):
    """Returns the first true value of the condition; fails with `what` when time is up."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited %g s in vain until %s" % (seconds, what))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def free_port(host="127.0.0.1"):
    """A port below the ephemeral range that nothing listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(1000):
        port = random.SystemRandom().randrange(5000, 9900)
        with socket.socket(family, socket.SOCK_STREAM) as s:
            try:
                s.bind((host, port))
            except OSError:
                continue
        return port
    raise AssertionError("no free port on %s" % host)


class NotStarted(AssertionError):
    """The server ended instead of listening; `said` is what it printed and logged."""

    def __init__(self, status, said):
        super().__init__("server exited with %s: %s" % (status, said))
        self.status, self.said = status, said


class Server:
    """One server process on a configuration that is written here.

    >>> with Server(tmp_path, storage="<filestorage>\\npath Data.fs\\n</filestorage>") as server: ...
    """

    def __init__(self, directory, storage=None, zeo="", address=None, msgpack=False, obey_permissions=False,
                 environment=(), command=None):
        self.directory = str(directory)
        self.address = address or ("127.0.0.1", free_port())
        self.storage = storage or filestorage(os.path.join(self.directory, "Data.fs"))
        self.zeo = zeo
        self.msgpack = msgpack
        self.obey_permissions = obey_permissions
        self.environment = dict(environment)
        # Another server than the one under test.
        self.command = command
        self.process = None
        self.log_path = os.path.join(self.directory, "server.log")
        self.output_path = os.path.join(self.directory, "server.out")

    def conf(self):
        """The text of the configuration."""
        if isinstance(self.address, str):
            address = self.address
        elif ":" in self.address[0]:
            address = "[%s]:%d" % self.address[:2]
        else:
            address = "%s:%d" % self.address
        return (
            "<zeo>\n  address %s\n  msgpack %s\n%s\n</zeo>\n\n%s\n\n"
            "<eventlog>\n  level info\n  <logfile>\n    path %s\n  </logfile>\n</eventlog>\n"
        ) % (address, "true" if self.msgpack else "false", self.zeo, self.storage, self.log_path)

    def start(self):
        """Starts the process and waits until it listens; NotStarted if it ends instead."""
        self.spawn()
        deadline = time.monotonic() + START_SECONDS
        while not self.listens():
            status = self.process.poll()
            if status is not None:
                raise NotStarted(status, self.said())
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError("the server does not listen on %r: %s" % (self.address, self.said()))
            time.sleep(0.003)
        return self

    def spawn(self):
        """Starts the process, without waiting for anything."""
        os.makedirs(self.directory, exist_ok=True)
        conf_path = os.path.join(self.directory, "server.conf")
        with open(conf_path, "w") as f:
            f.write(self.conf())
        argv = [part.replace("{conf}", conf_path) for part in self.command or server_command()]
        environment = {k: v for k, v in os.environ.items() if k not in UNWANTED}
        environment.update(self.environment)
        with open(self.output_path, "ab") as output:
            self.process = subprocess.Popen(
                argv, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, preexec_fn=drop_override if self.obey_permissions else None,
            )

    def listens(self):
        """Whether this process listens at the address (read from /proc: no probing connection)."""
        if isinstance(self.address, str):
            with open("/proc/net/unix") as f:
                return any(line.rstrip().endswith(" " + self.address) for line in f)
        table = "/proc/net/tcp6" if ":" in self.address[0] else "/proc/net/tcp"
        port = ":%04X" % self.address[1]
        with open(table) as f:
            return any(w[3] == "0A" and w[1].endswith(port) for w in map(str.split, f))

    def end(self):
        """SIGTERM; returns the exit status. Fails if the process does not go."""
        return self.signal(signal.SIGTERM)

    def kill(self):
        """SIGKILL: as a crash."""
        return self.signal(signal.SIGKILL)

    def signal(self, number):
        """Sends the signal and waits for the end of the process."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the server ignored signal %d: %s" % (number, self.said())) from None

    def limit_file_size(self, size):
        """A full disk, as seen by the running server: no file may grow past `size`; None lifts it."""
        soft = resource.RLIM_INFINITY if size is None else size
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))

    def log(self):
        """What the server has logged so far."""
        return read_text(self.log_path)

    def said(self):
        """Everything it printed or logged."""
        return read_text(self.output_path) + self.log()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()


def filestorage(path, name="", extra=""):
    """A <filestorage> section."""
    return "<filestorage%s>\n  path %s\n%s\n</filestorage>" % (" " + name if name else "", path, extra)


def read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def drop_override():
    """In the child, before exec: root shall obey file permissions like everybody else."""
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) != 0:
        raise OSError("cannot drop CAP_DAC_OVERRIDE")
