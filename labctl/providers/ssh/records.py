"""What must be remembered of machines that exist already: how to reach each machine of this lab, its pinned host key, and its last seen
state.

Each machine has one file below STATE/ID/machines, written atomically. The machine is always asked first; its record is used if it does not
answer,
because silence does not mean that its boot has ended. With the records, `destroy` also finds machines that lab.yml does not name any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from labctl.decoding import from_json
from labctl.providers.protocol import Machine
from labctl.providers.settings import SshMachine


class Record(msgspec.Struct, frozen=True):
    """One machine's record. `seen` is None until the machine was up for this lab once; until then only its host key is pinned."""

    machine: SshMachine
    host_key: str
    seen: Machine | None = None


class Records:
    """The records of one lab."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def get(self, name: str) -> Record | None:
        try:
            return from_json(self.path(name).read_bytes(), Record)
        except (FileNotFoundError, msgspec.DecodeError):  # a damaged record counts as missing
            return None

    def put(self, record: Record) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        new = self._folder / f".{record.machine.name}.{os.getpid()}"
        new.write_bytes(msgspec.json.encode(record))
        new.replace(self.path(record.machine.name))

    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)
        self._known_hosts(name).unlink(missing_ok=True)

    def known_hosts(self, name: str, host_key: str) -> Path:
        """Return ssh's file of known hosts with this machine's key alone, for a connection that lasts: it lies here, because who holds it may be killed."""
        path, line = self._known_hosts(name), f"{name} {host_key}\n"
        try:
            there = path.read_text() == line
        except (OSError, ValueError):
            there = False
        if not there:
            new = self._folder / f".{name}.{os.getpid()}.known_hosts"
            new.write_text(line)
            new.replace(path)
        return path

    def _known_hosts(self, name: str) -> Path:
        return self._folder / f"{name}.known_hosts"

    def all(self) -> Iterator[Record]:
        for path in sorted(self._folder.glob("*.json")):
            if record := self.get(path.stem):
                yield record

    def host_key(self, machine: SshMachine) -> str:
        """Return the host key from lab.yml, or else the pinned one, or an empty text.

        A pinned key is valid only for the address at which it was seen.
        """
        record = self.get(machine.name)
        pinned = record.host_key if record and (record.machine.address, record.machine.port) == (machine.address, machine.port) else ""
        return machine.host_key or pinned
