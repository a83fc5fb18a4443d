"""What Python's own FileStorage says about a file: the yardstick of every test here."""
import contextlib
import importlib
import io

from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError
from ZODB.scripts import fsrefs, fstest
from ZODB.utils import load_current

filestorage_module = importlib.import_module("ZODB.FileStorage.FileStorage")


def opened(path, **options):
    """A FileStorage that is closed at the end of a `with` block."""
    return contextlib.closing(FileStorage(str(path), **options))


def assert_clean(path):
    """fstest and fsrefs find nothing wrong with the file."""
    fstest.check(path)  # raises FormatError
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        fsrefs.main(path)
    assert said.getvalue() == "", said.getvalue()


def opened_where(path):
    """Opens the file read-only; returns the position from which it had to be scanned, and the storage.

    The position is that of the index if it was accepted; 4, the length of the magic, if not.
    """
    starts = []
    scan = filestorage_module.read_index

    def watch(*args, **options):
        starts.append(options["start"] if "start" in options else 4)
        return scan(*args, **options)

    filestorage_module.read_index = watch
    try:
        storage = FileStorage(path, read_only=True)
    finally:
        filestorage_module.read_index = scan
    assert len(starts) == 1, "FileStorage scans once"
    return starts[0], storage


def oids(storage):
    """Every oid that the file has an index entry for."""
    return list(storage._index.keys())


def current(storage, oid):
    """(data, tid), or None where the object's creation was undone or it was deleted."""
    try:
        return load_current(storage, oid)
    except POSKeyError:
        return None


def transactions(storage, start=None, stop=None):
    """Everything that iteration tells, as plain values."""
    return [
        (t.tid, t.status, t.user, t.description, t.extension, [(r.oid, r.tid, r.data, r.data_txn) for r in t])
        for t in storage.iterator(start, stop)
    ]
