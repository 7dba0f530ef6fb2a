"""The names of the cluster, as the master sent them, ready to be looked up. Nothing here does I/O.

Rows come by key (a Service, a namespace), as the master's dns/records.py writes them. Names in rows are relative to the cluster's domain:

    ["A", "web.default.svc", "10.247.3.4"]                             also AAAA
    ["SRV", "_http._tcp.web.default.svc", 80, "web.default.svc"]       port, host
    ["CNAME", "db.default.svc", "db.example.com"]                      an absolute name
    ["PTR", "10.247.3.4", "web.default.svc"]
    ["", "default.svc"]                                                the name exists, though it has no records
"""

from __future__ import annotations

import ipaddress
import random
import re
import socket
import struct
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from . import wire
from .wire import Record

TTL_S = 5  # as CoreDNS has it: what is gone is believed in for so long
VERSION = b"1.1.0"  # of Kubernetes' specification of these names
CNAMES_MAX = 8
NOTHING = 0  # the type of a row that only says that a name exists; DNS has no such type
_POD = re.compile(rb"(\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3})\.([-a-z0-9]{1,63})\.pod")


class Settings(NamedTuple):
    domain: str = "cluster.local"
    server: str = "10.247.0.10"  # the address that pods know this server by
    ranges: Tuple[str, ...] = ()  # reverse names of these networks are ours, whether somebody has the address or not


class Found(NamedTuple):
    """What a lookup found. `outside` is the name outside the cluster to which the last CNAME leads."""

    code: int
    answers: List[Record]
    additional: List[Record]
    outside: bytes = b""


Sets = Dict[int, List[bytes]]
"""A name's records: the data of each type."""


