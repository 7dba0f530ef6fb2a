"""What must be remembered of machines that exist already: how to reach each one that this lab has, its pinned host key, and how it was last seen.

One file a machine below STATE/ID/machines, written whole. Reality is asked first, always; a record answers for a machine that does not: silence is not
the end of a boot. And `destroy` finds by it what lab.yml does not name any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from labctl.providers.protocol import Machine
from labctl.providers.settings import SshMachine


class Record(msgspec.Struct, frozen=True):
    """`seen` is None until the machine was up for this lab once: then only its key is pinned."""

    machine: SshMachine
    host_key: str
    seen: Machine | None = None


class Records:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def get(self, name: str) -> Record | None:
        try:
            return msgspec.json.decode(self.path(name).read_bytes(), type=Record)
        except (FileNotFoundError, msgspec.DecodeError):  # a damaged one counts as none
            return None

    def put(self, record: Record) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        new = self._folder / f".{record.machine.name}.{os.getpid()}"
        new.write_bytes(msgspec.json.encode(record))
        new.replace(self.path(record.machine.name))

    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def all(self) -> Iterator[Record]:
        for path in sorted(self._folder.glob("*.json")):
            if record := self.get(path.stem):
                yield record

    def host_key(self, machine: SshMachine) -> str:
        """Given in lab.yml, else pinned; empty: none yet. A pin is good for the address it was seen at."""
        record = self.get(machine.name)
        pinned = record.host_key if record and (record.machine.address, record.machine.port) == (machine.address, machine.port) else ""
        return machine.host_key or pinned
