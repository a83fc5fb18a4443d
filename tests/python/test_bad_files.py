"""Files and places that are not as they should be: refused or mended in clear words, and nothing is lost."""
import os
import re
import shutil
import struct

import files
import generate
import pytest
import servers
import ZODB
from peers import Peer
from servers import NotStarted, filestorage
from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.format import DATA_HDR_LEN, TRANS_HDR_LEN

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The path of a small sound database."""
    path = str(tmp_path_factory.mktemp("sound") / "Data.fs")
    generate.generate(path, 600)
    return path


@pytest.fixture
def refused(tmp_path):
    """`refused(**settings)` starts a server that must not come up; returns what it said."""

    def start(**settings):
        server = servers.Server(tmp_path, **settings)
        try:
            with pytest.raises(NotStarted) as caught:
                server.start()
        finally:
            server.kill()
        assert caught.value.status > 0, "an exit status, not a signal: %s" % caught.value
        assert "panicked" not in caught.value.said
        return caught.value.said

    return start


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def transaction_starts(path):
    """The file offset of every transaction."""
    with files.opened(path, read_only=True) as storage:
        return [t._tpos for t in storage.iterator()]


def torn(sound):
    """The last transaction of a file, cut in the middle."""
    last = transaction_starts(sound)[-1]
    whole = read(sound)[last:]
    return whole[: len(whole) // 2]


def voted(sound):
    """A whole transaction that was voted on and never finished: its status is c."""
    last = transaction_starts(sound)[-1]
    whole = bytearray(read(sound)[last:])
    whole[16:17] = b"c"
    return bytes(whole)


JUNK = {
    "letters": lambda sound: b"x" * 500,
    "a torn transaction": torn,
    "a voted transaction": voted,
    "the start of another file": lambda sound: read(sound)[:300],
}


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("index", ["with the index", "without"])
def test_junk_after_the_last_transaction_is_saved_and_cut_off(sound, tmp_path, serve, connect, junk, index):
    path = str(tmp_path / "Data.fs")
    tail = JUNK[junk](sound)
    write(path, read(sound) + tail)
    if index == "with the index":
        shutil.copyfile(sound + ".index", path + ".index")

    server = serve()
    with files.opened(sound, read_only=True) as expected:
        assert files.transactions(connect(server)) == files.transactions(expected)
    if not servers.is_reference():
        assert path + ".tr0" in server.said() or "Data.fs.tr0" in server.said(), "the log says where the tail is"
    server.end()

    assert read(path) == read(sound)
    assert read(path + ".tr0") == tail
    # a second accident gets a file of its own
    write(path, read(sound) + tail[:200])
    serve().end()
    assert (read(path + ".tr0"), read(path + ".tr1")) == (tail, tail[:200])
    assert read(path) == read(sound)


def test_a_few_stray_bytes_are_cut_off(sound, tmp_path, serve):
    path = str(tmp_path / "Data.fs")
    write(path, read(sound) + b"x" * 9)
    serve().end()
    assert read(path) == read(sound)


def damage_length(data, start):
    """The transaction says that it is longer than it is."""
    length = struct.unpack(">Q", data[start + 8:start + 16])[0]
    data[start + 8:start + 16] = struct.pack(">Q", length + 24)


def damage_trailer(data, start):
    """The length at the transaction's end is not the one at its start."""
    length = struct.unpack(">Q", data[start + 8:start + 16])[0]
    data[start + length:start + length + 8] = struct.pack(">Q", length + 1)


def damage_record_owner(data, start):
    """A data record names another transaction than the one that it is in."""
    record = first_record(data, start)
    data[record + 24:record + 32] = struct.pack(">Q", start + 1)


def damage_record_length(data, start):
    """A data record ends beyond its transaction."""
    record = first_record(data, start)
    data[record + 34:record + 42] = struct.pack(">Q", 1 << 40)


def first_record(data, start):
    user, description, extension = struct.unpack(">HHH", data[start + 17:start + 23])
    assert DATA_HDR_LEN == 42 and TRANS_HDR_LEN == 23
    return start + TRANS_HDR_LEN + user + description + extension


