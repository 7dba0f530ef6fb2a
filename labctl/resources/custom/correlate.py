"""Which old value a new one takes the place of: by name in an object, by keys in a list that is a map, and nowhere else; and what of it is in another order."""

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


def in_order_of(node: Node, new: Any, old: Any) -> Any:
    """Return the old value with its sets and its lists that are maps in the order of the new one's, wherever both have the same items: to rules their order
    makes no difference. Nothing is changed in place."""
    if not node.keyed:
        return old
    if isinstance(new, dict) and isinstance(old, dict):
        children = {name: node.properties.get(name) or node.extra for name in old if name in new}
        ordered = {name: in_order_of(child, new[name], old[name]) for name, child in children.items() if child is not None}
        return {**old, **ordered}
    if not isinstance(new, list) or not isinstance(old, list) or node.list_type not in ("set", "map") or len(new) != len(old):
        return old
    by_key = {_key(node, item): item for item in old}
    if len(by_key) < len(old) or not all(_key(node, item) in by_key for item in new) or node.items is None:
        return old
    return [in_order_of(node.items, item, by_key[_key(node, item)]) for item in new]


def _key(node: Node, item: Any) -> bytes:
    said = {name: item.get(name) for name in node.list_keys} if isinstance(item, dict) and node.list_keys else item
    return msgspec.json.encode(said, order="sorted")
