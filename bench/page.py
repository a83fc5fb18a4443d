#!/usr/bin/env python3
"""Makes docs/performance.md and its plot of the samples of a run.

    python3 bench/page.py            # of bench/results.jsonl, as the last run with --page left it

What stands around the tables is in the page itself; only what is between its marks is replaced.
"""
import json
import math
import pathlib
import statistics
import sys

from workloads import BARS, LIMITS, OURS, PYTHON, STUB, at

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parent / "docs/performance.md"
PLOT = HERE.parent / "docs/performance.svg"
BEGIN, END = "<!-- made by bench/page.py: begin -->", "<!-- made by bench/page.py: end -->"


def read(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines]


class Figures:
    """Medians over the rounds."""

    def __init__(self, samples):
        self.samples = [entry for entry in samples if entry["kind"] == "sample"]
        self.machine = next(entry for entry in samples if entry["kind"] == "machine")
        self.limits = next((entry for entry in samples if entry["kind"] == "limits"), {})

    def values(self, bar, server):
        chosen = [entry for entry in self.samples if (entry["name"], entry["server"]) == (bar.workload, server)]
        figures = [at(entry, bar.field) for entry in chosen]
        return [figure * bar.scale for figure in figures if figure is not None]

    def median(self, bar, server):
        values = self.values(bar, server)
        return statistics.median(values) if values else None

    def limit(self, bar):
        """The machine's own figure, if it has been measured."""
        if bar.limit is None:
            return None
        unit, _, of_machine = LIMITS[bar.limit]
        try:
            return of_machine(self.limits) * (1e-3 if (unit, bar.unit) == ("us", "ms") else 1)
        except KeyError:
            return None

    def errors(self, server):
        """What went wrong; connections that a storm loses have a line of their own."""
        return sum(entry["errors"] for entry in self.samples
                   if entry["server"] == server and entry["name"] != "storm 1000 b1000")


