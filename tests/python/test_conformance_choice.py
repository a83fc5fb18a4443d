"""Which tests `conformance/run_conformance.py` chooses: with `--full` all that its suites have."""
import functools
import json
import os
import subprocess
import sys

import servers

HARNESS = os.path.join(servers.ROOT, "conformance")


@functools.cache
def chosen(*options):
    """The ids that the harness would run."""
    command = [sys.executable, os.path.join(HARNESS, "run_conformance.py"), "--python", sys.executable, "--list"]
    return set(subprocess.run(command + list(options), check=True, stdout=subprocess.PIPE).stdout.decode().split())


def offered():
    """The ids of all suites."""
    command = [sys.executable, os.path.join(HARNESS, "confworker.py"), "--list", ""]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return {test["id"] for test in json.loads(listed)["tests"]}


def suites_not_built():
    with open(os.path.join(HARNESS, "expected-failures.txt")) as f:
        return tuple(line.split("*")[0] for line in f if "*" in line and not line.startswith("#"))


def test_all_of_every_suite_is_run_if_asked_for():
    everything = chosen("--full")
    assert everything == {test for test in offered() if not test.startswith(suites_not_built())}
    assert chosen() < everything


def test_a_suite_can_be_included_whole():
    more = chosen("--include", "mappingstorage") - chosen()
    assert more and more == {test for test in chosen("--full") if ":mappingstorage:" in test} - chosen()


def test_a_part_of_a_name_is_looked_for_in_everything():
    found = chosen("-k", "pickle:demostorage:")
    assert found and found == {test for test in chosen("--full") if test.startswith("pickle:demostorage:")}
