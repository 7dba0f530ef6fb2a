"""Where the running kernel keeps what a BPF program wants to look at: numbers of its functions' types, and offsets of fields in its structures.

The kernel tells it in BTF (https://docs.kernel.org/bpf/btf.html): a table of types, one record after the other, each with the offset of its name in a
table of texts. Only the records of the wanted names are looked into; the whole of them takes about 0.1 s, so the answer is kept.
"""

from __future__ import annotations

import contextlib
import os
import platform
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from labctl.decoding import from_json
from labctl.errors import ProviderError

VMLINUX = Path("/sys/kernel/btf/vmlinux")
KEPT = Path("/run/labctl/kernel-layout.json")
"""It lives as long as the kernel that it tells of."""

_MAGIC = 0xEB9F
_HEADER, _RECORD, _MEMBER, _PARAMETER = struct.Struct("=HBBIIIII"), struct.Struct("=III"), struct.Struct("=III"), struct.Struct("=II")
_POINTER, _ARRAY, _STRUCT, _UNION, _ENUM, _FUNCTION, _PROTOTYPE = 2, 3, 4, 5, 6, 12, 13
_FIXED = {1: 4, _ARRAY: 12, 14: 4, 17: 4}
_EACH = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _PROTOTYPE: 8, 15: 12, 19: 12}


class Layout(msgspec.Struct, frozen=True):
    """What was asked for: each function's type number, and the index of each of its arguments that points to a structure, by the structure's name;
    each structure's fields, with their offset in bytes."""

    functions: Mapping[str, int]
    arguments: Mapping[str, Mapping[str, int]]
    fields: Mapping[str, Mapping[str, int]]


class _Kept(msgspec.Struct, frozen=True):
    kernel: str
    functions: Sequence[str]
    structures: Sequence[str]
    layout: Layout


def layout(functions: Sequence[str], structures: Sequence[str], kept: Path = KEPT, source: Path = VMLINUX) -> Layout:
    """Return what the running kernel has of these. `kept` is the file that remembers it. Raises ProviderError if the kernel does not tell."""
    kernel = f"{platform.release()} {platform.version()}"
    try:
        known = from_json(kept.read_bytes(), _Kept)
        if (known.kernel, known.functions, known.structures) == (kernel, [*functions], [*structures]):
            return known.layout
    except (OSError, msgspec.MsgspecError):
        pass  # it is not there yet, or damaged
    try:
        found = read(source.read_bytes(), functions, structures)
    except (OSError, struct.error, ValueError, IndexError) as error:
        raise ProviderError(f"{source} can't be read: {error}") from error
    with contextlib.suppress(OSError):  # then it is read again
        _keep(kept, msgspec.json.encode(_Kept(kernel, [*functions], [*structures], found)))
    return found


def _keep(file: Path, data: bytes) -> None:
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, file)


def read(table: bytes, functions: Sequence[str], structures: Sequence[str]) -> Layout:
    """Return what the table tells of these; what it does not know is left out."""
    magic, _, _, header, types_at, types_size, texts_at, texts_size = _HEADER.unpack_from(table)
    if magic != _MAGIC:
        raise ValueError("this is no BTF of this processor's byte order")
    types, texts = table[header + types_at : header + types_at + types_size], table[header + texts_at : header + texts_at + texts_size]
    if (len(types), len(texts)) != (types_size, texts_size):
        raise ValueError("it is cut off")
    reader = _Reader(types, texts, frozenset(functions), frozenset(structures))
    return Layout(reader.functions, {name: reader.structures_of(number) for name, number in reader.functions.items()}, reader.fields())


class _Reader:
    def __init__(self, types: bytes, texts: bytes, functions: frozenset[str], structures: frozenset[str]) -> None:
        self._types, self._texts = types, texts
        self._at: list[int] = [0]  # where each type's record begins; there is no type 0
        self.functions: dict[str, int] = {}
        self._structures: dict[str, int] = {}
        self._scan({self._text_at(name): name for name in functions}, {self._text_at(name): name for name in structures})

    def structures_of(self, function: int) -> dict[str, int]:
        """Return the index of each argument that points to a structure or union, by its name."""
        _, _, prototype = _RECORD.unpack_from(self._types, self._at[function])
        begin = self._at[prototype]
        found: dict[str, int] = {}
        for index in range(_RECORD.unpack_from(self._types, begin)[1] & 0xFFFF):
            _, type_ = _PARAMETER.unpack_from(self._types, begin + _RECORD.size + index * _PARAMETER.size)
            _, info, to = _RECORD.unpack_from(self._types, self._at[type_]) if type_ else (0, 0, 0)
            if info >> 24 & 31 == _POINTER and to:
                name, kind, _ = _RECORD.unpack_from(self._types, self._at[to])
                if kind >> 24 & 31 in (_STRUCT, _UNION):
                    found.setdefault(self._text(name), index)
        return found

    def fields(self) -> dict[str, dict[str, int]]:
        return {name: dict(self._fields(number)) for name, number in self._structures.items()}

    def _fields(self, structure: int, base: int = 0) -> Iterator[tuple[str, int]]:
        """Yield each field with its offset in bytes; those of structures without a name as if they were the outer one's."""
        begin = self._at[structure]
        _, info, _ = _RECORD.unpack_from(self._types, begin)
        for index in range(info & 0xFFFF):
            name, type_, bits = _MEMBER.unpack_from(self._types, begin + _RECORD.size + index * _MEMBER.size)
            if info >> 31:  # some of its fields are less than a byte; the high byte says how many bits
                bits &= 0xFFFFFF
            offset = base + bits // 8
            if text := self._text(name):
                yield text, offset
            elif _RECORD.unpack_from(self._types, self._at[type_])[1] >> 24 & 31 in (_STRUCT, _UNION):
                yield from self._fields(type_, offset)

    def _scan(self, functions: Mapping[int, str], structures: Mapping[int, str]) -> None:
        types, at, size, unpack = self._types, 0, len(self._types), struct.Struct("=II").unpack_from
        starts = self._at
        while at < size:
            name, info = unpack(types, at)
            kind = info >> 24 & 31
            if kind == _FUNCTION and name in functions:
                self.functions[functions[name]] = len(starts)
            elif kind == _STRUCT and name in structures:
                self._structures.setdefault(structures[name], len(starts))
            starts.append(at)
            at += 12 + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * (info & 0xFFFF)

    def _text_at(self, text: str) -> int:
        """Return where the text stands; -1 if it stands nowhere."""
        at = self._texts.find(b"\0" + text.encode() + b"\0")
        return at + 1 if at >= 0 else -1

    def _text(self, at: int) -> str:
        return self._texts[at : self._texts.index(b"\0", at)].decode()