@pytest.mark.parametrize("damage", [damage_length, damage_trailer, damage_record_owner, damage_record_length])
def test_a_damaged_record_in_the_middle_is_refused_with_its_offset(sound, tmp_path, refused, damage):
    path = str(tmp_path / "Data.fs")
    starts = transaction_starts(sound)
    start = starts[len(starts) // 2]
    data = bytearray(read(sound))
    damage(data, start)
    write(path, bytes(data))

    said = refused()

    assert read(path) == bytes(data), "the file is as it was"
    assert not os.path.exists(path + ".tr0"), "nothing was cut off"
    if not servers.is_reference():
        assert "Data.fs" in said
        end = starts[len(starts) // 2 + 1]
        assert any(start <= int(number) <= end for number in re.findall(r"\d+", said)), said


def test_a_database_of_python_2_is_refused_by_its_name(sound, tmp_path, refused):
    path = str(tmp_path / "Data.fs")
    data = b"FS21" + read(sound)[4:]
    write(path, data)

    said = refused()

    assert read(path) == data
    assert "Data.fs" in said
    assert servers.is_reference() or "FS21" in said


@pytest.mark.parametrize("content", [b"x" * 1000, b"\x7fELF" + bytes(100), b"FS"])
def test_what_is_no_database_is_refused_and_left_alone(tmp_path, refused, content):
    path = str(tmp_path / "Data.fs")
    write(path, content)
    assert "Data.fs" in refused()
    assert read(path) == content


def test_an_empty_file_becomes_a_database(tmp_path, serve, connect):
    path = str(tmp_path / "Data.fs")
    write(path, b"")
    connect(serve())
    assert read(path)[:4] == b"FS30"


@pytest.mark.parametrize(
    "index", [b"", b"this is no index\n" * 40, b"\x80\x03cos\nsystem\nX\x05\0\0\0falseR.", None], ids=repr
)
def test_an_index_that_makes_no_sense_is_ignored(sound, tmp_path, serve, connect, index):
    path = str(tmp_path / "Data.fs")
    write(path, read(sound))
    if index is None:
        # of another file, and longer than this one
        other = str(tmp_path / "Other.fs")
        generate.generate(other, 1500)
        index = read(other + ".index")
    write(path + ".index", index)

    client = connect(serve())

    with files.opened(sound, read_only=True) as expected:
        for oid in files.oids(expected):
            assert files.current(client, oid) == files.current(expected, oid)


def test_a_file_that_python_has_open_is_refused_until_it_is_free(sound, tmp_path, serve, connect, refused):
    path = str(tmp_path / "Data.fs")
    shutil.copyfile(sound, path)
    holder = FileStorage(path)
    try:
        assert "lock" in refused().lower()
    finally:
        holder.close()
    assert read(path) == read(sound)
    connect(serve())


def test_a_file_that_the_server_has_open_is_refused_to_python(tmp_path, serve):
    from zc.lockfile import LockError

    server = serve()
    with pytest.raises(LockError):
        FileStorage(str(tmp_path / "Data.fs"))
    server.kill()
    FileStorage(str(tmp_path / "Data.fs")).close()


def test_an_address_in_use_is_refused_before_the_file_is_touched(tmp_path, serve, connect):
    first = serve(directory=tmp_path / "first")
    client = connect(first)
    second = servers.Server(tmp_path / "second", address=first.address)

    second.spawn()  # somebody listens at the address all the time, so wait for the end instead
    try:
        status = second.process.wait(servers.START_SECONDS)
    finally:
        second.kill()

    assert status == 2
    assert "in use" in second.said()
    assert not os.path.exists(tmp_path / "second" / "Data.fs")
    ZODB.DB(client).close()


def test_a_stale_unix_socket_is_replaced_and_one_in_use_is_not(tmp_path, serve):
    address = str(tmp_path / "zeo.sock")
    first = serve(directory=tmp_path / "first", address=address)
    second = servers.Server(tmp_path / "second", address=address)
    second.spawn()
    try:
        assert second.process.wait(servers.START_SECONDS) == 2
    finally:
        second.kill()
    Peer(first).register().close()

    first.kill()
    assert os.path.exists(address), "a killed server leaves its socket behind"
    Peer(serve(directory=tmp_path / "first", address=address)).register().close()


def test_a_missing_directory_is_named(tmp_path, refused):
    said = refused(storage=filestorage(str(tmp_path / "no-such-place" / "Data.fs")))
    assert "no-such-place" in said
    assert not os.path.exists(tmp_path / "no-such-place")


def test_a_directory_below_a_file_is_named(tmp_path, refused):
    write(str(tmp_path / "plain"), b"a file")
    assert "plain" in refused(storage=filestorage(str(tmp_path / "plain" / "Data.fs")))


def test_an_unwritable_directory_is_named(tmp_path, refused):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    try:
        said = refused(storage=filestorage(str(closed / "Data.fs")), obey_permissions=True)
    finally:
        closed.chmod(0o755)
    assert "closed" in said and "ermission denied" in said
    assert list(closed.iterdir()) == []


def test_an_unreadable_file_is_named(sound, tmp_path, refused):
    path = str(tmp_path / "Data.fs")
    shutil.copyfile(sound, path)
    os.chmod(path, 0)
    said = refused(obey_permissions=True)
    assert "Data.fs" in said and "ermission denied" in said
    os.chmod(path, 0o644)
    assert read(path) == read(sound)


def test_a_directory_instead_of_a_file_is_named(tmp_path, refused):
    (tmp_path / "Data.fs").mkdir()
    assert "Data.fs" in refused()


def test_a_read_only_storage_serves_a_file_that_it_may_not_write(sound, tmp_path, serve, connect):
    path = str(tmp_path / "Data.fs")
    shutil.copyfile(sound, path)
    os.chmod(path, 0o444)
    server = serve(storage=filestorage(path, extra="  read-only true"), obey_permissions=True)

    client = connect(server, read_only=True)
    with files.opened(sound, read_only=True) as expected:
        assert files.current(client, b"\0" * 8) == files.current(expected, b"\0" * 8)
        assert client.lastTransaction() == expected.lastTransaction()
    server.end()
    assert read(path) == read(sound)
