"""Packing from the command line: our commands and Python's, against our server and Python's, and how one ends it."""
import os
import signal
import subprocess
import sys

import pack_figures
import pytest
import servers
from ZODB.scripts import fstest

pytestmark = [pytest.mark.quick, pytest.mark.beyond_reference("its commands are compared with ours here")]

MEGABYTES = 2
# So slow that a pack of the database takes a minute.
SLOW = "  pack-rate-max 100KB"


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "Data.fs")
    pack_figures.generate(path, MEGABYTES)
    return path


def start(*command):
    """Starts a command that Ctrl-C can end, also where this process has been started to ignore it."""
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def ended(process):
    """The exit status of a command and what it printed."""
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def run(*command):
    return ended(start(*command))


@pytest.fixture
def zeolith():
    program = servers.program("zeolith")
    assert program, "build it: cargo build --bin zeolith"
    return program


def named(server):
    return "%s:%d" % server.address


def is_packing(client):
    return client._call("server_status").get("pack")


def test_pythons_zeopack_packs_through_our_server(path, serve):
    before = os.path.getsize(path)
    server = serve()
    command = [sys.executable, "-c", "from ZEO.scripts.zeopack import main; main()"]
    assert run(*command, "-d", "0", named(server)) == (0, "", "")
    assert os.path.getsize(path) < 0.6 * before
    assert server.end() == 0
    fstest.check(path)


@pytest.mark.parametrize("ours", ["zeolith", "zeopack"])
def test_our_commands_pack_through_pythons_server(path, serve, zeolith, ours):
    before = os.path.getsize(path)
    server = serve(command=[os.path.join(os.path.dirname(sys.executable), "runzeo"), "-C", "{conf}"])
    command = [zeolith, "pack"] if ours == "zeolith" else [servers.program("zeopack")]
    status, out, err = run(*command, named(server))
    assert (status, err) == (0, ""), err
    assert out == ("packed: %.1f MB before, %.1f MB after\n" % (before / 1e6, os.path.getsize(path) / 1e6)
                   if ours == "zeolith" else "")
    assert os.path.getsize(path) < 0.6 * before
    assert server.end() == 0
    fstest.check(path)


@pytest.mark.parametrize("option, method", [("--cancel", "pack_cancel"), ("--dry-run", "pack_estimate")])
def test_what_pythons_server_does_not_know_is_said(path, serve, zeolith, option, method):
    server = serve(command=[os.path.join(os.path.dirname(sys.executable), "runzeo"), "-C", "{conf}"])
    status, out, err = run(zeolith, "pack", option, named(server))
    assert (status, out) == (1, "")
    assert err == "Error: %s: it closed the connection when %s was called: ZEO's own server does not know it\n" % (
        named(server), method)


def test_a_pack_of_a_server_is_started_and_cancelled(path, serve, connect, zeolith):
    server = serve(storage=servers.filestorage(path, extra=SLOW))
    watcher, size = connect(server, read_only=True), os.path.getsize(path)
    started = "the pack has been started; the log of the server says what becomes of it\n"
    assert run(zeolith, "pack", "--no-wait", named(server)) == (0, started, "")
    servers.wait_until("it is packing", lambda: is_packing(watcher))
    status, _, err = run(zeolith, "pack", named(server))
    assert status == 1 and err.endswith("Already packing\n"), err
    assert is_packing(watcher), "the first one goes on"
    assert run(zeolith, "pack", "--cancel", named(server)) == (0, "the pack is being cancelled\n", "")
    servers.wait_until("it has ended", lambda: not is_packing(watcher))
    servers.wait_until("the log says so", lambda: "cancelled: nothing has changed" in server.log())
    # Somebody who waits for it hears of it.
    waiting = start(zeolith, "pack", "--quiet", named(server))
    servers.wait_until("it is packing", lambda: is_packing(watcher))
    assert run(zeolith, "pack", "--cancel", named(server))[0] == 0
    status, out, err = ended(waiting)
    assert (status, out) == (1, "") and "cancelled" in err, err
    assert os.path.getsize(path) == size and not os.path.exists(path + ".pack")


def test_ctrl_c_ends_the_command_and_not_the_pack_of_the_server(path, serve, connect, zeolith):
    server = serve(storage=servers.filestorage(path, extra=SLOW))
    watcher = connect(server, read_only=True)
    waiting = start(zeolith, "pack", named(server))
    servers.wait_until("it is packing", lambda: is_packing(watcher))
    waiting.send_signal(signal.SIGINT)
    assert ended(waiting)[0] == -signal.SIGINT
    assert is_packing(watcher)
    assert run(zeolith, "pack", "--cancel", named(server))[0] == 0
    servers.wait_until("it has ended", lambda: not is_packing(watcher))


def test_ctrl_c_ends_a_pack_without_a_server_and_nothing_has_changed(tmp_path, path, serve, connect, zeolith):
    server = serve(storage=servers.filestorage(path, extra=SLOW))
    assert server.end() == 0
    with open(path, "rb") as f:
        before = f.read()
    packing = start(zeolith, "pack", "-C", os.path.join(server.directory, "server.conf"))
    lock = path + ".lock"
    servers.wait_until("it has the lock", lambda: str(packing.pid) in servers.read_text(lock).split())
    packing.send_signal(signal.SIGINT)
    assert ended(packing)[0] == -signal.SIGINT
    with open(path, "rb") as f:
        assert f.read() == before
    server.start()
    assert not os.path.exists(path + ".pack")
    client = connect(server)
    assert client.getSize() == len(before)
    client.close()
    assert server.end() == 0
