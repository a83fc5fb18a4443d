"""What is measured: the workloads, what is read off each, and the bars that the project holds itself to."""
import dataclasses

PYTHON, OURS, STUB = "python", "zeolith", "stub"


@dataclasses.dataclass(frozen=True)
class Workload:
    """One run of the load generator, by its name and arguments."""
    name: str
    args: str
    # How the stub keeps finishes: none, each (one sync a finish) or group (one sync a turn); None: it does not run.
    stub: str | None = None
    timed: bool = True  # runs for the duration asked for; the others run until they are through


@dataclasses.dataclass(frozen=True)
class Bar:
    """A figure, read off the samples of a workload, and what it should be."""
    title: str
    workload: str
    unit: str
    field: str  # dotted path into a sample
    scale: float = 1.0
    more_is_better: bool = True
    # Ours divided by the other's, at least or at most, by more_is_better.
    python: float | None = None
    goal: float | None = None
    stub: float | None = None
    absolute: float | None = None  # a bound of the figure itself
    limit: str | None = None  # which physical limit stands above it: a name in LIMITS
    gap: str = ""  # what stands between the figure and that limit


WORKLOADS = [
    Workload("read c16 d16", "read --conns 16 --depth 16", stub="none"),
    Workload("read c16 d1", "read --conns 16 --depth 1", stub="none"),
    Workload("read c1 d1", "read --conns 1 --depth 1", stub="none"),
    Workload("commit c1 k1", "commit --conns 1 --k 1", stub="each"),
    Workload("commit c8 k1", "commit --conns 8 --k 1", stub="group"),
    Workload("commit c32 k1", "commit --conns 32 --k 1", stub="group"),
    Workload("commit c1 k100", "commit --conns 1 --k 100", stub="each"),
    Workload("commit c1 k1000", "commit --conns 1 --k 1000"),
    Workload("commit c8 k100", "commit --conns 8 --k 100"),
    Workload("commit c8 k1 contended", "commit --conns 8 --k 1 --contend 1"),
    Workload("mixed c8 90/10", "mixed --conns 8 --read-frac 0.9"),
    Workload("fanout 1000", "fanout --subs 1000 --commits 50", stub="none", timed=False),
    Workload("storm 1000 b64", "storm --conns 1000 --burst 64", timed=False),
    Workload("storm 1000 b1000", "storm --conns 1000 --burst 1000", timed=False),
    Workload("stall 50 MB", "stall --k 1000 --size 50000 --warmup 0.3", timed=False),
]

