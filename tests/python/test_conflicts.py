"""Conflicts that the server resolves itself, as stock clients meet them."""
import pytest
import servers
import transaction
import ZODB
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB.POSException import ConflictError

pytestmark = pytest.mark.quick

BOTH = pytest.mark.parametrize("msgpack", [False, True], ids=["pickle", "msgpack"])


class Site:
    """Two applications on one server, each with its own client, database and transactions."""

    def __init__(self, server, connect, closing):
        self.server = server
        self.roots, self.managers, self.databases = [], [], []
        for _ in range(2):
            # With `server_sync` a transaction begins with all that was committed before.
            database = ZODB.DB(connect(server, server_sync=True))
            closing.callback(database.close)
            self.databases.append(database)
            manager = transaction.TransactionManager()
            self.managers.append(manager)
            self.roots.append(database.open(manager).root())

    def fill(self, **objects):
        self.roots[0].update(objects)
        self.managers[0].commit()
        for manager in self.managers:
            manager.begin()

    def sync(self):
        for manager in self.managers:
            manager.begin()
        return self.roots


@pytest.fixture
def site(serve, connect, closing, request):
    callspec = getattr(request.node, "callspec", None)
    msgpack = bool(callspec and callspec.params.get("msgpack"))
    return Site(serve(msgpack=msgpack), connect, closing)


@BOTH
def test_two_clients_insert_into_one_bucket_and_count_it(site, msgpack):
    site.fill(tree=OOBTree({"start": "here"}), length=Length(1))
    for number, root in enumerate(site.roots):
        root["tree"]["key %d" % number] = PersistentMapping(number=number)
        root["length"].change(1)
    for manager in site.managers:
        manager.commit()  # the second one conflicts with the first one, twice
    for root in site.sync():
        assert list(root["tree"]) == ["key 0", "key 1", "start"]
        assert [root["tree"]["key %d" % number]["number"] for number in range(2)] == [0, 1]
        assert root["length"]() == 3
    if not servers.is_reference():
        status = site.databases[0].storage.server_status()
        assert (status["conflicts"], status["conflicts_resolved"]) == (0, 2)


def test_the_resolved_state_can_be_changed_at_once_by_the_client_that_wrote_it(site):
    site.fill(length=Length(0))
    for turn in range(5):
        for root, manager in zip(site.roots, site.managers):
            root["length"].change(1)
        for manager in site.managers:
            manager.commit()
        assert [root["length"]() for root in site.sync()] == [2 * turn + 2] * 2


def test_both_change_one_key_and_the_second_one_hears_of_it(site):
    site.fill(tree=OOBTree({"key": "old"}))
    site.roots[0]["tree"]["key"] = "first"
    site.roots[1]["tree"]["key"] = "second"
    site.managers[0].commit()
    with pytest.raises(ConflictError) as raised:
        site.managers[1].commit()
    assert type(raised.value) is ConflictError  # and not the BTreesConflictError, which only the server meets
    assert raised.value.class_name == "BTrees.OOBTree.OOBTree"
    site.managers[1].abort()
    assert [root["tree"]["key"] for root in site.sync()] == ["first", "first"]


def test_a_class_that_cannot_be_merged_is_a_conflict(site):
    site.fill(mapping=PersistentMapping())
    for number, root in enumerate(site.roots):
        root["mapping"][number] = 1
    site.managers[0].commit()
    with pytest.raises(ConflictError):
        site.managers[1].commit()


def test_an_insert_is_undone_under_a_later_one(site):
    site.fill(tree=OOBTree({"start": "here"}), other=1)
    [root, _] = site.roots
    for key in ("undone", "later"):
        root["tree"][key] = key
        site.managers[0].get().note(key)
        site.managers[0].commit()
    [database, _] = site.databases
    [entry] = [entry for entry in database.undoInfo(0, 20) if entry["description"] in ("undone", b"undone")]
    database.undo(entry["id"], site.managers[0].get())
    site.managers[0].commit()
    for root in site.sync():
        assert list(root["tree"]) == ["later", "start"]
