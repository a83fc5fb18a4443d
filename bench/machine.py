"""The machine that is measured on: what it is, whether it is quiet, and what it can do at most."""
import datetime
import json
import os
import platform
import subprocess
import time


def description(versions):
    """What a reader needs to know of where and when figures were taken."""
    return {
        "kind": "machine",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _first("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(_first("/proc/meminfo", "MemTotal").split()[0]) / 1e6),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
        "versions": versions,
    }


def _first(path, key):
    with open(path) as lines:
        for line in lines:
            if line.startswith(key):
                return line.split(":", 1)[1].strip()
    return ""


def _ticks():
    """Busy and all ticks since boot; niced work yields to a measurement, so it is not busy."""
    with open("/proc/stat") as lines:
        fields = [int(field) for field in lines.readline().split()[1:9]]
    return sum(fields) - fields[1] - fields[3] - fields[4], sum(fields)


def busy_cores(seconds=0.3):
    """How many cores did something just now."""
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    return (after[0] - before[0]) / max(1, after[1] - before[1]) * os.cpu_count()


def wait_until_quiet(seconds, limit=0.2):
    """Waits until the machine does little else, but not longer than that."""
    end = time.monotonic() + seconds
    while busy_cores() > limit and time.monotonic() < end:
        pass


def limits(program, folder, prefix, seconds=1.0):
    """What `physlimits` says of this machine, by name."""
    command = [*prefix, program, "%g" % seconds, folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120, text=True)
    measured = [json.loads(line) for line in done.stdout.splitlines()]
    return {entry.pop("name"): entry for entry in measured}


def plain_read(path):
    """Seconds for reading a file once from beginning to end, when it is in memory already."""
    best = None
    for _ in range(3):
        begun = time.perf_counter()
        with open(path, "rb", buffering=0) as file:
            buffer = bytearray(1 << 20)
            while file.readinto(buffer):
                pass
        best = min(best or 1e9, time.perf_counter() - begun)
    return best
