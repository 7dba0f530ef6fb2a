"""Warnings tell people that a field of their object is probably a mistake, or that labctl does nothing with it. The object is stored all the same.

An answer has at most ten, and only people get them: components and agents can't read them.
A kind's `acts_on` holds dotted paths, each with everything below it; a field outside gets a warning where it is set to something that is not empty,
not what the server would fill in, and not there already. `*/*` stands for every name with a domain, such as that of an extended resource.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from labctl.resources import encoding
from labctl.resources.kind import Kind, Object
from labctl.resources.schema.defaults import apply_defaults
from labctl.resources.service import SERVICE_ACCOUNT_PREFIX, User, WriteOptions
from labctl.resources.verbs.context import Context

Tree = dict[str, Any]
_EVERYTHING: Tree = {}
_QUALIFIED = "*/*"
NOTES_MAX = 1000
"""Notes that are looked at, of which many may be the same."""
_ALWAYS = ("kind", "apiVersion", "metadata", "status")


def is_person(user: User) -> bool:
    """True if a person writes, and not a component or a node's agent. A ServiceAccount counts as a person, because people write its programs."""
    return not user.name.startswith("system:") or user.name.startswith(SERVICE_ACCOUNT_PREFIX)


def collect_warnings(
    ctx: Context, kind: Kind, new: Object, old: Object | None, options: WriteOptions, from_decoding: Sequence[str]
) -> list[str]:
    """Returns all warnings for a write: those from decoding, the kind's own, and those about fields that labctl does not act on."""
    if not is_person(options.user):
        return list(from_decoding)
    notes = chain(from_decoding, kind.warnings(new, old), _not_acted_on(ctx, kind, new, old))
    found: dict[str, None] = {}
    for note in islice(notes, NOTES_MAX):
        found[note] = None
        if len(found) >= ctx.settings.warnings:
            break
    return list(found)


def _not_acted_on(ctx: Context, kind: Kind, new: Object, old: Object | None) -> Iterator[str]:
    tree = acts_on_tree(kind)
    if not tree:
        return
    found = list(_outside(tree, new, old, "", ()))
    if not found:
        return
    bare = encoding.decode(encoding.encode(new))
    for _, steps in found:
        _drop(bare, steps)
    apply_defaults(ctx.schema, kind, bare)
    for path, steps in found:
        if _at(bare, steps) != _at(new, steps):
            yield f"{path}: labctl stores this field but does not act on it"


@lru_cache(maxsize=256)
def acts_on_tree(kind: Kind) -> Tree:
    """Returns `acts_on` as a tree. A branch without children is acted on with everything below it; an empty tree means the whole object."""
    tree: Tree = {}
    for path in kind.acts_on and (*kind.acts_on, *_ALWAYS):
        at = tree
        for name in path.split("."):
            at = at.setdefault(name, {})
    return tree


def _outside(tree: Tree, new: Object, old: Any, path: str, steps: tuple[str | int, ...]) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    before = old if isinstance(old, dict) else {}
    for name, value in new.items():
        below = tree.get(name, tree.get(_QUALIFIED) if "/" in name else None)
        if not value or below == _EVERYTHING:
            continue
        at, was = f"{path}.{name}" if path else name, before.get(name)
        if value == was:
            continue
        if below is None:
            yield at, (*steps, name)
        elif isinstance(value, dict):
            yield from _outside(below, value, was, at, (*steps, name))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                item_was = was[index] if isinstance(was, list) and index < len(was) else None
                if isinstance(item, dict) and item != item_was:
                    yield from _outside(below, item, item_was, f"{at}[{index}]", (*steps, name, index))


def _at(obj: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(obj, dict) and step not in obj:
            return None
        obj = obj[step]
    return obj


def _drop(obj: Any, steps: Sequence[str | int]) -> None:
    _at(obj, steps[:-1]).pop(steps[-1], None)
