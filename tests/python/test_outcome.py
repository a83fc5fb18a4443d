"""What became of a transaction: asked by a stock client that has put a token into its extension."""
import os

import pytest
import transaction
import ZODB
from files import opened
from persistent.mapping import PersistentMapping

pytestmark = [
    pytest.mark.quick,
    pytest.mark.beyond_reference("it has no transaction_outcome"),
]

TOKEN = "zeolith-token"


@pytest.mark.parametrize("msgpack", [False, True], ids=["pickle", "msgpack"])
def test_a_commit_is_found_by_its_token_on_another_connection_and_after_a_restart(
        tmp_path, serve, connect, closing, msgpack):
    server = serve(msgpack=msgpack)
    db = ZODB.DB(connect(server))
    closing.callback(db.close)
    token, other = os.urandom(16), os.urandom(16)
    since = db.lastTransaction()
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    connection.root()["here"] = PersistentMapping()
    manager.get().setExtendedInfo(TOKEN, token)
    manager.commit()
    tid = connection.root()["here"]._p_serial

    another = connect(server)
    assert list(another._call("transaction_outcome", token, since)) == ["committed", tid]
    assert list(another._call("transaction_outcome", other, since)) == ["aborted", None]
    # It is not among those that came after it.
    assert list(another._call("transaction_outcome", token, tid)) == ["aborted", None]

    server.kill()
    another = connect(serve(msgpack=not msgpack))
    assert list(another._call("transaction_outcome", token, since)) == ["committed", tid]
    assert list(another._call("transaction_outcome", other, since)) == ["aborted", None]

    with opened(tmp_path / "Data.fs", read_only=True) as storage:
        *_, last = storage.iterator()
        assert (last.tid, last.extension[TOKEN]) == (tid, token)
