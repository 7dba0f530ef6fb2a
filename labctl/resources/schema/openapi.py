"""This module generates OpenAPI v3 (one document for each group and version) and v2 from the schema and the kinds that are served.

The api room serves them under /openapi; kubectl reads them for `explain`, `edit`, and to learn that the server validates fields itself
(`fieldValidation` on PATCH). A document is made when it is first requested, out of pieces: one with the paths of each kind, one with the definitions that the
kind brings, and one with all other definitions. Pieces are kept. When the kinds change, new Documents take over what is still true of the old ones, so one
more custom kind costs two small pieces in each form.

How a piece is written is a Form's business: openapi_json.py has v3 and v2 in JSON, openapi_protobuf.py has v2 as protobuf.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from labctl.resources.kind import Kind
from labctl.resources.schema.definitions import Definition, Schema
from labctl.resources.schema.foreign import NOTHING, Foreign, beside
from labctl.resources.schema.openapi_json import V2, V3
from labctl.resources.schema.openapi_protobuf import V2Protobuf
from labctl.resources.schema.operations import Operation, operations
from labctl.resources.schema.pieces import Document, Piece
from labctl.resources.schema.prose import told
from labctl.resources.schema.tree import below

Info = Mapping[str, str]


class Form(Protocol):
    """One way to write OpenAPI down. `own` has definitions that have another form in OpenAPI than in schema.json."""

    own: Mapping[str, Definition]

    def items(self, called: Sequence[Operation]) -> bytes:
        """Returns the path items of one kind."""

    def paths(self, items: Mapping[str, Any]) -> bytes:
        """Returns path items as a document of this form has them."""

    def fitted(self, definition: Definition) -> Definition:
        """Returns one of our definitions as this version of OpenAPI has it."""

    def definition(self, name: str, fitted: Definition) -> bytes: ...

    def joined(self, written: Sequence[bytes]) -> bytes:
        """Returns one piece made of several definitions."""

    def whole(self, info: Info, paths: Sequence[Piece], definitions: Sequence[Piece]) -> Iterator[Piece]: ...


class Paths(NamedTuple):
    """What is written of one kind: its path items, and the definitions that they name."""

    piece: Piece
    names: tuple[str, ...]


class Node:
    """What is written of one definition, and the definitions that it names. Two are equal if they are the same one."""

    __slots__ = ("definition", "names", "raw")

    def __init__(self, definition: Definition, raw: bytes) -> None:
        self.definition = definition
        self.raw = raw
        self.names = tuple(references(definition))


class Writer:
    """What was written in one form. It is used by one thread at a time."""

    def __init__(self, form: Form, schema: Schema, info: Info) -> None:
        self._form = form
        self._schema = schema
        self._info = info
        self._paths: dict[Kind, Paths] = {}
        self._nodes: dict[str, Node] = {}
        self._groups: dict[tuple[Node, ...], Piece] = {}

    def take_over(self, before: Writer, kinds: Iterable[Kind]) -> None:
        """Takes what was written of kinds and definitions that are still the same."""
        paths, nodes, groups = dict(before._paths), dict(before._nodes), dict(before._groups)
        self._paths = {kind: paths[kind] for kind in kinds if kind in paths}
        today = {**self._schema.definitions, **self._form.own}
        self._nodes = {name: node for name, node in nodes.items() if today.get(name) is node.definition}
        alive = set(self._nodes.values())
        self._groups = {members: piece for members, piece in groups.items() if alive.issuperset(members)}

    def document(self, kinds: Sequence[Kind], others: Foreign = NOTHING) -> Document:
        """Returns the document of these kinds, with all definitions that they use, directly or through others, and with what other servers serve."""
        written = [self._paths_of(kind) for kind in kinds]
        waiting = [name for paths in written for name in paths.names]
        reached: dict[str, Node] = {}
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached[name] = self._node(name)
                waiting += reached[name].names
        definitions = [self._group(members) for members in _groups(kinds, reached)]
        items = [paths.piece for paths in written]
        if others.paths:
            fitting = beside(others, {name: told(name, node.definition) for name, node in reached.items()})
            items.append(Piece(self._form.paths(fitting.paths)))
            more = [self._form.definition(name, definition) for name, definition in fitting.definitions.items()]
            definitions += [Piece(self._form.joined(more))] if more else []
        return Document(self._form.whole(self._info, items, definitions))

    def _paths_of(self, kind: Kind) -> Paths:
        found = self._paths.get(kind)
        if found is None:
            called = list(operations(self._schema, kind))
            names = tuple(name for operation in called for name in (operation.body, operation.answer) if name)
            found = self._paths[kind] = Paths(Piece(self._form.items(called)), names)
        return found

    def _node(self, name: str) -> Node:
        found = self._nodes.get(name)
        if found is None:
            definition = self._form.own.get(name) or self._schema.definitions[name]
            found = self._nodes[name] = Node(definition, self._form.definition(name, self._form.fitted(told(name, definition))))
        return found

    def _group(self, members: tuple[Node, ...]) -> Piece:
        found = self._groups.get(members)
        if found is None:
            found = self._groups[members] = Piece(self._form.joined([node.raw for node in members]))
        return found


def _groups(kinds: Sequence[Kind], reached: Mapping[str, Node]) -> Iterator[tuple[Node, ...]]:
    """Yields the definitions that no kind brings, and then those that each kind brings, in a fixed order."""
    owner = {name: kind for kind in kinds for name in kind.definitions}
    groups: dict[Kind | None, list[str]] = {None: [], **{kind: [] for kind in kinds}}
    for name in sorted(reached):
        groups[owner.get(name)].append(name)
    for names in groups.values():
        if names:
            yield tuple(reached[name] for name in names)


class Documents:
    """All OpenAPI documents of one set of kinds. It keeps the definitions of the moment when it was made, so threads may use it."""

    def __init__(self, schema: Schema, kinds: Iterable[Kind], version: str = "v1.37.0", before: Documents | None = None) -> None:
        self._kinds = sorted(kinds, key=lambda kind: (kind.group, kind.version, kind.kind))
        self._by_path: dict[str, list[Kind]] = {}
        for kind in self._kinds:
            self._by_path.setdefault(_path(kind), []).append(kind)
        info, frozen = {"title": "Kubernetes", "version": version}, schema.frozen()
        forms: dict[str, Form] = {"v3": V3(), "v2": V2(), "v2+protobuf": V2Protobuf()}
        self._writers = {name: Writer(form, frozen, info) for name, form in forms.items()}
        self._made: dict[str, Document] = {}
        self._v2: dict[str, tuple[Foreign, Document]] = {}
        self._making = {name: threading.RLock() for name in forms}
        if before is not None:
            self._take_over(before)

    def _take_over(self, before: Documents) -> None:
        made = tuple(before._made.items())
        self._made = {path: document for path, document in made if before._by_path.get(path, 0) == self._by_path.get(path)}
        for name, writer in self._writers.items():
            writer.take_over(before._writers[name], self._kinds)

    def paths(self) -> list[str]:
        """Returns the paths of the v3 documents: `api/v1`, `apis/discovery.k8s.io/v1`, ..."""
        return list(self._by_path)

    def index(self) -> Document:
        """Returns the answer of `/openapi/v3`: the URL of each document with its hash, so that clients can cache it."""
        with self._making["v3"]:
            if "index" not in self._made:
                urls = {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._v3(path).hash}"} for path in self.paths()}
                self._made["index"] = Document([Piece(msgspec.json.encode({"paths": urls}))])
            return self._made["index"]

    def v3(self, path: str) -> Document | None:
        """Returns the document of one group and version, by its path in the index; None if there is none."""
        return self._v3(path) if path in self._by_path else None

    def _v3(self, path: str) -> Document:
        with self._making["v3"]:
            if path not in self._made:
                self._made[path] = self._writers["v3"].document(self._by_path[path])
            return self._made[path]

    def v2(self, *, protobuf: bool = False, others: Foreign = NOTHING) -> Document:
        """Returns the whole API in one Swagger 2.0 document. It is kept as long as `others` is the same one."""
        name = "v2+protobuf" if protobuf else "v2"
        with self._making[name]:
            made = self._v2.get(name)
            if made is None or made[0] is not others:
                made = self._v2[name] = others, self._writers[name].document(self._kinds, others)
            return made[1]


def _path(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def references(schema: Definition) -> Iterator[str]:
    """Yields the names of the definitions that a definition refers to."""
    if "$ref" in schema:
        yield schema["$ref"].rsplit("/", 1)[-1]
    for child in below(schema):
        yield from references(child)
