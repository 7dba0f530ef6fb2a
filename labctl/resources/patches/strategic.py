"""A strategic merge patch is a merge patch that also merges lists. The schema says which lists merge, and by which key.

Called for `application/strategic-merge-patch+json` (kubectl apply, edit, label and set use it). Directives inside the patch:

    $patch: replace | delete             on an object, or on one item of a merging list
    $retainKeys: [a, b]                  only these keys of the object stay
    $setElementOrder/LIST: [...]         the order of the merged list: the patch's first, then the live one's
    $deleteFromPrimitiveList/LIST: [...] scalars to remove from a merging list

Errors have the real server's words; where it answers 500 to a user's mistake, labctl answers 400.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from labctl.errors import ApiError
from labctl.resources.kind import Object
from labctl.resources.patches.json import does_not_apply
from labctl.resources.schema.definitions import ANY, Type
from labctl.resources.schema.golang import value_name

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def apply(type_: Type, patch: Any, obj: Object) -> Object:
    """Applies the patch to `obj`, which has that type, and returns the result. Both may be changed."""
    if not isinstance(patch, dict):
        raise ApiError(400, "BadRequest", f"json: cannot unmarshal {value_name(patch)} into Go value of type map[string]interface {{}}")
    return _merge_object(type_, obj, patch)


def _merge_object(type_: Type, live: Object, patch: Object) -> Object:
    if _PATCH in patch:
        return _whole(patch)
    _retain_keys(live, patch)
    ordered = _order_lists(type_, live, patch)
    for key, value in patch.items():
        if key in ordered or key.startswith(_ORDER) or key == _RETAIN:
            continue
        if key.startswith(_DELETE):
            _delete_scalars(live, key.removeprefix(_DELETE), value)
        elif value is None:
            live.pop(key, None)
        else:
            live[key] = _merge_value(_field(type_, key), live.get(key), value)
    return live


def _merge_value(type_: Type, live: Any, patch: Any) -> Any:
    if live is None or type(live) is not type(patch):
        return _as_new(patch)
    if isinstance(patch, dict):
        return _as_new(patch) if "replace" in type_.strategy else _merge_object(type_, live, patch)
    if isinstance(patch, list) and "merge" in type_.strategy:
        return _merge_list(type_, live, patch, order=None)
    return patch


def _field(type_: Type, key: str) -> Type:
    if type_.shape == "map":
        return type_.item or ANY
    return type_.fields.get(key, ANY)


def _whole(patch: Object) -> Object:
    """Carries out a $patch directive that concerns the whole object."""
    match patch.pop(_PATCH):
        case "replace":
            return _as_new(patch)
        case "delete":
            return {}
        case directive:
            raise _bad_directive(directive, patch)


def _as_new(value: Any) -> Any:
    """Returns a value of the patch for a place where nothing was before: without directives and nulls."""
    if isinstance(value, dict):
        if value.get(_PATCH) == "delete":
            return {}
        return {
            key: _as_new(child)
            for key, child in value.items()
            if child is not None and key not in (_PATCH, _RETAIN) and not key.startswith((_ORDER, _DELETE))
        }
    if isinstance(value, list):
        return [_as_new(item) for item in value if not (isinstance(item, dict) and _PATCH in item)]
    return value


def _retain_keys(live: Object, patch: Object) -> None:
    if _RETAIN not in patch:
        return
    retained = patch[_RETAIN]
    if not isinstance(retained, list):
        raise ApiError(400, "BadRequest", "invalid patch format of retainKeys")
    for key, value in patch.items():
        if value is not None and key not in retained and key != _RETAIN and not key.startswith((_ORDER, _DELETE)):
            raise ApiError(400, "BadRequest", "invalid patch format of retainKeys")
    for key in [key for key in live if key not in retained]:
        del live[key]


# ---- lists


def _order_lists(type_: Type, live: Object, patch: Object) -> set[str]:
    """Merges the lists whose order the patch sets, and returns their names."""
    done = set()
    for directive, order in patch.items():
        if not directive.startswith(_ORDER):
            continue
        name = directive.removeprefix(_ORDER)
        here, change = live.get(name), patch.get(name)
        for value in (order, [] if here is None else here, [] if change is None else change):
            if not isinstance(value, list):
                raise ApiError(400, "BadRequest", "invalid patch format of setElementOrder list")
        if here is None and change is None:
            continue
        field = _field(type_, name)
        _check_order(field, change or [], order)
        live[name] = _merge_list(field, here or [], change or [], order)
        done.add(name)
    return done


def _merge_list(type_: Type, live: list[Any], patch: list[Any], order: list[Any] | None) -> list[Any]:
    """Merges a list by its merge key, or a list of scalars as a set. The result has the order of `order` or of the patch, and after that the old one."""
    items = [*live, *patch]
    if not items:
        return []
    if any(isinstance(item, list) for item in items):
        raise does_not_apply("lists of lists are not supported")
    if len({isinstance(item, dict) for item in items}) > 1:
        raise ApiError(400, "BadRequest", f"list element types are not identical: {items}")
    if not isinstance(items[0], dict):
        merged = list(dict.fromkeys(items))
        return _arrange(merged, order if order is not None else patch, live, lambda item: item)
    key = type_.merge_key
    if not key:
        raise ApiError(400, "BadRequest", f"cannot merge lists without merge key for type {type_.item.short_name if type_.item else 'map'}")
    kept, change = _apply_item_directives(live, patch, key)
    merged = _merge_items(type_, kept, change, key)
    return _arrange(merged, order if order is not None else change, live, lambda item: _key_of(item, key))


def _apply_item_directives(live: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """Returns the live items without those that the patch deletes (without all, if it replaces the list), and the patch without its directives."""
    plain = [item for item in patch if _PATCH not in item]
    gone = set()
    for item in patch:
        match item.get(_PATCH, ""):
            case "":
                pass
            case "delete":
                gone.add(_lookup_key(_key_of(item, key)))
            case "replace":
                return [], [_as_new(one) for one in plain]
            case "merge":
                raise ApiError(400, "BadRequest", "merging lists cannot yet be specified in the patch")
            case directive:
                raise _bad_directive(directive, item)
    return [one for one in live if _lookup_key(one.get(key)) not in gone] if gone else live, plain


def _merge_items(type_: Type, live: list[Any], patch: list[Any], key: str) -> list[Any]:
    merged = list(live)
    places = _ranks(merged, lambda item: item.get(key))
    for item in patch:
        place = places.setdefault(_lookup_key(_key_of(item, key)), len(merged))
        if place == len(merged):
            merged.append(_as_new(item))
        else:
            merged[place] = _merge_object(type_.item or ANY, merged[place], item)
    return merged


def _arrange(merged: list[Any], wanted: list[Any], live: list[Any], name: Callable[[Any], Any]) -> list[Any]:
    """Sorts the items: those in `wanted` get its order, and each other item stays before the first of them that followed it in the live list."""
    first = _ranks(wanted, name)
    before = _ranks(live, name)
    named = deque(sorted((item for item in merged if _lookup_key(name(item)) in first), key=lambda item: first[_lookup_key(name(item))]))
    rest = (item for item in merged if _lookup_key(name(item)) not in first)
    others = deque(sorted(rest, key=lambda item: before.get(_lookup_key(name(item)), len(before))))
    arranged = []
    while named and others:
        left, right = before.get(_lookup_key(name(others[0]))), before.get(_lookup_key(name(named[0])))
        goes_first = left is not None and right is not None and left < right
        arranged.append(others.popleft() if goes_first else named.popleft())
    return [*arranged, *named, *others]


def _ranks(items: Sequence[Any], name: Callable[[Any], Any]) -> dict[Any, int]:
    ranks: dict[Any, int] = {}
    for rank, item in enumerate(items):
        ranks.setdefault(_lookup_key(name(item)), rank)
    return ranks


def _lookup_key(value: Any) -> Any:
    """Makes a merge key's value hashable: nothing stops a client from sending a list or an object as a name."""
    return msgspec.json.encode(value) if isinstance(value, (dict, list)) else value


