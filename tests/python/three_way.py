"""Generates conflicts of three records, and resolves them with the Python classes.

A case is a class and three records as ZODB writes them.  `outcome` is what the class
makes of it: ("R", record), ("B", arguments of the BTreesConflictError) or ("E", name
of another exception).
"""
import importlib
import io
import pickletools
import random
import struct
import subprocess

from persistent.mapping import PersistentMapping
from ZODB._compat import PersistentPickler, PersistentUnpickler
from ZODB.ConflictResolution import PersistentReferenceFactory, find_global, persistent_id
from ZODB.POSException import BTreesConflictError

FAMILIES = "OO OI OL OU OQ IO II IF IU LO LL LF LQ UO UU UF UI QO QQ QF QL fs".split()
KINDS = "Bucket Set BTree TreeSet".split()
RANGES = {"I": (-2**31, 2**31), "U": (0, 2**32), "L": (-2**63, 2**63), "Q": (0, 2**64)}
CLASSES = [("BTrees.%sBTree" % family, family + kind) for family in FAMILIES for kind in KINDS] + [
    ("BTrees.Length", "Length"), ("zope.minmax._minmax", "Maximum"), ("zope.minmax._minmax", "Minimum"),
]


class Reference:
    """Pickled as a reference to another object."""

    def __init__(self, data):
        self.data = data


def record(cls, state):
    """The record of an object of this class with this state."""
    out = io.BytesIO()
    pickler = PersistentPickler(lambda value: value.data if type(value) is Reference else None, out, 3)
    pickler.dump(cls)
    pickler.dump(state)
    return out.getvalue()


def outcome(old, committed, new):
    """What ZODB.ConflictResolution.tryToResolveConflict makes of it, without hiding why it fails."""
    factory = PersistentReferenceFactory()

    def load(data):
        unpickler = PersistentUnpickler(find_global, factory.persistent_load, io.BytesIO(data))
        return unpickler.load(), unpickler.load()

    try:
        cls, new_state = load(new)
        states = load(old)[1], load(committed)[1], new_state
        resolved = cls.__new__(cls)._p_resolveConflict(*states)
        out = io.BytesIO()
        pickler = PersistentPickler(persistent_id, out, 3)
        pickler.dump(cls)
        pickler.dump(resolved)
        return "R", out.getvalue()
    except BTreesConflictError as error:
        return "B", "%d %d %d %d" % (error.p1, error.p2, error.p3, error.reason)
    except Exception as error:
        return "E", type(error).__name__


def resolve(command, cases):
    """What the resolver of the server makes of these cases, in their order."""
    packed = b"".join(struct.pack("<I", len(part)) + part for case in cases for part in case)
    done = subprocess.run(command, input=packed, stdout=subprocess.PIPE, check=True, timeout=300).stdout
    results, at = [], 0
    while at < len(done):
        kind, size = struct.unpack_from("<cI", done, at)
        at += 5
        content = done[at:at + size]
        results.append((kind.decode(), content if kind == b"R" else content.decode()))
        at += size
    return results


def needs_python(case):
    """Whether a record holds what only a class could compare: an instance."""
    return any(
        operation.name in ("REDUCE", "NEWOBJ", "BUILD")
        for data in case for operation, _, _ in operations(data)
    )


def operations(data):
    """The operations of both pickles of a record."""
    stream = io.BytesIO(data)
    return [*pickletools.genops(stream), *pickletools.genops(stream)]


def shape(data):
    """A record as plain values that are equal only if it loads as the same: types, order and references."""
    def see(value):
        if isinstance(value, (tuple, list)):
            return type(value).__name__, [see(item) for item in value]
        if isinstance(value, dict):
            return "dict", [(see(key), see(item)) for key, item in value.items()]
        if isinstance(value, Reference):
            return "reference", see(value.data)
        if isinstance(value, float):
            return "float", struct.pack(">d", value)
        return type(value).__name__, value if not hasattr(value, "__dict__") else see(vars(value))

    unpickler = PersistentUnpickler(None, Reference, io.BytesIO(data))
    return see(unpickler.load()), see(unpickler.load())


