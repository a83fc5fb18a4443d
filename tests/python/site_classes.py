"""Classes of an application with conflict resolution of their own, good and bad, for both ends of a connection.

State is a dict.  What a class does when it merges follows from its name and from the
state that is to be stored.
"""
import os
import sys
import time

from BTrees.OOBTree import OOBucket
from persistent import Persistent
from ZODB.POSException import BTreesConflictError, ConflictError


class Counter(Persistent):
    """Adds up."""

    def _p_resolveConflict(self, old, committed, new):
        if "raise" in new:
            raise {"value": ValueError, "conflict": ConflictError, "exit": SystemExit,
                   "interrupt": KeyboardInterrupt, "loop": RecursionError}[new["raise"]]("no")
        return dict(new, value=committed["value"] + new["value"] - old["value"])


class Mute(Persistent):
    """Has nothing to merge with."""


class WithArguments(Counter):
    """Takes arguments when it is made, which stand in its record."""

    def __new__(cls, *arguments):
        self = super().__new__(cls)
        self.arguments = arguments
        return self

    def _p_resolveConflict(self, old, committed, new):
        return dict(super()._p_resolveConflict(old, committed, new), arguments=self.arguments)


class Linked(Persistent):
    """Merges references: what both added, in order; `best` may be changed by one side only."""

    def _p_resolveConflict(self, old, committed, new):
        links = list(committed["links"])
        for link in new["links"]:
            if not any(link is other for other in links):
                links.append(link)
        best = new["best"] if committed["best"] == old["best"] else committed["best"]
        return {"links": links, "best": best, "oids": [link.oid for link in links]}


class Odd(Persistent):
    """Returns what no record should hold."""

    def _p_resolveConflict(self, old, committed, new):
        what = new["what"]
        if what == "function":
            return lambda: None
        if what == "generator":
            return (number for number in range(3))
        if what == "btrees":
            raise BTreesConflictError(1, -1, 2, 9)
        if what == "bucket":
            return OOBucket({1: 2}).__getstate__()
        if what == "itself":
            return self
        if what == "deep":
            state = None
            for _ in range(100_000):
                state = [state]
            return state
        if what == "file":
            return sys.__stdin__
        return {"none": None, "text": "text", "list": [old, committed, new], "class": Counter,
                "reference": committed.get("link"), "large": b"x" * 300_000, "set": {1}}[what]


class Waits(Persistent):
    """Goes on when whoever writes to a pipe has finished."""

    def _p_resolveConflict(self, old, committed, new):
        with open(new["fifo"]) as fifo:
            return {"read": fifo.read()}


class Hangs(Persistent):
    """Never comes back, and has a child that does not either."""

    def _p_resolveConflict(self, old, committed, new):
        child = os.fork()
        if not child:
            time.sleep(600)
            os._exit(0)
        print("hanging with", child)
        time.sleep(600)


class Crashes(Persistent):
    """Takes its process with it."""

    def _p_resolveConflict(self, old, committed, new):
        print("last words")
        os._exit(7)


class Prints(Persistent):
    """Prints a lot, on all three streams."""

    def _p_resolveConflict(self, old, committed, new):
        print("a word before")
        for _ in range(2000):
            os.write(1, b"flood " * 2000)
            os.write(2, b"flood\n" * 200)
        try:
            os.write(0, b"\0\0\0\x0cR00000000no!")
        except OSError:
            pass
        return new


class Scribbles(Persistent):
    """Writes to every file that it finds open."""

    def _p_resolveConflict(self, old, committed, new):
        for fd in range(3, 50):
            try:
                os.write(fd, b"\0\0\0\x0cR00000000no!")
            except OSError:
                pass
        return new


class Forks(Persistent):
    """Comes back twice."""

    def _p_resolveConflict(self, old, committed, new):
        os.fork()
        return new


class Eats(Persistent):
    """Wants more memory than there is."""

    def _p_resolveConflict(self, old, committed, new):
        hoard = []
        while True:
            hoard.append(b"x" * (16 << 20))