def _check_order(type_: Type, patch: list[Any], order: list[Any]) -> None:
    """Checks that `order` names the patch's items in the same sequence. Raises ApiError 400."""

    def name(item: Any) -> Any:
        return _key_of(item, type_.merge_key) if isinstance(item, dict) else item

    remaining = iter([name(item) for item in order])
    for item in patch:
        if isinstance(item, dict) and _PATCH in item:
            continue
        if not any(name(item) == one for one in remaining):
            message = f"The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
            raise ApiError(400, "BadRequest", message)


def _delete_scalars(live: Object, name: str, gone: Any) -> None:
    if not isinstance(gone, list):
        raise ApiError(400, "BadRequest", "invalid patch format of primitive list")
    if isinstance(live.get(name), list):
        keys = set(map(_lookup_key, gone))
        live[name] = [item for item in live[name] if _lookup_key(item) not in keys]


def _key_of(item: Any, key: str) -> Any:
    if not isinstance(item, dict):
        raise ApiError(400, "BadRequest", f"expected a map with the merge key {key}, not {value_name(item)}")
    if key not in item:
        raise ApiError(400, "BadRequest", f"map: {_go_map(item)} does not contain declared merge key: {key}")
    return item[key]


def _bad_directive(directive: Any, patch: Object) -> ApiError:
    return ApiError(400, "BadRequest", f"unknown patch type: {directive} in map: {_go_map(patch)}")


def _go_map(item: Object) -> str:
    """Formats an object as Go prints a map: `map[image:nginx name:web]`."""
    return "map[" + " ".join(f"{key}:{_go_map(value) if isinstance(value, dict) else value}" for key, value in sorted(item.items())) + "]"
