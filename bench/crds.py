"""200 custom kinds, of the size that crossplane's and cert-manager's have: how quickly one more is there, and until when everybody sees its schema.

A client that knows nothing reads whole documents, over TLS on loopback; its own time for reading them is a part of the figure, finding the kind in them is not.
"""

from __future__ import annotations

import gzip
import http.client
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from bench.figures import Report
from bench.lab import BenchError, BenchLab, bench_lab, wait

KINDS, GROUPS = 200, 4
ROUNDS = 7
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
MOST_S = 30.0


class Reader(NamedTuple):
    """What a client asks for to see a kind; `{group}` is the kind's."""

    path: str
    accept: str = "application/json"
    encoding: str = "identity"


class Seen(NamedTuple):
    """Milliseconds: of the creation, of the first answer after it, and from the creation's start until an answer has the kind."""

    created_ms: float
    answered_ms: float
    seen_ms: float

    def of(self, key: str) -> float:
        """Returns what the figure `key` is about."""
        return {"crd-create": self.created_ms, "crd-discovery": self.answered_ms}.get(key, self.seen_ms)


READERS = {
    "crd-discovery": Reader("/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
    "crd-v3": Reader("/openapi/v3/apis/{group}/v1"),
    "crd-v2": Reader("/openapi/v2"),
    "crd-v2-gzip": Reader("/openapi/v2", encoding="gzip"),
    "crd-v2-protobuf": Reader("/openapi/v2", PROTOBUF),
}


def measure(report: Report) -> None:
    with bench_lab(0) as lab:
        fill(lab)
        for _ in range(ROUNDS):
            for key, reader in READERS.items():
                seen = one_more(lab, reader)
                report.add("crd-create", seen.of("crd-create"))
                report.add(key, seen.of(key))


def fill(lab: BenchLab) -> None:
    """Makes 200 kinds, unless they are there, and reads each document once, as whoever worked with them has."""
    there = len(lab.api.get(DEFINITIONS)["items"])
    for number in range(there, KINDS):
        lab.api.post(DEFINITIONS, definition(f"kind{number}", f"g{number % GROUPS}.example.com"))
    for reader in READERS.values() if there < KINDS else ():
        with _connected(lab) as connection:
            _read(connection, reader, "g0.example.com")


def one_more(lab: BenchLab, reader: Reader) -> Seen:
    """Makes a kind, looks for it in what the reader reads, and removes it again."""
    name, group = f"more{time.monotonic_ns()}", "g0.example.com"
    body = definition(name, group)
    with _connected(lab) as connection:
        _read(connection, reader, group)
        try:
            begun = time.perf_counter()
            lab.api.post(DEFINITIONS, body)
            return _seen(connection, reader, group, name.capitalize().encode(), begun)
        finally:
            lab.api.delete(f"{DEFINITIONS}/{name}s.{group}")
            wait(lambda: not lab.api.find(f"{DEFINITIONS}/{name}s.{group}"), "the kind is gone")


def _seen(connection: http.client.HTTPSConnection, reader: Reader, group: str, wanted: bytes, begun: float) -> Seen:
    created = time.perf_counter()
    first = 0.0
    while time.perf_counter() - begun < MOST_S:
        raw = _read(connection, reader, group)
        at = time.perf_counter()
        first = first or at
        if wanted in (gzip.decompress(raw) if reader.encoding == "gzip" else raw):
            return Seen((created - begun) * 1000, (first - created) * 1000, (at - begun) * 1000)
    raise BenchError(f"{reader.path} does not show {wanted.decode()}")


@contextmanager
def _connected(lab: BenchLab) -> Iterator[http.client.HTTPSConnection]:
    pki = lab.folder / ".labctl" / "pki"
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    connection = http.client.HTTPSConnection("127.0.0.1", lab.api.port, context=context, timeout=MOST_S)
    try:
        yield connection
    finally:
        connection.close()


def _read(connection: http.client.HTTPSConnection, reader: Reader, group: str) -> bytes:
    headers = {"Accept": reader.accept, "Accept-Encoding": reader.encoding}
    connection.request("GET", reader.path.format(group=group), headers=headers)
    return connection.getresponse().read()


def definition(name: str, group: str) -> dict[str, Any]:
    names = {"kind": name.capitalize(), "plural": f"{name}s", "singular": name, "listKind": f"{name.capitalize()}List"}
    schema = {"type": "object", "properties": {"spec": _struct(8, 3), "status": _struct(6, 1)}}
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": f"{name}s.{group}"}, "spec": spec}


def _struct(width: int, depth: int) -> dict[str, Any]:
    """An object with texts, numbers, lists, and a few objects of the same kind: with three levels below it, about 50 KB."""
    told = "What this field is for, as the authors of such kinds tell it: a sentence or two, with hints of what may be written here and what follows from it."
    properties: dict[str, Any] = {
        f"text{number}": {"type": "string", "description": told, "maxLength": 253, "pattern": "^[a-z]"} for number in range(width)
    }
    properties |= {
        f"number{number}": {"type": "integer", "format": "int32", "description": told, "minimum": 0} for number in range(width // 2)
    }
    properties["items"] = {"type": "array", "description": told, "items": {"type": "string"}, "x-kubernetes-list-type": "set"}
    properties |= {f"part{number}": _struct(width, depth - 1) for number in range(2 if depth else 0)}
    return {"type": "object", "description": told, "properties": properties, "required": ["text0"]}
