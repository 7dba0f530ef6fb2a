"""Reading YAML that a person wrote, with bounds: a file of nine lines must not stand for a gigabyte, and no file outside the experiment's folder is read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labctl.errors import UsageError

MAX_BYTES = 1 << 20
MAX_NODES = 100_000
MAX_DEPTH = 100
MAX_NUMBER = 400  # characters; `1:59:59:...` is a number to YAML, and takes time as its length's square


def text_of(path: Path) -> str:
    """Return the text of a file of at most MAX_BYTES."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text in UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from None


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder or below. ValueError if it is elsewhere, also by a link, or absent."""
    path = (folder / name).resolve() if "\0" not in name else folder
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} lies outside the folder of the experiment: copy it there")
    if not path.is_file():
        raise ValueError(f"there is no file {name!r} beside the experiment")
    return path


def load(text: str, where: str) -> list[Any]:
    """Return the documents of a YAML text, without empty ones. UsageError has the line."""
    found = [value(node, where) for node in nodes(text, where)]
    return [each for each in found if each is not None]


def nodes(text: str, where: str) -> list[Any]:
    """Return PyYAML's node of each document, bounded, before anything is built from it. UsageError has the line."""
    import yaml

    found, values = [], 0
    with _one_line(where):
        for node in yaml.compose_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            values += _bound(node, where)
            if values > MAX_NODES:
                raise UsageError(f"{where}: its documents stand for more than {MAX_NODES} values")
            found.append(node)
    return found


def value(node: Any, where: str) -> Any:
    """Return what a node of `nodes` stands for. UsageError has the line."""
    import yaml

    with _one_line(where):
        return yaml.SafeLoader("").construct_document(node)


@contextlib.contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Turn PyYAML's errors into UsageError. Its constructors of explicit tags (`!!bool x`, `!!int ''`) raise many of Python's."""
    import yaml

    try:
        yield
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{where}{line}: this is no YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{where}: this is no YAML: {said[:200]}") from None


def _bound(root: Any, where: str) -> int:
    """Return how many values a document stands for. One whose aliases stand for too many is refused, before anything is built from it."""
    import yaml

    sizes: dict[int, int] = {}

    def size(node: Any, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise UsageError(f"{where}: it is nested deeper than {MAX_DEPTH} levels")
        if id(node) not in sizes:
            if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")) and len(node.value) > MAX_NUMBER:
                raise UsageError(f"{where} line {node.start_mark.line + 1}: a number has more than {MAX_NUMBER} characters")
            sizes[id(node)] = MAX_NODES  # of a node inside itself
            below = node.value if isinstance(node, yaml.SequenceNode) else []
            if isinstance(node, yaml.MappingNode):
                below = [each for pair in node.value for each in pair]
            sizes[id(node)] = 1 + sum(size(each, depth + 1) for each in below)
        if sizes[id(node)] > MAX_NODES:
            raise UsageError(f"{where}: it stands for more than {MAX_NODES} values")
        return sizes[id(node)]

    return size(root, 0)


def manifests(text: str, where: str) -> list[Mapping[str, Any]]:
    """Return the Kubernetes objects of a YAML text. UsageError if a document is none."""
    found: list[Mapping[str, Any]] = []
    for document in load(text, where):
        items = document.get("items") if isinstance(document, Mapping) and document.get("kind") == "List" else [document]
        for item in items if isinstance(items, list) else [None]:
            if not isinstance(item, Mapping) or is_object(item):
                raise UsageError(f"{where}: {is_object(item)}")
            found.append(item)
    if not found:
        raise UsageError(f"{where}: there is no object in it")
    return found


def is_object(item: Any) -> str:
    """Return why a value is no Kubernetes object, or an empty text."""
    if not isinstance(item, Mapping):
        return "a manifest must be a map with apiVersion, kind and metadata"
    metadata = item.get("metadata")
    for name, value in (("apiVersion", item.get("apiVersion")), ("kind", item.get("kind"))):
        if not isinstance(value, str) or not value:
            return f"a manifest needs {name}"
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        return f"{item['kind']} needs metadata.name"
    return ""