class Zone:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.serial = 1
        self.domain = settings.domain.lower().encode()
        self._suffix = b"." + self.domain
        self._networks = [ipaddress.ip_network(each) for each in settings.ranges]
        self._rows: Dict[str, List[List[Any]]] = {}
        self._names: Dict[bytes, Sets] = {}
        self._below: Dict[bytes, int] = {}  # how many names end in this one: it exists then, even without records
        self._fixed()

    def __len__(self) -> int:
        return len(self._names)

    @property
    def rows(self) -> Dict[str, List[List[Any]]]:
        return self._rows

    def set(self, key: str, rows: List[List[Any]]) -> None:
        """Replace a key's rows. Raises ValueError for malformed rows; then the key has no records."""
        self.remove(key)
        try:
            parsed = [self._parse(row) for row in rows]
        except (struct.error, LookupError, TypeError, AttributeError, OSError) as error:
            raise ValueError(f"no records of ours: {type(error).__name__}: {error}") from None
        self._rows[key] = rows
        for name, type_, data in parsed:
            self._add(name, type_, data)

    def remove(self, key: str) -> None:
        self.serial = self.serial + 1 & 0xFFFFFFFF
        for row in self._rows.pop(key, ()):
            name, type_, data = self._parse(row)
            self._drop(name, type_, data)

    def keep(self, keys: Iterable[str]) -> None:
        """Remove every other key."""
        for key in set(self._rows) - set(keys):
            self.remove(key)

    # -- looking up

    def owns(self, name: bytes) -> bool:
        """Tell whether only we can answer for this name."""
        return name == self.domain or name.endswith(self._suffix) or name in self._names or self._reversed_here(name)

    def find(self, name: bytes, type_: int) -> Found:
        """Look up a name that we own."""
        answers: List[Record] = []
        for _ in range(CNAMES_MAX):
            sets = self._sets(name)
            if sets is None:
                return Found(wire.NO_SUCH_NAME, answers, [])
            if wire.CNAME not in sets or type_ in (wire.CNAME, wire.ANY):
                found = self._of_type(name, sets, type_)
                return Found(wire.NO_ERROR, answers + found, self._hosts(found))
            data = sets[wire.CNAME][0]
            answers.append(Record(name, wire.CNAME, TTL_S, data))
            name = _text(data)
            if not self.owns(name):
                return Found(wire.NO_ERROR, answers, [], name)
        return Found(wire.SERVER_FAILURE, [], [])

    def authority(self) -> Record:
        """Return the SOA record of a negative answer. Its last number says for how many seconds a client may cache that answer."""
        data = wire.name(b"ns.dns" + self._suffix) + wire.name(b"hostmaster" + self._suffix)
        return Record(self.domain, wire.SOA, TTL_S, data + struct.pack(">IIIII", self.serial, 7200, 1800, 86400, TTL_S))

    def _sets(self, name: bytes) -> Optional[Sets]:
        """Return a name's records, which are empty for a name that exists without records, or None if there is no such name."""
        if name == self.domain:
            return {wire.SOA: [self.authority().data], wire.NS: [wire.name(b"ns.dns" + self._suffix)]}
        sets = self._names.get(name)
        if sets is None and name in self._below:
            return {}
        return self._pod(name) if sets is None else sets

    def _pod(self, name: bytes) -> Optional[Sets]:
        """Answer `10-246-1-5.default.pod`, whose address is in the name (Kubernetes' DNS specification). Only addresses of the pods' range are answered."""
        found = _POD.fullmatch(name[: -len(self._suffix)]) if name.endswith(self._suffix) else None
        if found is None or found[2] + b".pod" + self._suffix not in self._names:
            return None
        try:
            address = ipaddress.IPv4Address(found[1].replace(b"-", b".").decode())
        except ValueError:
            return None
        return {wire.A: [address.packed]} if any(address in network for network in self._networks) else None

    @staticmethod
    def _of_type(name: bytes, sets: Sets, type_: int) -> List[Record]:
        types = [each for each in (sets if type_ == wire.ANY else (type_,)) if each != NOTHING]
        found = [Record(name, each, TTL_S, data) for each in types for data in sets.get(each, ())]
        if len(found) > 1:
            random.shuffle(found)  # clients that take the first one share the load
        return found

    def _hosts(self, found: List[Record]) -> List[Record]:
        """Return the addresses of the hosts that SRV records name."""
        hosts = dict.fromkeys(_text(record.data[6:]) for record in found if record.type == wire.SRV)
        return [
            Record(host, type_, TTL_S, data)
            for host in hosts
            for type_ in (wire.A, wire.AAAA)
            for data in self._names.get(host, {}).get(type_, ())
        ]

    def _reversed_here(self, name: bytes) -> bool:
        if not name.endswith(b".in-addr.arpa"):
            return False
        try:
            address = ipaddress.IPv4Address(b".".join(reversed(name[: -len(b".in-addr.arpa")].split(b"."))).decode())
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    # -- keeping

    def _fixed(self) -> None:
        self._add(b"dns-version" + self._suffix, wire.TXT, bytes([len(VERSION)]) + VERSION)
        self._add(b"ns.dns" + self._suffix, wire.A, socket.inet_aton(self.settings.server))

    def _add(self, name: bytes, type_: int, data: bytes) -> None:
        if name not in self._names:
            self._names[name] = {}
            for parent in _parents(name):
                self._below[parent] = self._below.get(parent, 0) + 1
        self._names[name].setdefault(type_, []).append(data)

    def _drop(self, name: bytes, type_: int, data: bytes) -> None:
        sets = self._names[name]
        sets[type_].remove(data)
        if sets[type_]:
            return
        del sets[type_]
        if sets:
            return
        del self._names[name]
        for parent in _parents(name):
            self._below[parent] -= 1
            if not self._below[parent]:
                del self._below[parent]

    def _parse(self, row: List[Any]) -> Tuple[bytes, int, bytes]:
        kind = row[0]
        name = _ip_reversed(row[1]) if kind == "PTR" else self._absolute(row[1])
        wire.name(name)
        if kind == "":
            return name, NOTHING, b""
        if kind == "A":
            return name, wire.A, socket.inet_pton(socket.AF_INET, row[2])
        if kind == "AAAA":
            return name, wire.AAAA, socket.inet_pton(socket.AF_INET6, row[2])
        if kind == "SRV":
            return name, wire.SRV, struct.pack(">HHH", 0, 100, row[2]) + wire.name(self._absolute(row[3]))
        if kind == "CNAME":
            return name, wire.CNAME, wire.name(row[2].lower().rstrip(".").encode("ascii"))
        if kind == "PTR":
            return name, wire.PTR, wire.name(self._absolute(row[2]))
        raise ValueError(f"no record of ours: {row!r:.100}")

    def _absolute(self, relative: str) -> bytes:
        return relative.lower().encode("ascii") + self._suffix


def _parents(name: bytes) -> Iterable[bytes]:
    """Yield the names above a name: `b.c` and `c` of `a.b.c`."""
    while b"." in name:
        name = name.partition(b".")[2]
        yield name


def _ip_reversed(address: str) -> bytes:
    return ipaddress.ip_address(address).reverse_pointer.encode()


def _text(data: bytes) -> bytes:
    """Return one of our encoded names as text. It is never compressed."""
    labels, at = [], 0
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return b".".join(labels)