class Generator:
    """Conflicts of one class, from a seed."""

    def __init__(self, module, name, seed):
        self.random = random.Random("%s %s %s" % (module, name, seed))
        self.module, self.name = module, name
        self.cls = getattr(importlib.import_module(module), name)
        self.is_tree = name.endswith(("BTree", "TreeSet"))
        self.is_mapping = name.endswith(("BTree", "Bucket"))
        family = module[len("BTrees."):-len("BTree")]
        self.key = self.column(family[0] if family != "fs" else "f", self.object_key)
        self.value = self.column(family[1:], self.object_value)

    def column(self, letter, of_object):
        pick = self.random
        if letter == "O":
            return of_object
        if letter == "F":
            return lambda kind: pick.choice([
                lambda: pick.randrange(5), lambda: pick.random(), lambda: pick.choice([0.1, 1e30, 1e300, -0.0]),
                lambda: float("nan"), lambda: True, lambda: 2**60 + 1,
            ])()
        if letter in "fs":
            size = 2 if letter == "f" else 6
            return lambda kind: bytes(pick.choices(b"\x00ab\xff", k=size))
        if letter not in RANGES:
            return None
        low, high = RANGES[letter]
        return lambda kind: pick.choice([
            pick.randrange(8), pick.randrange(40), pick.randrange(low, high), low, high - 1, pick.random() < 0.5,
        ])

    def object_key(self, kind):
        pick = self.random
        number = pick.randrange(pick.choice([6, 30, 2**70]))
        if kind == "str":
            return pick.choice(["", "k%d", "%d", "é%d", "\U0001f600%d"]).replace("%d", str(number))
        if kind == "bytes":
            return b"k%d" % number
        if kind == "tuple":
            return (number % 4, pick.choice(["a", "b", ""]), *([number] if pick.random() < 0.3 else []))
        if kind == "number":
            return pick.choice([number, float(number), number + 0.5, number % 2 == 0, -number])
        if kind == "none":
            return None if number % 5 == 0 else number
        return pick.choice([number, str(number), b"x", (number,), None, 1.5])  # "mixed"

    def object_value(self, kind):
        pick = self.random
        number = pick.randrange(3)
        if kind == "plain":
            return pick.choice([number, "v%d" % number, None, b"", (number, "x"), 0.5, [number], True, "a"])
        if kind == "reference":
            return self.reference(pick.randrange(4))
        if kind == "unordered":
            return pick.choice([{"a": number}, number, self.reference(number), {}])
        if kind == "instance":
            return PersistentMapping({number: 1}) if pick.random() < 0.1 else number
        return number

    def reference(self, number):
        oid = struct.pack(">Q", number)
        return Reference(self.random.choice([
            oid, (oid, PersistentMapping), (oid, PersistentMapping), ["w", (oid,)], ["n", ("other", oid)],
            ["m", ("other", oid, PersistentMapping)], [oid], ["w", (oid, "other")],
        ]))

    def case(self):
        """Three records."""
        if self.module.startswith("BTrees.") and self.name != "Length":
            states = self.collections()
        else:
            states = self.numbers()
        return [record(self.cls, state) for state in states]

    def numbers(self):
        pick = self.random
        kind = pick.choice(["int", "int", "mixed", "large", "any"])

        def one():
            if kind == "int":
                return pick.randrange(-5, 100)
            if kind == "mixed":
                return pick.choice([1, 2.5, True, -3, 0.1, float("inf"), float("nan"), 2**53 + 1, float(2**53)])
            if kind == "large":
                return pick.randrange(-2**120, 2**120)
            return pick.choice([None, "a", "b", 1, (1, "a"), (1, "b"), [1], b"a", {}, self.reference(1), 2.0])

        return [one() for _ in range(3)]

    def collections(self):
        pick = self.random
        keys = pick.choice(["str", "str", "bytes", "tuple", "number", "none", "mixed"])
        values = pick.choice(["plain", "plain", "number", "reference", "unordered", "instance"])
        old = {}
        for _ in range(pick.choice([0, 1, 2, 4, 10, 30])):
            old[self.key(keys)] = self.value(values) if self.is_mapping else None
        one = self.reference(9)
        next_bucket = pick.choice([None, None, None, one])
        sides = []
        for _ in range(2):
            side = dict(old)
            for _ in range(pick.choice([0, 1, 1, 2, 3, 8])):
                self.change(side, keys, values)
            sides.append(side)
        if pick.random() < 0.1:  # the same new items on both sides, so that not only deletes agree
            for key in list(sides[0])[-2:]:
                sides[1][key] = sides[0][key]
        return [self.state(items, next_bucket) for items in (old, *sides)]

    def change(self, items, keys, values):
        pick = self.random
        what = pick.random()
        if what < 0.5 or not items:
            items[self.key(keys)] = self.value(values) if self.is_mapping else None
        elif what < 0.75 and self.is_mapping:
            items[pick.choice(list(items))] = self.value(values)
        else:
            del items[pick.choice(list(items))]

    def state(self, items, next_bucket):
        pick = self.random
        try:
            ordered = sorted(items, key=lambda key: (key is not None, key))
        except TypeError:  # the keys have no order; no collection could hold them, but a record can
            ordered = list(items)
        if pick.random() < 0.01:
            pick.shuffle(ordered)
        flat = []
        for key in ordered:
            flat += [key, items[key]] if self.is_mapping else [key]
        if pick.random() < 0.01:
            flat.append(pick.choice(["odd", 2**80, 1.5, b"zz", -1]))
        state = (tuple(flat),)
        chance = pick.random()
        if next_bucket is not None or chance < 0.02:
            state += (next_bucket or self.reference(8),)
        if not items and chance < 0.9:
            return None
        if not self.is_tree:
            return state if chance < 0.99 else pick.choice([None, (), 7, ([],), state + (1, 2)])
        if chance < 0.97:
            return ((state,),)
        return pick.choice([None, (), 7, (state,), ((state, one_of(ordered), state), Reference(b"firstbkt")), ((),)])


def one_of(keys):
    return keys[0] if keys else None
