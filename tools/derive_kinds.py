"""Derives docs/kinds.md from the code: every kind with its verbs and subresources, the fields that are stored with a warning, and what Kubernetes has besides.

Run by a developer when a kind is added or acts on more (`make derive`). `--check` says whether the file is what the code gives; a test does the same.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from labctl.resources.kind import Kind
from labctl.resources.registry import builtin_registry
from labctl.resources.schema.definitions import Schema, Type, builtin_schema
from labctl.resources.schema.disabled import OFF, is_off
from labctl.resources.verbs.warnings import acts_on_tree
from tools.derive_schema import KUBERNETES, official, served

PAGE = Path(__file__).parent.parent / "docs" / "kinds.md"
_USUAL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_DEPTH_MAX = 12
_HEAD = f"""# Every kind, as the code has it

This page is made by `make derive` from the registry of kinds, beside the definitions of Kubernetes {KUBERNETES.removeprefix("v")}. What it means is told in [api.md](api.md).

"all" verbs are {", ".join(_USUAL)}. A field is *acted on* unless it is named below: then it is stored as it was sent, and its author gets a `Warning:`.
A kind that is *absent* is absent from discovery and OpenAPI, too.

## Served

| group/version | kind | verbs | subresources |
|---|---|---|---|
"""

_DROPPED = """These belong to features that are off by default in Kubernetes 1.37. As there, they are known to field validation and taken out without a word, unless the
object has them already.

| feature gate | fields |
|---|---|
"""


def page() -> str:
    registry = builtin_registry()
    kinds = sorted(registry.all_served(), key=lambda kind: (kind.group, kind.version, kind.kind))
    schema = builtin_schema(registry)
    rows = [f"| `{kind.api_version}` | {kind.kind} | {_verbs(kind)} | {_subresources(kind)} |" for kind in kinds]
    of_pod = _outside(schema, registry["pods"])
    stored = [
        f"| {kind.kind} (`{kind.api_version}`) | {_fields(schema, kind, of_pod)} |"
        for kind in kinds
        if kind.persisted and _outside(schema, kind)
    ]
    parts = [_HEAD + "\n".join(rows), "## Stored with a warning", "| kind | fields |\n|---|---|\n" + "\n".join(stored)]
    parts += ["## Dropped", _DROPPED + "\n".join(_dropped())]
    parts += ["## Absent", "| group/version | kinds |\n|---|---|\n" + "\n".join(_absent())]
    return "\n\n".join(parts) + "\n"


def _verbs(kind: Kind) -> str:
    verbs = sorted(kind.verbs)
    return "all" if tuple(verbs) == _USUAL else ", ".join(verbs)


def _subresources(kind: Kind) -> str:
    return "; ".join(f"{sub.name} ({', '.join(sub.verbs)})" for sub in kind.subresources)


def _fields(schema: Schema, kind: Kind, of_pod: Sequence[str]) -> str:
    """Returns the fields as text. What a template has in common with a Pod is said once."""
    paths, parts = _outside(schema, kind), []
    for template in ("spec.template", "spec.jobTemplate.spec.template"):
        common = {f"{template}.{path}" for path in of_pod}
        if common <= set(paths):
            paths = [path for path in paths if path not in common]
            parts.append(f"below `{template}` those of a Pod")
    return ", ".join([*(f"`{path}`" for path in paths), *parts])


def _outside(schema: Schema, kind: Kind) -> list[str]:
    """Returns the fields that labctl does not act on, each by the shortest path that covers all below it."""
    tree = acts_on_tree(kind)
    return sorted(_walk(tree, schema.type_of(kind.group, kind.version, kind.kind), "", 0)) if tree else []


def _walk(tree: dict[str, object], type_: Type, path: str, depth: int) -> Iterator[str]:
    for name, field in type_.fields.items():
        if is_off(type_, name):
            continue
        below = tree.get(name)
        at = f"{path}.{name}" if path else name
        if below is None:
            yield at
        elif below and isinstance(below, dict) and depth < _DEPTH_MAX:
            inner = field.item if field.shape in ("list", "map") and field.item else field
            yield from _walk(below, inner, at + ("[]" if field.shape == "list" else ""), depth + 1)


def _dropped() -> Iterator[str]:
    """Yields the features that are off, and what they would bring to each definition."""
    fields: dict[str, list[str]] = defaultdict(list)
    for feature in OFF:
        for definition, names in feature.fields.items():
            fields[feature.gate] += [f"`{definition}.{name}`" for name in names]
    yield from (f"| {gate} | {', '.join(names)} |" for gate, names in fields.items())


def _absent() -> Iterator[str]:
    """Yields the kinds of Kubernetes that are not served, by group and version."""
    known, groups = served(), defaultdict(set)
    for definition in official().values():
        for said in definition.get("x-kubernetes-group-version-kind", ()):
            group, version, kind = said["group"], said["version"], said["kind"]
            if (
                (group, version, kind) not in known
                and not kind.endswith(("List", "Options"))
                and kind not in ("WatchEvent", "Status", "APIGroup")
            ):
                groups[f"{group}/{version}" if group else version].add(kind)
    yield from (f"| `{group}` | {', '.join(sorted(kinds))} |" for group, kinds in sorted(groups.items()) if kinds)


def main() -> int:
    parser = argparse.ArgumentParser(description="Derives docs/kinds.md.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if the file is not what the code gives")
    check = parser.parse_args().check
    made = page()
    if check:
        return 0 if PAGE.read_text() == made else 1
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
