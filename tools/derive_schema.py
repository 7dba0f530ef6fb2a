"""Derives labctl/resources/schema/schema.json from the official definitions inside the PyPI wheel `kubernetes-validate`.

Run by a developer when a kind is added (`make derive`) or labctl moves to another Kubernetes. `--check` says whether the file is what the wheel gives
(a test does the same). Which kinds are served is read from their files (resources/kinds/). Kept of each definition that the served kinds reach: names, types, formats, required,
and x-kubernetes-* (merge keys, list and map types, group-version-kind). Descriptions are left out, and so is what the wheel adds for its own use
(`null` beside every type, the enum of one apiVersion and one kind). One definition a line, sorted: a diff shows what Kubernetes changed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from labctl.resources.registry import builtin_registry

KUBERNETES = "v1.37.0"
SCHEMA_JSON = Path(__file__).parent.parent / "labctl/resources/schema/schema.json"

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
# What the API speaks beside its kinds.
ALWAYS = tuple(META + name for name in ("DeleteOptions", "Status", "Condition", "LabelSelector", "WatchEvent"))

Gvk = tuple[str, str, str]


# What the wheel tells only as a oneOf, as the format Kubernetes itself gives (`quantity` is our own word: Kubernetes has none).
SCALARS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string", "format": "quantity"},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": "string", "format": "int-or-string"},
}
KEPT = {
    "type", "format", "required", "enum", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
    "x-kubernetes-patch-strategy", "x-kubernetes-patch-merge-key", "x-kubernetes-unions",
}  # fmt: skip


def official() -> dict[str, Any]:
    """Return every definition of this Kubernetes from the wheel."""
    source = files("kubernetes_validate") / "kubernetes-json-schema" / f"{KUBERNETES}-local" / "_definitions.json"
    definitions: dict[str, Any] = json.loads(source.read_text())["$defs"]
    return definitions


def served() -> set[Gvk]:
    """Return every kind, its list, and the kinds of the bodies of subresources, as the files under resources/kinds/ name them."""
    found: set[Gvk] = set()
    for kind in builtin_registry().all_served():
        found |= {(kind.group, kind.version, kind.kind), (kind.group, kind.version, f"{kind.kind}List")}
        found |= {(sub.group, sub.version or kind.version, sub.kind) for sub in kind.subresources if sub.kind}
    return found


def roots(definitions: dict[str, Any], gvks: set[Gvk]) -> list[str]:
    """Return the definitions of these kinds. labctl's own kinds and the options of streams have none in the wheel."""
    names = {
        (gvk["group"], gvk["version"], gvk["kind"]): name
        for name, definition in definitions.items()
        if len(known_as := definition.get("x-kubernetes-group-version-kind", ())) == 1
        for gvk in known_as
    }
    return sorted(names[gvk] for gvk in gvks if gvk in names)


def derive(definitions: dict[str, Any]) -> dict[str, Any]:
    """The definitions that the served kinds reach, without prose."""
    gvks = served()
    groups = {(group, version) for group, version, _ in gvks}
    derived: dict[str, Any] = {}
    waiting = [*roots(definitions, gvks), *ALWAYS]
    while waiting:
        name = waiting.pop()
        if name not in derived:
            derived[name] = SCALARS.get(name) or plain(definitions[name], groups)
            waiting.extend(references(derived[name]))
    return dict(sorted(derived.items()))


def plain(node: dict[str, Any], groups: set[tuple[str, str]]) -> dict[str, Any]:
    """One schema node and all below it, without prose and without the wheel's own additions."""
    kept: dict[str, Any] = {}
    for key, value in node.items():
        if key == "$ref":
            kept["$ref"] = "#/definitions/" + value.rsplit("/", 1)[-1]
        elif key == "properties":
            kept["properties"] = {name: plain(child, groups) for name, child in value.items()}
        elif key in ("items", "additionalProperties"):
            kept[key] = plain(value, groups)
        elif key == "type":
            kept["type"] = value if isinstance(value, str) else value[0]
        elif key == "x-kubernetes-group-version-kind":
            kept[key] = [gvk for gvk in value if (gvk["group"], gvk["version"]) in groups]
        elif key in KEPT:
            kept[key] = value
    for name in ("apiVersion", "kind"):
        kept.get("properties", {}).get(name, {}).pop("enum", None)
    return kept


def references(node: Any) -> Iterator[str]:
    """Yield the names of the definitions to which a node refers."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rsplit("/", 1)[-1]
        for child in node.values():
            yield from references(child)


def render(definitions: dict[str, Any]) -> str:
    """Return JSON with one definition a line."""
    lines = (f"{json.dumps(name)}:{json.dumps(node, separators=(',', ':'), sort_keys=True)}" for name, node in definitions.items())
    return "{" + ",\n".join(lines) + "}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the file is not what the wheel gives")
    text = render(derive(official()))
    if parser.parse_args().check:
        return 0 if SCHEMA_JSON.read_text() == text else 1
    SCHEMA_JSON.write_text(text)
    print(f"{SCHEMA_JSON}: {text.count(chr(10))} definitions, {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
