"""The agent as one file: labctl/agent packed into a zip that python3 runs. The same sources make the same bytes, wherever and whenever.

Who calls it: `machines`, once per start (50 ms, in a thread). It is named by its hash, and a machine is asked for the hash of what it has.

Beside each module lies its compiled form: a zip's modules are compiled at every start otherwise (70 ms of an agent's 100). Python skips a compiled
form of another version and takes the source. `__main__` puts the real path first in sys.path: when a new agent is pushed, a helper or an exec
that runs keeps importing from the file it was started with.
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

MAIN = b"""import os
import sys

sys.path[0] = os.path.realpath(sys.path[0])

from agent.__main__ import main

raise SystemExit(main())
"""
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment a zip can name
UNCHECKED_HASH = (1).to_bytes(4, "little")  # PEP 552: by hash, and nobody checks


class Agent(NamedTuple):
    data: bytes

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def file(self) -> str:
        return f"agent-{self.hash[:16]}.pyz"


def build(source: Path | None = None) -> Agent:
    """`source`: the agent's package folder, if not labctl's own."""
    modules = {f"agent/{name}": data for name, data in _modules(source or assets.agent_source())}
    modules["__main__.py"] = MAIN
    return Agent(_zip(modules))


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
