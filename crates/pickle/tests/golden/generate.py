"""Writes values.txt and records.txt: pickles as Python writes them.

Needs zodbpickle, ZODB and Python 3.8 or newer; the files are committed, so tests run without them:

    python generate.py

A line of values.txt is who pickled it, a name, and the pickle in hex. A line of records.txt is a
name, the class as ZODB tells it, the references as ZODB finds them, and the record in hex.
"""

import io
import pickle
import struct

import zodbpickle.pickle
from zodbpickle import binary

SHARED = ["shared", b"bytes"]
VALUES = {
    "none": None,
    "true": True,
    "false": False,
    "ints": [0, 1, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -1, -128, -129, -(2**31), -(2**31) - 1,
             2**63, -(2**63), 2**100, -(2**100), 255 << 32, -(2**39)],
    "floats": [0.0, -1.5, 1e300],
    "bytes": [b"", b"a" * 255, b"b" * 256, b"\xff\x00"],
    "texts": ["", "plain", "größe €", "😀", "a\\b\n'\""],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "dicts": [{}, {"a": 1}, {"a": 1, 2: b"x"}],
    "list of 1000": list(range(1000)),
    "list of 1001": list(range(1001)),
    "list of 2000": list(range(2000)),
    "dict of 1001": {n: None for n in range(1001)},
    "set": {5},
}
SHARING = {"a": SHARED, "b": SHARED, "c": (SHARED, SHARED)}


def fast(value):
    out = io.BytesIO()
    pickler = zodbpickle.pickle.Pickler(out, 3)
    pickler.fast = 1
    pickler.dump(value)
    return out.getvalue()


def write_values(out):
    def line(who, name, pickled):
        print(who, name.replace(" ", "-"), pickled.hex(), file=out)

    for name, value in VALUES.items():
        line("fast", name, fast(value))
        line("memo3", name, zodbpickle.pickle.dumps(value, 3))
        # Older protocols call _codecs.encode for bytes, which is not in the grammar.
        if name not in ("bytes", "dicts"):
            for protocol in 0, 1, 2:
                line(f"memo{protocol}", name, zodbpickle.pickle.dumps(value, protocol))
    line("memo3", "sharing", zodbpickle.pickle.dumps(SHARING, 3))
    line("memo3", "binary", zodbpickle.pickle.dumps([binary(b"ascii")], 3))
    line("memo2", "bytearray", zodbpickle.pickle.dumps(bytearray(b"\x00\xff"), 2))
    line("memo3", "bytearray", zodbpickle.pickle.dumps(bytearray(b"\x00\xff"), 3))


class Klass:
    pass


class Reference:
    def __init__(self, pid):
        self.pid = pid


def record(klass, state, protocol, pickler_class=pickle.Pickler):
    out = io.BytesIO()

    class Pickler(pickler_class):
        def persistent_id(self, obj):
            return obj.pid if isinstance(obj, Reference) else None

    pickler = Pickler(out, protocol)
    pickler.dump(klass)
    pickler.dump(state)
    return out.getvalue()


def write_records(out):
    from ZODB.serialize import referencesf
    from ZODB.utils import get_pickle_metadata

    oid = lambda n: struct.pack(">Q", n)
    first, second = oid(1), oid(0x1234)
    state = {
        "bare": Reference(first),
        "classed": Reference((second, Klass)),
        "again": [Reference((second, Klass)), Reference((first, None))],
        "weak": Reference(["w", (first,)]),
        "other database": Reference(["m", ("other", first, Klass)]),
        "legacy weak": Reference([first]),
        "plain": {"x": [1, 2.5, 2**70, None, True, "text", b"bytes", (), (1,), {3}, frozenset()]},
    }

    def line(name, pickled, class_name=None, references=None):
        if class_name is None:
            class_name = ".".join(get_pickle_metadata(pickled))
        if references is None:
            references = referencesf(pickled)
        references = ",".join(reference.hex() for reference in references) or "-"
        print(name.replace(" ", "-"), class_name, references, pickled.hex(), file=out)

    for protocol in 3, 4, 5:
        pickled = record(Klass, state, protocol)
        # ZODB itself reads up to protocol 3 only.
        known = [] if protocol == 3 else ["__main__.Klass", referencesf(record(Klass, state, 3))]
        line(f"protocol {protocol}", pickled, *known)
    zodb = zodbpickle.pickle.Pickler
    line("zodbpickle", record(Klass, state, 3, zodb))
    line("with arguments", record((Klass, None), {}, 3, zodb))
    line("with more arguments", record((Klass, (1, 2)), {}, 3, zodb))
    line("by name", record((("old.module", "Old"), None), {}, 3, zodb))
    for protocol in 0, 1, 2:
        name = f"class of protocol {protocol}"
        line(name, record(Klass, {"text": "größe", "n": 2**70}, protocol, zodb))
        line("named " + name, record((("old.module", "Old"), None), {}, protocol, zodb))
    line("python 2 oids", b"\x80\x02c__main__\nKlass\nq\x01.\x80\x02}q\x02U\x01aU\x08"
         + second + b"q\x03h\x01\x86Qs.", references=[second])
    line("shared memo", b"\x80\x03c__main__\nKlass\nq\x01.\x80\x03]q\x02(C\x08" + first
         + b"q\x03h\x01\x86q\x04Qh\x04Qe.")


if __name__ == "__main__":
    with open("values.txt", "w") as out:
        write_values(out)
    with open("records.txt", "w") as out:
        write_records(out)
