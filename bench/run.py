#!/usr/bin/env python3
"""Measures this server beside Python's and beside a stub, in one run on one machine.

    cargo xtask bench                      # builds everything, three rounds, under ten minutes
    cargo xtask bench --rounds 5 --page    # and writes docs/performance.md and its plot
    cargo xtask bench --only read,stall --rounds 1

Each round starts every server on its own copy of the same Data.fs and runs each workload on all
of them, one after the other, in turning order.  Every sample is written as a line of JSON.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import machine
import page
import servers
from workloads import OURS, PYTHON, STUB, WORKLOADS

HERE = pathlib.Path(__file__).resolve().parent
PRIORITIES = {"none": [], "nice": ["nice", "-n", "-5"], "realtime": ["chrt", "-r", "1"]}
OBJECTS, SIZE = 100_000, 500
MANY_OBJECTS = 1_000_000
# Of what the load generator tells of a sample.
KEPT = ("ops", "ops_per_s", "op_us", "inv_last_us", "vote_us", "finish_us", "verified", "errors", "error_example",
        "server_us_per_op", "server_rss_mb", "client_cpu_frac", "other_cpu_cores")
SYNC_CALLS = ("fdatasync", "fsync", "sync_file_range")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="our runzeo")
    parser.add_argument("--zeoload", required=True, help="the load generator")
    parser.add_argument("--physlimits", required=True, help="the probes of the machine")
    parser.add_argument("--python", default=sys.executable, help="a Python with ZEO, whose runzeo is beside it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=2.0, help="seconds of each timed sample")
    parser.add_argument("--only", help="only workloads whose names contain one of these, with commas between")
    parser.add_argument("--priority", choices=PRIORITIES, default="none",
                        help="how servers and load generator alike run; another than none if other work disturbs")
    parser.add_argument("--quiet-wait", type=float, default=2.0, help="seconds to wait at most for a quiet machine")
    parser.add_argument("--max-minutes", type=float, default=10.0, help="begin nothing more after so long")
    parser.add_argument("--work", help="a folder on the disk to measure; a temporary one if left out")
    parser.add_argument("--out", help="where the samples go; last.jsonl, or with --page results.jsonl, in this folder")
    parser.add_argument("--page", action="store_true", help="write docs/performance.md and the plot from the samples")
    options = parser.parse_args()
    options.out = options.out or HERE / ("results.jsonl" if options.page else "last.jsonl")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    work = tempfile.mkdtemp(prefix="zeolith-bench-", dir=options.work)
    try:
        Run(options, work).all()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    samples = page.read(options.out)
    print(page.table(samples))
    if options.page:
        page.write(samples)


class Run:
    """One run; every sample goes to the file as soon as it is there."""

    def __init__(self, options, work):
        self.options, self.work = options, work
        self.prefix = usable(PRIORITIES[options.priority])
        self.end = time.monotonic() + options.max_minutes * 60
        self.out = open(options.out, "w")
        beside = pathlib.Path(options.python).parent
        stub = "%s nullserver --addr 127.0.0.1:{port} --objects %d --sync %%s --path {folder}/log" % (
            options.zeoload, OBJECTS)
        self.commands = {
            PYTHON: "%s -C {conf}" % (beside / "runzeo"),
            OURS: "%s -C {conf}" % options.server,
            **{"%s %s" % (STUB, sync): stub % sync for sync in ("none", "each", "group")},
        }

    def all(self):
        wanted = self.options.only.split(",") if self.options.only else [""]
        chosen = [load for load in WORKLOADS if any(part in load.name for part in wanted)]
        self.emit(machine.description(self.versions()))
        limits = machine.limits(self.options.physlimits, self.work, self.prefix)
        if is_wanted("start", wanted):
            many = self.template(MANY_OBJECTS)
            limits["plain_read"] = {"seconds": self.starts(many)}
            shutil.rmtree(many)
        self.emit({"kind": "limits", **limits})
        template = self.template(OBJECTS)
        if is_wanted("syncs c32", wanted):
            self.syncs(template)
        for number in range(self.options.rounds):
            if not self.out_of_time():
                self.round(number, chosen, template)

    def versions(self):
        code = "import importlib.metadata as m, platform; print(platform.python_version(), m.version('ZEO'), m.version('ZODB'))"
        python, zeo, zodb = output([self.options.python, "-c", code]).split()
        commit = output(["git", "describe", "--always", "--dirty"], cwd=HERE)
        ours = output([self.options.server, "--version"])
        number = re.search(r"\d+\.\d+\.\d+", ours)
        return {"python": python, "ZEO": zeo, "ZODB": zodb, "zeolith": number[0] if number else "", "commit": commit}

    def template(self, objects):
        """A Data.fs with objects 1 to `objects`, and its index as Python leaves it."""
        folder = os.path.join(self.work, "template-%d" % objects)
        os.makedirs(folder)
        path = os.path.join(folder, "Data.fs")
        subprocess.run([self.options.zeoload, "mkfs", "--out", path, "--objects", str(objects), "--size", str(SIZE)],
                       check=True, stdout=subprocess.DEVNULL, timeout=120)
        code = "import sys, ZODB.FileStorage as f; f.FileStorage(sys.argv[1]).close()"
        subprocess.run([self.options.python, "-c", code, path], check=True, timeout=120)
        os.unlink(path + ".lock")
        return folder

    def server(self, name, prefix=()):
        return servers.Server(name, self.commands[name], self.work, [*self.prefix, *prefix])

    def round(self, number, chosen, template):
        kinds = {"%s %s" % (STUB, load.stub) for load in chosen if load.stub}
        running = {}
        try:
            for name in [PYTHON, OURS, *sorted(kinds)]:
                running[name] = self.server(name).start(template if name in (PYTHON, OURS) else None)
            for load in chosen:
                names = [PYTHON, OURS] + (["%s %s" % (STUB, load.stub)] if load.stub else [])
                for name in names if number % 2 == 0 else names[::-1]:
                    if not self.out_of_time():
                        self.sample(number, load, running[name])
        finally:
            for server in running.values():
                server.stop()

    def sample(self, number, load, server):
        machine.wait_until_quiet(self.options.quiet_wait)
        arguments = load.args.split()
        if "--size" not in arguments:
            arguments += ["--size", str(SIZE)]
        if arguments[0] in ("read", "mixed", "stall"):
            arguments += ["--objects", str(OBJECTS)]
        if load.timed:
            arguments += ["--duration", "%g" % self.options.duration, "--warmup", "0.4"]
        result = self.zeoload(server, arguments)
        kept = {key: result[key] for key in KEPT if key in result}
        self.emit({"kind": "sample", "name": load.name, "server": server.name.split()[0], "round": number, **kept})
        print("round %d  %-24s %-12s %10.1f/s  errors %d  others %.2f cores" % (
            number, load.name, server.name, result["ops_per_s"], result["errors"], result["other_cpu_cores"]),
            file=sys.stderr)

    def zeoload(self, server, arguments):
        command = [*self.prefix, self.options.zeoload, *arguments, "--addr", server.address,
                   "--pid", str(server.pid), "--json", "-"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        try:
            return json.loads(done.stdout)
        except ValueError:
            said = (done.stderr or done.stdout)[-300:]
            return {"errors": 1, "error_example": said, "ops_per_s": 0.0, "other_cpu_cores": 0.0}

    def starts(self, template):
        """How long opening takes, and how much memory it needs; returns how long a plain read takes.

        Some systems take from memory what nobody has read for a minute or two. So the file is read once more before each
        opening, and both find the same.
        """
        plain = []
        for number in range(self.options.rounds):
            for index in (True, False):
                for name in (PYTHON, OURS):
                    machine.wait_until_quiet(self.options.quiet_wait)
                    plain.append(machine.plain_read(os.path.join(template, "Data.fs")))
                    # The very file: nobody writes to it, and a copy would have to be written back meanwhile.
                    server = self.server(name).start(template, index=index, copy=False)
                    try:
                        self.emit({
                            "kind": "sample", "server": name, "round": number, "errors": 0,
                            "name": "start with index" if index else "start without index",
                            "start_s": round(server.start_s, 4), "rss_mb": round(server.resident_mb(), 1),
                        })
                    finally:
                        server.stop()
        return statistics.median(plain)

    def syncs(self, template):
        """System calls that sync, for each commit, as the kernel counts them."""
        events = ",".join("syscalls:sys_enter_" + call for call in SYNC_CALLS)
        counter = ["perf", "stat", "-x", ",", "-e", events]
        if not shutil.which("perf") or subprocess.run([*counter, "true"], capture_output=True).returncode:
            print("no perf, or no right to trace: syncs are not counted", file=sys.stderr)
            return
        # Few objects, so that nearly all commits change one: those that only create objects wait for each other.
        arguments = ["commit", "--conns", "32", "--k", "1", "--slots", "4", "--size", str(SIZE),
                     "--duration", "%g" % self.options.duration, "--warmup", "0"]
        for name in (PYTHON, OURS):
            server = self.server(name).start(template)
            try:
                counting = subprocess.Popen([*counter, "-p", str(server.pid)], stderr=subprocess.PIPE, text=True)
                time.sleep(0.5)  # perf says nothing when it has begun; until then nobody commits
                result = self.zeoload(server, arguments)
                counting.send_signal(signal.SIGINT)
                counted = sum(int(line.split(",")[0]) for line in counting.communicate(timeout=30)[1].splitlines()
                              if line[:1].isdigit())
            finally:
                server.stop()
            self.emit({"kind": "sample", "name": "syncs c32", "server": name, "round": 0, "syncs": counted,
                       "ops": result.get("ops"), "errors": result["errors"],
                       "syncs_per_commit": round(counted / max(1, result.get("ops", 0)), 3)})

    def emit(self, entry):
        self.out.write(json.dumps(entry) + "\n")
        self.out.flush()

    def out_of_time(self):
        return time.monotonic() > self.end


def is_wanted(name, wanted):
    return any(part in name for part in wanted)


def output(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    return done.stdout.strip()


def usable(prefix):
    """The prefix, if this user may use it."""
    if prefix and subprocess.run([*prefix, "true"], capture_output=True).returncode:
        print("%s is not allowed here: measuring without it" % " ".join(prefix), file=sys.stderr)
        return []
    return prefix


if __name__ == "__main__":
    main()
