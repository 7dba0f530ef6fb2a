"""Migrates the file of an older labctl to today's tables, in one transaction, when it is first opened.

The older file has a table `log` without checksums, and each object in it has its revision written inside (`"resourceVersion":"17"`, after its
names). Since then an object's revision lies beside its value, so those few bytes are cut out. This is the only place where the store looks into
a value.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

Checksum = Callable[[int, bytes, bytes, int, int], int | None]
"""Computes a row's checksum from revision, key, value, created and deleted; returns None if the row is visibly damaged."""


def migrate(db: sqlite3.Connection, checksum: Checksum, seal: Callable[[sqlite3.Connection], None]) -> None:
    """Moves the rows of the table `log` to `changes`, with a checksum for each. `seal` writes the checksum of the table meta."""
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'log'").fetchone():
        return
    db.create_function("without_revision", 2, _without_revision, deterministic=True)
    db.create_function("checksum", 5, checksum, deterministic=True)
    with db:
        db.execute("SAVEPOINT migration")
        db.execute(
            "INSERT INTO changes (revision, key, value, created, deleted)"
            " SELECT revision, key, without_revision(value, revision), created, deleted FROM log ORDER BY revision, seq"
        )
        db.execute("UPDATE changes SET checksum = checksum(revision, CAST(key AS BLOB), CAST(value AS BLOB), created, deleted)")
        db.execute("DROP TABLE log")
        seal(db)
        db.execute("RELEASE migration")


def _without_revision(value: bytes, revision: int) -> bytes:
    """Cuts the revision out of an object's JSON. The first mention is the object's own: only its kind and its names come before it."""
    text = bytes(value)
    if not text.startswith(b"{"):
        return text
    mark = b'"resourceVersion":"%d"' % revision
    return text.replace(mark + b",", b"", 1) if mark + b"," in text else text.replace(b"," + mark, b"", 1)
