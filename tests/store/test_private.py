"""A store holds Secrets: nobody but its owner reads its files, whatever the umask is."""

import os
from pathlib import Path

import pytest

from labctl.store.interface import Put
from labctl.store.sqlite import sqlite_store


@pytest.fixture(autouse=True)
def careless_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path):
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}


async def test_nobody_else_reads_the_store(tmp_path):
    store = sqlite_store(tmp_path / "store.db")
    await store.commit([Put("/secrets/a", b"hush")], [])
    await store.snapshot(tmp_path / "copy.db")
    found = modes(tmp_path)
    await store.close()
    assert {"store.db", "store.db-wal", "copy.db"} <= set(found)
    assert set(found.values()) == {"0o600"}, found


async def test_a_store_that_was_open_to_all_is_closed(tmp_path):
    await sqlite_store(tmp_path / "store.db").close()
    (tmp_path / "store.db").chmod(0o644)
    await sqlite_store(tmp_path / "store.db").close()
    assert modes(tmp_path)["store.db"] == "0o600"
