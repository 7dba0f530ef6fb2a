"""Packs labctl/agent into a zip that python3 runs: the agent as one file. The same sources give the same bytes, wherever and whenever.

`machines` calls it once per start, in a thread. The file is named by its hash, and a machine is asked for the hash of the one it has.

Beside each module is its compiled form, because Python would otherwise compile a zip's modules at every start (0.1 s of an agent's 0.2).
Python skips a
compiled form of another version and takes the source. Compiling takes 0.15 s here, so the packed file is cached under a hash of the
sources.
`__main__` puts the real path first in sys.path: when a new agent is sent, a helper or an exec that runs still imports from the file it was
started with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from labctl import assets
from labctl.certificates import write_file

MAIN = b"""import os
import sys

sys.path[0] = os.path.realpath(sys.path[0])

from agent.__main__ import main

raise SystemExit(main())
"""
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can store
KEPT = 4  # how many packed agents of other sources stay in the cache
UNCHECKED_HASH = (1).to_bytes(4, "little")  # PEP 552: compiled code that Python does not compare with its source


class Agent(NamedTuple):
    """The packed agent."""

    data: bytes

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def file(self) -> str:
        return f"agent-{self.hash[:16]}.pyz"


def build(cache: Path | None = None, source: Path | None = None) -> Agent:
    """Pack the agent. `cache` is a folder that keeps packed agents. `source` is the agent's package folder, if it is not labctl's own."""
    modules = {f"agent/{name}": data for name, data in _modules(source or assets.agent_source())}
    modules["__main__.py"] = MAIN
    kept = cache / f"{_digest(modules)}.pyz" if cache else None
    if kept and (data := _read(kept)):
        return Agent(data)
    agent = Agent(_zip(modules))
    if kept:
        write_file(kept, agent.data)
        for old in sorted(kept.parent.glob("*.pyz"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    return agent


def _digest(modules: dict[str, bytes]) -> str:
    """Return the hash of everything that the packed bytes depend on."""
    digest = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for name in sorted(modules):
        digest.update(b"%s %d\n%s" % (name.encode(), len(modules[name]), modules[name]))
    return digest.hexdigest()[:32]


def _read(path: Path) -> bytes:
    """Return the cached file's bytes, or nothing if it is incomplete, for example after a full disk; then it is packed again."""
    try:
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return data if "__main__.py" in archive.namelist() else b""
    except (OSError, zipfile.BadZipFile):
        return b""


def _modules(source: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(source.rglob("*.py")):
        yield path.relative_to(source).as_posix(), path.read_bytes()


def _zip(modules: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(modules):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), modules[name], zipfile.ZIP_DEFLATED)
            archive.writestr(zipfile.ZipInfo(f"{name}c", EPOCH), _compiled(name, modules[name]), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _compiled(name: str, source: bytes) -> bytes:
    code = compile(source, name, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + UNCHECKED_HASH + importlib.util.source_hash(source) + marshal.dumps(code)
