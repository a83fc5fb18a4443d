"""Fixtures of all tests: servers that end with their test, clients that close with it."""
import contextlib

import pytest
import servers
from ZEO.ClientStorage import ClientStorage


def pytest_collection_modifyitems(items):
    if servers.server_command() is None:
        pytest.exit("no server: build one (cargo build --release --bin runzeo), or set ZEOLITH_SERVER_CMD", 2)
    # Nothing is skipped with our server. Python's own can run the same tests, to show that they expect what it does, and
    # leaves out what it does not have: each mark says what.
    if not servers.is_reference():
        return
    for item in items:
        marker = item.get_closest_marker("beyond_reference")
        if marker:
            item.add_marker(pytest.mark.skip(reason="not in Python's server: " + marker.args[0]))


@pytest.fixture
def closing():
    """Closes what a test opens, last first, before its server is killed."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(tmp_path, closing):
    """`serve(**settings)` starts a server in the test's directory; it is killed at the end of the test."""

    def start(directory=None, **settings):
        server = servers.Server(directory or tmp_path, **settings)
        closing.callback(server.kill)
        return server.start()

    return start


@pytest.fixture
def connect(closing):
    """`connect(server, **options)` opens a stock ClientStorage; it is closed at the end of the test."""

    def open_client(server, **options):
        options.setdefault("wait_timeout", 20)
        client = ClientStorage(server.address, **options)
        closing.callback(client.close)
        return client

    return open_client
