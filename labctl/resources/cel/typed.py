"""An Environment that knows the fields of a kind: `object.spec.replicas > '1'` is refused by it, where `object` is anything elsewhere.

The library has types with fields for protobuf messages only, so a message is described for each type of the schema, at run time. Nothing is ever encoded
as one: expressions are compiled with them and thrown away. As in Kubernetes, what may be of several types, or keeps unknown fields, is `dyn`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from labctl.resources.cel.expressions import CompileError, Environment, new_environment
from labctl.resources.custom.schema import escaped
from labctl.resources.schema.definitions import Type

_PACKAGE = "schema"
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STRUCT = re.compile(rf" not found in struct '{_PACKAGE}\.\w+'")
_DYN = ".google.protobuf.Value"
_MESSAGES = {"time": ".google.protobuf.Timestamp", "micro-time": ".google.protobuf.Timestamp"}
_SCALARS = {"string": 9, "quantity": 9, "bytes": 12, "int32": 3, "int64": 3, "number": 1, "boolean": 8}  # FieldDescriptorProto.Type
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3


class TypedEnvironment(Environment):
    """`variables` are words as Environment has them; `typed` are variables with the type of a kind."""

    def __init__(self, variables: Mapping[str, str], typed: Mapping[str, Type]) -> None:
        described = _Descriptions()
        messages = {name: described.message(type_) for name, type_ in typed.items()}
        self._env = new_environment(variables, messages, described.pool())

    def problem(self, text: str) -> str:
        """Returns what is wrong with an expression, in the compiler's words; empty if nothing is."""
        try:
            self.compile(text, "")
        except CompileError as error:
            return _STRUCT.sub("", str(error)).removeprefix("compilation failed: ")
        return ""


class _Descriptions:
    """The messages of one environment, in one file of protobuf. A type that refers to itself is one message that does."""

    def __init__(self) -> None:
        from google.protobuf import descriptor_pb2

        names = [f"google/protobuf/{name}.proto" for name in ("struct", "timestamp")]
        self._file = descriptor_pb2.FileDescriptorProto(name="schema.proto", package=_PACKAGE, syntax="proto2", dependency=names)
        self._names: dict[int, str] = {}

    def pool(self) -> Any:
        from google.protobuf import descriptor_pool, struct_pb2, timestamp_pb2

        pool = descriptor_pool.DescriptorPool()
        for file in (struct_pb2.DESCRIPTOR.serialized_pb, timestamp_pb2.DESCRIPTOR.serialized_pb, self._file.SerializeToString()):
            pool.AddSerializedFile(file)
        return pool

    def message(self, type_: Type) -> str:
        """Returns the full name of the type's message, which is described when it is first asked for."""
        if id(type_) not in self._names:
            name = f"T{len(self._names)}"
            self._names[id(type_)] = f"{_PACKAGE}.{name}"
            message = self._file.message_type.add(name=name)
            for field, child in type_.fields.items():
                for written in {escaped(field): None, field: None}:  # at run time `object.metadata.namespace` is as good as `__namespace__`
                    if _IDENTIFIER.fullmatch(written):
                        self._field(message, written, child)
        return self._names[id(type_)]

    def _field(self, message: Any, name: str, type_: Type) -> None:
        number = len(message.field) + 1
        field = message.field.add(name=name, number=number, json_name=f"f{number}", label=_OPTIONAL)
        entries = "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Entry"  # as protobuf calls the entries of a map
        if type_.shape == "list":
            field.label = _REPEATED
            self._of(field, type_.item)
        elif type_.shape == "map" and all(entries != known.name for known in message.nested_type):
            field.label = _REPEATED
            entry = message.nested_type.add(name=entries)
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, label=_OPTIONAL, type=_SCALARS["string"])
            self._of(entry.field.add(name="value", number=2, label=_OPTIONAL), type_.item)
            field.type, field.type_name = _MESSAGE, f".{_PACKAGE}.{message.name}.{entries}"
        else:
            self._of(field, type_)

    def _of(self, field: Any, type_: Type | None) -> None:
        """Gives a field the type of one value. Lists and maps inside of lists and maps are `dyn`: protobuf has none."""
        shape = type_.shape if type_ is not None else "any"
        if shape in _SCALARS:
            field.type = _SCALARS[shape]
            return
        known = shape == "struct" and type_ is not None and not type_.open
        field.type = _MESSAGE
        field.type_name = f".{self.message(type_)}" if known and type_ is not None else _MESSAGES.get(shape, _DYN)
