"""In many fields an empty value means the same as an absent one. This module keeps an update from counting as a change if it only replaces one by the other.

Go clients write every struct that is no pointer, empty or not (`resources: {}`), and a person may write `hostNetwork: false` into a pod that says
nothing of it. restrict_and_validate() in verbs/write.py calls keep_zeros() before anything compares the new object with the old one, so each kind's rules may
compare with `==`. Which fields these are is read from Go's own types (zeros.json, made by tools/derive_protobuf.py): a pointer's zero was said on
purpose (`emptyDir: {}`, `namespaceSelector: {}`), and so was a map's value.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from labctl.decoding import from_json
from labctl.resources.kind import Object
from labctl.resources.schema.definitions import ANY, Type

_ZEROS: tuple[Any, ...] = ("", 0, False, [], {})


@cache
def _zeros() -> dict[str, frozenset[str]]:
    """Returns, for each definition, the fields in which Go's zero value means the same as an absent field."""
    text = (files("labctl.resources.schema") / "zeros.json").read_bytes()
    return from_json(text, dict[str, frozenset[str]])


def keep_zeros(type_: Type, new: Object, old: Object) -> None:
    """Changes `new`, in place, to the form of `old` wherever one has an empty value and the other has none."""
    is_map = type_.shape == "map"
    if not is_map and new.keys() != old.keys():
        zeros = _zeros().get(type_.name, frozenset())
        for key in old.keys() - new.keys():
            if key in zeros and _is_zero(type_.fields.get(key, ANY), old[key]):
                new[key] = old[key]
        for key in new.keys() - old.keys():
            if key in zeros and _is_zero(type_.fields.get(key, ANY), new[key]):
                del new[key]
    for key, value in new.items():
        if key in old and value != old[key]:
            _keep_below((type_.item or ANY) if is_map else type_.fields.get(key, ANY), value, old[key])


def drop_zeros(type_: Type, obj: Object) -> None:
    """Removes, in place, the object's own fields whose empty value means the same as an absent one."""
    zeros = _zeros().get(type_.name, frozenset())
    for key in [key for key, value in obj.items() if key in zeros and _is_zero(type_.fields.get(key, ANY), value)]:
        del obj[key]


def _keep_below(type_: Type, new: Any, old: Any) -> None:
    """Does the same for two values that differ."""
    if type(new) is not type(old):
        return
    if isinstance(new, dict) and type_.shape in ("struct", "map"):
        keep_zeros(type_, new, old)
    elif isinstance(new, list) and type_.item is not None and len(new) == len(old):
        for one, before in zip(new, old, strict=True):
            if one != before:
                _keep_below(type_.item, one, before)


def _is_zero(type_: Type, value: Any) -> bool:
    if isinstance(value, dict) and value and type_.shape == "struct":
        zeros = _zeros().get(type_.name, frozenset())
        return all(key in zeros and _is_zero(type_.fields.get(key, ANY), below) for key, below in value.items())
    return value in _ZEROS