def table(samples):
    figures = Figures(samples)
    lines = ["| | Python | Zeolith | ratio | bar | stub | ratio | bar | limit | of it |", "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for bar in BARS:
        python, ours, stub = (figures.median(bar, server) for server in (PYTHON, OURS, STUB))
        if ours is None:
            continue
        against_python, against_stub = ratio(ours, python), ratio(ours, stub if bar.stub else None)
        limit = figures.limit(bar)
        wanted = words(bar, bar.python, bar.goal)
        if bar.absolute is not None:
            wanted = ("at most %s %s" % (number(bar.absolute), bar.unit)).strip() if bar.absolute else "none"
        cells = [
            bar.title, figure(python, bar.unit), figure(ours, bar.unit), times(against_python),
            judged(wanted, met(bar, against_python, bar.python) if bar.absolute is None else ours <= bar.absolute),
            figure(stub if bar.stub else None, bar.unit), times(against_stub),
            judged(words(bar, bar.stub), met(bar, against_stub, bar.stub)),
            figure(limit, bar.unit), times(ratio(ours, limit)),
        ]
        lines.append("| %s |" % " | ".join(cells))
    return "\n".join(lines)


def ratio(ours, other):
    return ours / other if ours is not None and other else None


def met(bar, value, bound):
    if value is None or bound is None:
        return None
    return value >= bound if bar.more_is_better else value <= bound


def words(bar, bound, goal=None):
    if bound is None:
        return ""
    text = "%s %s" % ("at least" if bar.more_is_better else "at most", number(bound))
    return text + (", goal %s" % number(goal) if goal else "")


def judged(text, is_met):
    return "**%s: missed**" % text if text and is_met is False else text


def times(value):
    return "" if value is None else number(value)


def figure(value, unit):
    return "" if value is None else ("%s %s" % (number(value), unit)).strip().replace(" /s", "/s")


def number(value):
    """Three digits that count, and no more."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        rounded = round(value, -max(0, math.floor(math.log10(abs(value))) - 2))
        return "{:,.0f}".format(rounded)
    return "%.3g" % value


def plot(samples):
    """Bars of how many times better than Python, on a logarithmic scale, with marks where they should end."""
    figures = Figures(samples)
    rows = []
    for bar in BARS:
        against = ratio(figures.median(bar, OURS), figures.median(bar, PYTHON))
        if against and bar.python:
            turn = (lambda x: x) if bar.more_is_better else (lambda x: 1 / x)
            rows.append((bar.title, turn(against), turn(bar.python), turn(bar.goal) if bar.goal else None))
    label, width, height = 390, 420, 26
    top, bottom = 44, 62
    most = max([32.0] + [max(row[1:3]) for row in rows])

    def x(value):
        return label + width * math.log(max(value, 1)) / math.log(most)

    tall = top + height * len(rows) + bottom
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">'
           % (label + width + 70, tall),
           '<rect width="100%" height="100%" fill="white"/>',
           '<text x="12" y="24" font-size="15">How many times better than Python\'s server</text>']
    tick = 1
    while tick <= most:
        out.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#ddd"/>' % (x(tick), x(tick), top - 6, tall - bottom))
        out.append('<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%d</text>' % (x(tick), tall - bottom + 18, tick))
        tick *= 2
    for index, (title, value, wanted, goal) in enumerate(rows):
        y = top + index * height
        color = "#3b7a57" if value >= wanted else "#b5523b"
        out.append('<text x="%d" y="%d" text-anchor="end">%s</text>' % (label - 8, y + 14, title.replace("`", "")))
        out.append('<rect x="%d" y="%d" width="%.1f" height="16" fill="%s"/>' % (label, y + 1, x(value) - label, color))
        out.append('<text x="%.1f" y="%d">%s</text>' % (max(x(value), x(wanted)) + 6, y + 14, number(value)))
        out.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="black" stroke-width="2"/>' % (x(wanted), x(wanted), y - 2, y + 20))
        if goal and goal <= most:
            out.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="black" stroke-dasharray="3 2"/>' % (x(goal), x(goal), y - 2, y + 20))
    out.append('<text x="12" y="%d" fill="#666">solid mark: the bar; dashed: the goal</text>' % (tall - 26))
    out.append('<text x="12" y="%d" fill="#666">%s</text>' % (tall - 8, where(figures.machine)))
    return "\n".join(out) + "\n</svg>\n"


def where(machine):
    versions = machine["versions"]
    return "%s, %d cores, Linux %s; Python %s, ZEO %s, ZODB %s; %s" % (
        machine["cpu"], machine["cores"], machine["kernel"], versions["python"], versions["ZEO"], versions["ZODB"],
        machine["date"])


def body(samples):
    figures = Figures(samples)
    machine, limits = figures.machine, figures.limits
    rounds = 1 + max((entry["round"] for entry in figures.samples), default=0)
    busy = " It was busy with other work, so even the ratios are rough." if machine["load_average"] > 1 else ""
    lines = [
        "![how many times better than Python's server](performance.svg)", "",
        "Measured %s at commit %s: %s, %d GB of memory. Rounds: %d; the figures are their medians. The machine's load "
        "average before them was %.1f.%s" % (
            machine["date"], machine["versions"]["commit"], where(machine).rsplit(";", 1)[0], machine["memory_gb"],
            rounds, machine["load_average"], busy), "",
        table(samples), "",
        "Errors: %s." % ", ".join("%s %d" % (server, figures.errors(server)) for server in (PYTHON, OURS, STUB)), "",
        "## What the machine can do", "",
        "| limit | figure | what it is |", "|---|--:|---|",
    ]
    for name, (unit, what, of_machine) in LIMITS.items():
        try:
            lines.append("| %s | %s | %s |" % (name, figure(of_machine(limits), unit), what))
        except KeyError:
            pass
    for name, what in (("sync_4096", "an append of 4 KiB made durable"), ("sync_65536", "an append of 64 KiB made durable")):
        if name in limits:
            lines.append("| sync | %s | %s, median |" % (figure(limits[name]["p50_us"], "us"), what))
    for name, what in (("stream", "one stream through loopback"), ("memcpy", "one thread's copy in memory")):
        if name in limits:
            lines.append("| bandwidth | %s | %s |" % (figure(limits[name]["mb_per_s"], "MB/s"), what))
    lines += ["", "## What stands in the way", ""]
    lines += ["- **%s**: %s" % (bar.title, bar.gap) for bar in BARS if bar.gap and figures.median(bar, OURS) is not None]
    return "\n".join(lines)


def write(samples):
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text("%s%s\n%s\n%s%s" % (before, BEGIN, body(samples), END, after))
    PLOT.write_text(plot(samples))


if __name__ == "__main__":
    write(read(sys.argv[1] if len(sys.argv) > 1 else HERE / "results.jsonl"))
