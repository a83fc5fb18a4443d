"""Measures a pack beside loads and commits, next to Python's pack and a plain copy of the same file.

    python pack_figures.py DIRECTORY [--megabytes N] [--only ours,copy_beside,alone,copy,python]

DIRECTORY gets `source.fs`, half of which is garbage (kept for the next run), and copies
of it that are removed again: three times the size is needed.  The server is the one that
`servers.py` finds.  What counts is a ratio of two lines of one run; the machine matters
for all of them alike.
"""
import argparse
import json
import multiprocessing
import os
import re
import resource
import shutil
import struct
import sys
import threading
import time

import servers
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf

TRANSACTION = struct.Struct(">8sQcHHH")
RECORD = struct.Struct(">8s8sQQHQ")
RECORDS_IN_TRANSACTION = 100
CLASS = b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x00."
TEXT = b"The quick brown fox Packs my box with five dozen Quarts. "
PIECE = 1 << 20
# As the server does, for the sake of others' syncs.
UNSYNCED_MAX = 4 << 20


def oid(number):
    return number.to_bytes(8, "big")


def live(place):
    """The number of the object at a place of the tree: of three numbers the third is garbage."""
    return place // 2 * 3 + place % 2


def record(references, turn, size):
    """A mapping as ZODB pickles it; each reference is a pair of oid and class."""
    parts = [b"\x80\x03}q\x01X\x04\x00\x00\x00dataq\x02}q\x03("]
    for number, reference in enumerate(references):
        key = b"%08d" % number
        parts.append(b"X\x08\x00\x00\x00" + key + b"C\x08" + oid(reference))
        parts.append(b"cpersistent.mapping\nPersistentMapping\n\x86Q")
    text = (b"%d " % turn + TEXT * (size // len(TEXT) + 1))[:size]
    parts.append(b"X\x04\x00\x00\x00textB" + struct.pack("<I", size) + text + b"us.")
    return CLASS + b"".join(parts)


def generate(path, megabytes, size=900):
    """Writes a database of about twice that size: half current and reached, a quarter garbage, a quarter old.

    A thousand objects a megabyte are kept, whatever the `size` of their texts. Returns how many that are.
    """
    count = megabytes * 1000
    half = count // 2

    def content():
        for place in range(half):
            if place % 2:
                garbage = place // 2 * 3 + 2
                yield garbage, [(place // 2 + 1) % (half // 2) * 3 + 2], 1
            else:
                yield live(place), [], 1
        for place in range(half):
            if place % 2 == 0:
                garbage = (half // 2 + place // 2) * 3 + 2
                yield garbage, [garbage], 1
            else:
                yield live(place), [], 1
        # In an order that is not that of the tree.
        for step in range(count):
            place = step * 7919 % count
            children = range(20 * place + 1, min(20 * place + 21, count))
            yield live(place), [live(child) for child in children], 2

    tid = 0x03E0000000000000
    positions = {}
    with open(path + ".part", "wb", PIECE) as f:
        f.write(b"FS30")
        position, batch = 4, []

        def flush():
            nonlocal position, tid
            tid += 1 << 20
            size = sum(RECORD.size + len(data) for _, data in batch)
            length = TRANSACTION.size + size
            f.write(TRANSACTION.pack(oid(tid), length, b" ", 0, 0, 0))
            at = position + TRANSACTION.size
            for number, data in batch:
                header = RECORD.pack(oid(number), oid(tid), positions.get(number, 0), position, 0, len(data))
                f.write(header + data)
                positions[number] = at
                at += RECORD.size + len(data)
            f.write(struct.pack(">Q", length))
            position = at + 8
            batch.clear()

        for number, references, turn in content():
            batch.append((number, record(references, turn, max(size - 200, 0) if references else size)))
            if len(batch) == RECORDS_IN_TRANSACTION:
                flush()
        if batch:
            flush()
    os.rename(path + ".part", path)
    return count


def cpu_of(pid):
    """Seconds of processor time that a process has used."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid):
    """(now, at most) resident megabytes of a process that are its own."""
    with open("/proc/%d/status" % pid) as f:
        fields = dict(line.split(":", 1) for line in f)
    megabytes = [int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "VmHWM", "RssFile")]
    return megabytes[0], megabytes[1] - megabytes[2]


def io_of(pid):
    """Bytes that a process has (read, written) by calls."""
    with open("/proc/%d/io" % pid) as f:
        fields = dict(line.split(":", 1) for line in f)
    return int(fields["rchar"]), int(fields["wchar"])


def work(address, kind, count, pipe):
    """A process of its own: loads or commits one after the other, and tells how long each took."""
    client = ClientStorage(address, wait_timeout=30)
    latencies, step, serial = [], 0, b"\0" * 8
    new, data = oid(live(count)), record([], 3, 900)
    pipe.send("ready")
    while not pipe.poll():
        begun = time.monotonic()
        if kind == "load":
            # Past the cache of the client.
            client._call("loadBefore", oid(live(step * 104729 % count)), b"\x7f" + b"\xff" * 7)
        else:
            meta = TransactionMetaData()
            client.tpc_begin(meta)
            client.store(new, serial, data, "", meta)
            client.tpc_vote(meta)
            serial = client.tpc_finish(meta)
        latencies.append((begun, time.monotonic() - begun))
        step += 1
        time.sleep(0.001)
    pipe.recv()
    client.close()
    pipe.send(latencies)


def sync(path, pipe):
    """A process of its own: syncs a little that it appends to a file, again and again. What the disk alone costs."""
    latencies = []
    with open(path, "wb", 0) as f:
        pipe.send("ready")
        while not pipe.poll():
            f.write(bytes(1000))
            begun = time.monotonic()
            os.fdatasync(f.fileno())
            latencies.append((begun, time.monotonic() - begun))
            time.sleep(0.002)
    os.remove(path)
    pipe.recv()
    pipe.send(latencies)


class Beside:
    """A process that runs beside something that is measured, and tells how long each of its steps took."""

    def __init__(self, target, *args):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(*args, theirs))
        self.process.start()
        assert self.pipe.recv() == "ready"

    def end(self):
        self.pipe.send("stop")
        told = self.pipe.recv()
        self.process.join()
        return told


def worst(latencies, begin, end):
    """(count, median ms, longest ms, when it began) of what began within the interval."""
    inside = [(took, when - begin) for when, took in latencies if begin <= when <= end]
    longest, when = max(inside)
    ordered = sorted(took for took, _ in inside)
    return {
        "count": len(inside),
        "median_ms": round(ordered[len(ordered) // 2] * 1000, 3),
        "longest_ms": round(longest * 1000, 1),
        "longest_at_s": round(when, 2),
    }


class Busy:
    """A server of the file on which, unless it is to be `alone`, one client loads and one commits."""

    def __init__(self, path, count, directory, alone=False):
        self.server = servers.Server(directory, storage=servers.filestorage(path))
        self.path, self.count, self.directory, self.alone = path, count, directory, alone
        self.told, self.intervals = {}, {}

    def __enter__(self):
        self.server.__enter__()
        self.beside = {"syncs": Beside(sync, os.path.join(self.directory, "synced"))}
        if not self.alone:
            self.beside["loads"] = Beside(work, self.server.address, "load", self.count)
            self.beside["commits"] = Beside(work, self.server.address, "commit", self.count)
            time.sleep(2)
            self.intervals["quiet"] = (time.monotonic(), time.sleep(2) or time.monotonic())
        return self

    def measure(self, name, action):
        """Does something, and notes what the server uses and what the clients wait for meanwhile."""
        pid = self.server.process.pid
        memory, _ = memory_of(pid)
        cpu, io = cpu_of(pid), io_of(pid)
        peak = Peak(pid)
        begin = time.monotonic()
        action()
        end = time.monotonic()
        used, io_after = cpu_of(pid) - cpu, io_of(pid)
        highest = peak.stop()
        after, _ = memory_of(pid)
        time.sleep(0.5)
        self.intervals[name] = begin, end + 0.2
        self.told[name] = {
            "seconds": round(end - begin, 2),
            "cpu_seconds_of_server": round(used, 2),
            "memory_mb": {"before": round(memory), "highest": round(highest), "after": round(after)},
            "read_mb": (io_after[0] - io[0]) >> 20,
            "written_mb": (io_after[1] - io[1]) >> 20,
            "size_mb": os.path.getsize(self.path) >> 20,
        }

    def __exit__(self, *_):
        latencies = {name: process.end() for name, process in self.beside.items()}
        ended = self.server.end()
        self.server.__exit__(None, None, None)
        assert ended == 0, self.server.said()
        for name, interval in self.intervals.items():
            told = self.told.setdefault(name, {})
            told.update((kind, worst(every, *interval)) for kind, every in latencies.items())


def pack_ours(path, count, directory, alone=False):
    """Packs through a server, twice if it is not alone: the second one has the file of before the first to remove."""
    names = ["first"] if alone else ["first", "again"]
    with Busy(path, count, directory, alone) as busy:
        packer = ClientStorage(busy.server.address, wait_timeout=30)
        for name in names:
            busy.measure(name, lambda: packer.pack(time.time(), wait=True))
        packer.close()
    held = re.findall(r"complete: .*; (commits waited .*)", busy.server.log())
    return {**busy.told, "switch": held[-len(names):]}


def copy_beside(path, count, directory, *what):
    """The plain copy beside the same clients."""
    with Busy(path, count, directory) as busy:
        busy.measure("copy", lambda: copy(*what))
    return busy.told["copy"]


class Peak:
    """Watches the memory of a process."""

    def __init__(self, pid):
        self.pid, self.highest, self.ended = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ended.wait(0.02):
            self.highest = max(self.highest, memory_of(self.pid)[0])

    def stop(self):
        self.ended.set()
        self.thread.join()
        return self.highest


def pack_python(path):
    """Python's own pack in this process, with nobody beside it."""
    storage = FileStorage(path)
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    storage.pack(time.time(), referencesf)
    seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_SELF)
    storage.close()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "size_mb": os.path.getsize(path) >> 20}


def copy(source, target, read, written):
    """Reads and writes so many bytes in large pieces, and syncs as often as the server does."""
    unsynced = 0
    with open(source, "rb", 0) as f, open(target, "wb", 0) as g:
        while read > 0 or written > 0:
            piece = f.read(PIECE)
            if not piece:
                f.seek(0)
                continue
            read -= len(piece)
            if written > 0:
                unsynced += g.write(piece[:written])
                written -= len(piece)
            if unsynced >= UNSYNCED_MAX:
                os.fdatasync(g.fileno())
                unsynced = 0
        os.fsync(g.fileno())


def copy_alone(source, target, directory, read, written):
    """The plain copy with nobody beside it but who tells what another's syncs take."""
    beside = Beside(sync, os.path.join(directory, "synced"))
    begin = time.monotonic()
    copy(source, target, read, written)
    end = time.monotonic()
    return {"seconds": round(end - begin, 2), "syncs": worst(beside.end(), begin, end)}


def remove(path):
    for suffix in ("", ".old", ".index", ".lock", ".pack", ".tmp"):
        if os.path.exists(path + suffix):
            os.remove(path + suffix)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("directory")
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--only", default="ours,copy_beside,alone,copy,python")
    options = parser.parse_args()
    directory = options.directory
    source = os.path.join(directory, "source-%d.fs" % options.megabytes)
    if not os.path.exists(source):
        generate(source, options.megabytes // 2)
    count = options.megabytes // 2 * 1000
    size = os.path.getsize(source)
    told = {"source_mb": size >> 20, "objects_kept": count}
    target, copied = os.path.join(directory, "packed.fs"), os.path.join(directory, "copied.fs")
    # As much as our pack reads and writes, which is measured if it is asked for before.
    read, written = 2 * size, size // 2
    for step in options.only.split(","):
        remove(target)
        if step == "copy":
            os.sync()
            told[step] = copy_alone(source, copied, directory, read, written)
            remove(copied)
            continue
        shutil.copyfile(source, target)
        # What was removed before is the disk's last work too: it would keep the syncs of the measurement waiting.
        os.sync()
        if step == "copy_beside":
            told[step] = copy_beside(target, count, directory, source, copied, read, written)
        elif step == "python":
            told[step] = pack_python(target)
        else:
            told[step] = pack_ours(target, count, directory, alone=step == "alone")
            first = told[step]["first"]
            read, written = first["read_mb"] << 20, first["written_mb"] << 20
        remove(target)
        remove(copied)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    sys.exit(main())
