"""The room behind the last transaction of a file that is being committed to: who sees it, and when it goes."""
import os
import subprocess
import sys
import time

import pytest
from files import opened
from servers import wait_until
from ZODB.Connection import TransactionMetaData
from ZODB.scripts import fstest
from ZODB.utils import load_current, p64, z64

pytestmark = [pytest.mark.quick, pytest.mark.beyond_reference("its file is always as long as what is in it")]


def commit(client, number):
    meta = TransactionMetaData()
    client.tpc_begin(meta)
    client.store(p64(number), z64, b"record %d" % number, "", meta)
    client.tpc_vote(meta)
    return client.tpc_finish(meta)


def repozo(tmp_path, *arguments):
    """Runs it beside the server."""
    repository = tmp_path / "backups"
    repository.mkdir(exist_ok=True)
    command = [os.path.join(os.path.dirname(sys.executable), "repozo"), "-r", str(repository), *arguments]
    subprocess.run(command, check=True, timeout=60)


def test_python_reads_a_file_that_is_being_committed_to_and_commits_that_pause_leave_it_exact(
        tmp_path, serve, connect):
    server = serve()
    client = connect(server)
    path = str(tmp_path / "Data.fs")
    tids = []

    def has_room():
        tids.append(commit(client, len(tids)))
        return os.path.getsize(path) > client.getSize() + 1000

    wait_until("there is room", has_room)
    with opened(path, read_only=True) as storage:
        assert [found.tid for found in storage.iterator()] == tids
        assert storage.lastTransaction() == tids[-1]
        assert load_current(storage, p64(0)) == (b"record 0", tids[0])
    repozo(tmp_path, "-B", "-f", path)
    now = int(time.time())
    wait_until("the next backup gets another name", lambda: int(time.time()) > now)
    wait_until("there is room for more", has_room)
    repozo(tmp_path, "-B", "-Q", "-f", path)
    backed_up = list(tids)
    recovered = str(tmp_path / "recovered.fs")
    repozo(tmp_path, "-R", "-o", recovered)
    with opened(recovered, read_only=True) as storage:
        assert [found.tid for found in storage.iterator()] == backed_up
    wait_until("the file is exact", lambda: os.path.getsize(path) == client.getSize())
    fstest.check(path)  # raises FormatError
    tids.append(commit(client, len(tids)))
    assert client.lastTransaction() == tids[-1]
