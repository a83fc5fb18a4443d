"""The server's own conflict resolution against the Python classes, on generated conflicts."""
import collections
import os

import pytest
import three_way
from servers import ROOT

pytestmark = pytest.mark.quick

# Of each class; `ZEOLITH_RESOLVE_CASES=20000` is the full count.
CASES = int(os.environ.get("ZEOLITH_RESOLVE_CASES", "300"))
CHUNK = 5000


def command():
    """The example of crates/resolve that resolves what it reads."""
    given = os.environ.get("ZEOLITH_RESOLVE_CMD")
    if given:
        return given.split()
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    built = [os.path.join(target, kind, "examples", "three_way") for kind in ("release", "debug")]
    built = [path for path in built if os.path.exists(path)]
    if not built:
        pytest.skip("no resolver: cargo build -p zeolith-resolve --example three_way")
    return [max(built, key=os.path.getmtime)]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("module, name", three_way.CLASSES, ids=["%s.%s" % pair for pair in three_way.CLASSES])
def test_every_conflict_ends_as_in_python(module, name, record_property):
    generator = three_way.Generator(module, name, os.environ.get("ZEOLITH_RESOLVE_SEED", "1"))
    seen = collections.Counter()
    for start in range(0, CASES, CHUNK):
        cases = [generator.case() for _ in range(min(CHUNK, CASES - start))]
        results = three_way.resolve(command(), cases)
        assert len(results) == len(cases)
        for case, (kind, content) in zip(cases, results):
            expected_kind, expected = three_way.outcome(*case)
            described = "%r: %s %r, in Python %s %r" % (case, kind, content, expected_kind, expected)
            if kind == "N":
                # Instances of classes and the like: the server keeps the conflict, whatever Python would do.
                assert three_way.needs_python(case), described
                seen["left to Python"] += 1
                continue
            assert kind == expected_kind, described
            if kind == "R":
                assert three_way.shape(content) == three_way.shape(expected), described
                seen["resolved"] += 1
                seen["same bytes"] += content == expected
            elif kind == "B":
                assert content == expected, described
                seen["reason " + content.split()[-1]] += 1
            else:
                seen["other error"] += 1
    print(module, name, dict(seen))
    record_property("outcomes", dict(seen))
    # A generator whose cases all end alike would show nothing.
    assert seen["resolved"] >= CASES / 20
    assert seen["left to Python"] <= CASES / 4
