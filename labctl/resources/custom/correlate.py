"""Which old value a new one takes the place of: by name in an object, by keys in a list that is a map, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from labctl.resources.custom.schema import Node

ABSENT: Any = object()
"""There is no old value, or none is known."""


def items_before(node: Node, old: Any) -> Callable[[Any], Any]:
    """Return a function that finds a list's item in the old list."""
    if not isinstance(old, list) or node.list_type != "map":
        return lambda _item: ABSENT
    by_key = {_key(node, item): item for item in old}
    return lambda item: by_key.get(_key(node, item), ABSENT)


def _key(node: Node, item: Any) -> bytes:
    said = {name: item.get(name) for name in node.list_keys} if isinstance(item, dict) else item
    return msgspec.json.encode(said, order="sorted")
