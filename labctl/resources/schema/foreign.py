"""Takes the paths and definitions that another API server serves into our OpenAPI v2 document, as Kubernetes' aggregator does.

Nothing of theirs replaces what is ours: their paths are those of their own group and version; a definition that has a name of ours, and is another one, gets
a new name (`..._v2`). What a document has is taken field by field, so that both forms of our document can write it, and whatever is no OpenAPI is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from labctl.errors import ApiError
from labctl.resources import documents
from labctl.resources.schema import tree

PATHS_MAX, DEFINITIONS_MAX, DEPTH_MAX = 2000, 5000, 100
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_DEFINITION, _PARAMETER = "#/definitions/", "#/parameters/"
_TEXTS = ("format", "title", "description", "pattern", "type")
_UNCOMPARED = ("description", "x-kubernetes-group-version-kind")

Node = dict[str, Any]


class Foreign(msgspec.Struct, frozen=True, eq=False):
    """Path items and definitions of others."""

    paths: Mapping[str, Node] = {}
    definitions: Mapping[str, Node] = {}


NOTHING = Foreign()


def parsed(raw: bytes, group: str, version: str) -> Foreign:
    """Return what a Swagger 2.0 document says of one version of a group. Raises ValueError."""
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from None
    if not isinstance(document, dict) or document.get("swagger") != "2.0":
        raise ValueError("it is no Swagger 2.0")
    root = f"/apis/{group}/{version}"
    shared = _dict(document.get("parameters"))
    own = {path: item for path, item in _dict(document.get("paths")).items() if path == root or path.startswith(root + "/")}
    _check_depth([own, shared])
    paths = {path: _item(item, shared) for path, item in own.items()}
    definitions = _dict(document.get("definitions"))
    taken: dict[str, Node] = {}
    waiting = sorted({name for schema in _in_paths(paths) for name in _names(schema)})
    while waiting:
        name = waiting.pop()
        if name not in taken:
            definition = definitions.get(name)
            _check_depth(definition)
            taken[name] = _schema(definition, 0)
            waiting += _names(taken[name])
    if len(paths) > PATHS_MAX or len(taken) > DEFINITIONS_MAX:
        raise ValueError(f"it has {len(paths)} paths and {len(taken)} definitions; {PATHS_MAX} and {DEFINITIONS_MAX} are the most")
    return Foreign(paths, taken)


def _check_depth(value: Any) -> None:
    try:
        documents.check_depth([value])
    except ApiError as error:
        raise ValueError(str(error)) from None


def joined(parts: Iterable[Foreign]) -> Foreign:
    """Return several as one. Definitions of the same name that differ keep apart."""
    paths: dict[str, Node] = {}
    definitions: dict[str, Node] = {}
    for part in parts:
        fitting = beside(part, definitions)
        paths.update(fitting.paths)
        definitions.update(fitting.definitions)
    return Foreign(paths, definitions)


def beside(part: Foreign, there: Mapping[str, Node]) -> Foreign:
    """Return it so that it fits into a document with these definitions: those that are the same are left out, others of the same name are renamed."""
    same = {name for name, node in part.definitions.items() if name in there and _bare(node) == _bare(there[name])}
    renamed: dict[str, str] = {}
    for name in part.definitions:
        if name in there and name not in same:
            number = 2
            while (new := f"{name}_v{number}") in there or new in part.definitions:
                number += 1
            renamed[name] = new
    definitions = {renamed.get(name, name): node for name, node in part.definitions.items() if name not in same}
    if not renamed:
        return Foreign(part.paths, definitions)
    return Foreign(_paths_rewritten(part.paths, renamed), {name: _rewritten(node, renamed) for name, node in definitions.items()})


def _bare(node: Any) -> Any:
    """Return what counts when two definitions are compared."""
    if isinstance(node, list):
        return [_bare(child) for child in node]
    return {key: _bare(child) for key, child in node.items() if key not in _UNCOMPARED} if isinstance(node, dict) else node


def _names(schema: Node) -> Iterator[str]:
    """Yield the names that a schema refers to. What lies in a default or an enum is a value."""
    if isinstance(schema.get("$ref"), str):
        yield schema["$ref"].removeprefix(_DEFINITION)
    for child in tree.below(schema):
        yield from _names(child)


def _rewritten(schema: Node, renamed: Mapping[str, str]) -> Node:
    made = tree.changed(schema, lambda child: _rewritten(child, renamed))
    if isinstance(made.get("$ref"), str):
        name = made["$ref"].removeprefix(_DEFINITION)
        made["$ref"] = _DEFINITION + renamed.get(name, name)
    return made


def _in_paths(paths: Mapping[str, Node]) -> Iterator[Node]:
    """Yield the schemas of the bodies and answers of all operations."""
    for item in paths.values():
        for operation in item.values():
            for holder in (*operation["parameters"], *operation["responses"].values()):
                if "schema" in holder:
                    yield holder["schema"]


def _paths_rewritten(paths: Mapping[str, Node], renamed: Mapping[str, str]) -> Mapping[str, Node]:
    def held(holder: Node) -> Node:
        return holder | {"schema": _rewritten(holder["schema"], renamed)} if "schema" in holder else holder

    def operation(said: Node) -> Node:
        answers = {code: held(answer) for code, answer in said["responses"].items()}
        return said | {"parameters": [held(each) for each in said["parameters"]], "responses": answers}

    return {path: {method: operation(said) for method, said in item.items()} for path, item in paths.items()}


# ---- what is taken of a document


def _item(said: Any, shared: Node) -> Node:
    item = _dict(said)
    common = [*_parameters(item.get("parameters"), shared)]
    return {method: _operation(_dict(item[method]), common, shared) for method in _METHODS if method in item}


def _operation(said: Node, common: list[Node], shared: Node) -> Node:
    answers = {code: _answer(_dict(answer)) for code, answer in _dict(said.get("responses")).items()}
    return {
        "operationId": _text(said.get("operationId")),
        "tags": _texts(said.get("tags")),
        "consumes": _texts(said.get("consumes")),
        "produces": _texts(said.get("produces")),
        "parameters": [*_parameters(said.get("parameters"), shared), *common],
        "responses": answers,
        "schemes": _texts(said.get("schemes")),
        **_extensions(said),
    }


def _answer(said: Node) -> Node:
    schema = {"schema": _schema(said["schema"], 0)} if isinstance(said.get("schema"), dict) else {}
    return {"description": _text(said.get("description")), **schema}


def _parameters(said: Any, shared: Node) -> Iterator[Node]:
    for each in said if isinstance(said, list) else ():
        parameter = _dict(each)
        reference = _text(parameter.get("$ref"))
        if reference.startswith(_PARAMETER):
            parameter = _dict(shared.get(reference.removeprefix(_PARAMETER)))
        name, place = _text(parameter.get("name")), parameter.get("in")
        known = {"name": name, "in": place, **({"required": True} if parameter.get("required") is True else {})}
        if place == "body":
            yield known | {"schema": _schema(parameter.get("schema"), 0)}
        elif place in ("path", "query"):
            yield known | {"type": _text(parameter.get("type")) or "string", "uniqueItems": parameter.get("uniqueItems") is True}


def _schema(said: Any, depth: int) -> Node:
    """Return the fields of a schema that OpenAPI v2 knows. Raises ValueError if it is nested too deeply."""
    if depth > DEPTH_MAX:
        raise ValueError(f"a schema is nested more than {DEPTH_MAX} levels deep")
    node = _dict(said)
    reference = _text(node.get("$ref"))
    made: Node = {"$ref": reference} if reference.startswith(_DEFINITION) else {}
    made |= {key: node[key] for key in _TEXTS if isinstance(node.get(key), str)}
    if "default" in node:
        made["default"] = node["default"]
    if required := _texts(node.get("required")):
        made["required"] = required
    if isinstance(node.get("enum"), list):
        made["enum"] = node["enum"]
    more = node.get("additionalProperties")
    if isinstance(more, bool | dict):
        made["additionalProperties"] = more if isinstance(more, bool) else _schema(more, depth + 1)
    if isinstance(node.get("items"), dict):
        made["items"] = _schema(node["items"], depth + 1)
    if isinstance(node.get("allOf"), list):
        made["allOf"] = [_schema(each, depth + 1) for each in node["allOf"]]
    if isinstance(node.get("properties"), dict):
        made["properties"] = {name: _schema(child, depth + 1) for name, child in node["properties"].items()}
    return made | _extensions(node)


def _extensions(said: Node) -> Node:
    return {key: value for key, value in said.items() if key.startswith("x-")}


def _dict(said: Any) -> Node:
    return said if isinstance(said, dict) else {}


def _text(said: Any) -> str:
    return said if isinstance(said, str) else ""


def _texts(said: Any) -> list[str]:
    return [each for each in said if isinstance(each, str)] if isinstance(said, list) else []