BARS = [
    Bar("loads, 16 clients, 16 calls deep", "read c16 d16", "/s", "ops_per_s", python=5, goal=8, stub=0.3,
        limit="loads", gap="CPU: decoding, the look-up, one positioned read, encoding. The server shares two cores "
        "with a load generator that takes as much again."),
    Bar("loads, 16 clients, one call at a time", "read c16 d1", "/s", "ops_per_s", python=2.3, stub=0.7,
        limit="round trips", gap="Three system calls for each load, of which the stub needs two: it "
        "reads no file."),
    Bar("one load, median", "read c1 d1", "us", "op_us.p50", more_is_better=False, python=0.7, stub=1.2,
        limit="round trip", gap="Waking the client's processor; the server's does not sleep while one client "
        "asks and asks again."),
    Bar("server CPU for a load, 16 by 16", "read c16 d16", "us", "server_us_per_op", more_is_better=False,
        python=1 / 5, goal=1 / 8, gap="Half of it is the kernel's: socket reads and writes, and the read of the record."),
    Bar("commits of one object, one client", "commit c1 k1", "/s", "ops_per_s", python=1.9, stub=0.8,
        limit="commits", gap="Two round trips and a sync, one after the other, and whether the operating "
        "system puts client and server on one processor, or each answer has to wake another one. A commit touches 100 KB "
        "of code, which is cold after each sleep."),
    Bar("commits of one object, 8 clients", "commit c8 k1", "/s", "ops_per_s", python=4, goal=5, stub=0.6,
        gap="One sync carries what has gathered meanwhile; with few clients that is little."),
    Bar("commits of one object, 32 clients", "commit c32 k1", "/s", "ops_per_s", python=12, goal=15, stub=0.5,
        gap="CPU: every commit is told to 31 other clients."),
    Bar("commits of 100 objects, one client", "commit c1 k100", "/s", "ops_per_s", python=4.5, stub=0.75,
        limit="commits of 100", gap="Copies of the records: from the socket, and to the file."),
    Bar("commits of 1000 objects, one client", "commit c1 k1000", "/s", "ops_per_s", python=6,
        gap="As before; and a load generator that makes half a megabyte of records for each."),
    Bar("commits of 100 objects, 8 clients", "commit c8 k100", "/s", "ops_per_s", python=6,
        gap="The bandwidth of syncs."),
    Bar("commits of the same object by 8 clients", "commit c8 k1 contended", "/s", "ops_per_s", python=3,
        gap="Only one can win at a time; the others' votes wait for its sync and then conflict."),
    Bar("8 clients, nine loads to a commit", "mixed c8 90/10", "/s", "ops_per_s", python=5, goal=7,
        gap="CPU: of the 34 us that both processors have for an operation the load generator takes 12, sending answers "
        "over loopback 8, and syncs, of two writes each, 5. And each client waits for its own commit's sync."),
    Bar("a commit told to 1000 clients, until the last has it", "fanout 1000", "ms", "inv_last_us.p50", 1e-3,
        more_is_better=False, python=0.45, stub=1.3,
        gap="A thousand writes to sockets, which is what the stub does too; by two threads, while the load generator "
        "wants a processor as well."),
    Bar("1000 connections, 64 at a time", "storm 1000 b64", "/s", "ops_per_s", python=3.5,
        gap="Accepting a connection, in the kernel, and three replies on it: 41 us. The load generator takes 34 us for "
        "each, and the stub 27."),
    Bar("1000 connections at once: lost", "storm 1000 b1000", "", "errors", more_is_better=False, absolute=0),
    Bar("longest load of another client during a 50 MB vote and finish", "stall 50 MB", "ms", "inv_last_us.max", 1e-3,
        more_is_better=False, absolute=10, limit="round trip",
        gap="The log writer's copy and the kernel's write-back take a core each for a while, and a load that must read "
        "from the disk waits until a part of 2 MB is synced."),
    Bar("syncs for a commit, 32 clients", "syncs c32", "", "syncs_per_commit", more_is_better=False, absolute=0.3),
    Bar("memory with a million objects, after start", "start with index", "MB", "rss_mb", more_is_better=False,
        python=0.45, limit="index", gap="The index has eight bytes an object; the rest is the program."),
    Bar("opening a million objects, with `.index`", "start with index", "s", "start_s", more_is_better=False,
        python=1 / 10, gap="Starting the process, and reading eight bytes an object."),
    Bar("opening a million objects, without", "start without index", "s", "start_s", more_is_better=False,
        python=1 / 8, limit="plain read",
        gap="Starting the process, and one pass over the file, of which the headers are looked at."),
]

# What no server can pass, from what `physlimits` says of the machine: a name, the unit, and how it comes about.
LIMITS = {
    "round trip": ("us", "one message there and back, loopback, blocking threads",
                   lambda m: m["roundtrip_1"]["p50_us"]),
    "round trips": ("/s", "the same by 16 pairs of threads", lambda m: m["roundtrip_16"]["per_s"]),
    "loads": ("/s", "bytes of a reply through loopback, one stream", lambda m: m["stream"]["mb_per_s"] * 1e6 / 560),
    "commits": ("/s", "two round trips and a sync of 4 KiB, one after the other",
                lambda m: 1e6 / (2 * m["roundtrip_1"]["p50_us"] + m["sync_4096"]["p50_us"])),
    "commits of 100": ("/s", "two round trips and a sync of 64 KiB, one after the other",
                       lambda m: 1e6 / (2 * m["roundtrip_1"]["p50_us"] + m["sync_65536"]["p50_us"])),
    "index": ("MB", "a million positions of eight bytes", lambda m: 8.0),
    "plain read": ("s", "reading the file once, from memory, median", lambda m: m["plain_read"]["seconds"]),
}


def at(sample, path):
    """The figure at a dotted path of a sample; None if it is not there."""
    for part in path.split("."):
        if not isinstance(sample, dict) or part not in sample:
            return None
        sample = sample[part]
    return sample
