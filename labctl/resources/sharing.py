"""Texts that many objects have in common are kept once: kinds, namespaces, phases, times, names of nodes and of images.

encoding.viewed() calls this for each typed view. A decoder makes a new text for each field, so fifty of a pod's texts were there as often as there are pods:
half of what a view weighs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, get_args

import msgspec
from msgspec.structs import force_setattr

REMEMBERED = 16_384
"""If there are more different texts than this, they are forgotten, and shared anew from then on: what is shared stays so."""
_COMMON = frozenset(
    (
        "api_version", "component", "creation_timestamp", "effect", "first_timestamp", "generate_name", "image", "image_pull_policy", "key", "kind",
        "last_timestamp", "last_transition_time", "namespace", "node_name", "operator", "phase", "preemption_policy", "protocol", "reason",
        "reporting_component", "restart_policy", "scheduler_name", "service_account_name", "start_time", "status", "type",
        "Container.name", "NameReference.name", "OwnerReference.name", "OwnerReference.uid", "Volume.name",
    )
)  # fmt: skip
"""Fields, of any Struct or of one, that hold the same texts in many objects."""


class _Plan(NamedTuple):
    """Where a Struct has common texts: in fields of its own, in a Struct below, and in lists of them. `share` does it for one such Struct."""

    texts: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    share: Callable[[Any], None] = lambda _view: None

    @property
    def empty(self) -> bool:
        return not (self.texts or self.below or self.lists)


_NOTHING = _Plan()
_texts: dict[str, str] = {}
_plans: dict[type, _Plan] = {}


def share(view: Any) -> None:
    """Put for each common text of a view the one that others have. The view stays equal to what it was."""
    (_plans.get(type(view)) or _plan(type(view))).share(view)
    if len(_texts) > REMEMBERED:
        _texts.clear()


def _plan(struct: type) -> _Plan:
    """Return a Struct's plan. One that contains itself is looked through to its first level."""
    if struct in _plans:
        return _plans[struct]
    _plans[struct] = _NOTHING
    texts: list[str] = []
    below: dict[str, type] = {}
    lists: dict[str, type] = {}
    for field in msgspec.structs.fields(struct):
        if field.type in (str, str | None) and (field.name in _COMMON or f"{struct.__name__}.{field.name}" in _COMMON):
            texts.append(field.name)
        elif (part := _struct(field.type, tuple)) is not None:
            lists[field.name] = part
        elif (part := _struct(field.type, None)) is not None:
            below[field.name] = part
    if texts or below or lists:
        _plans[struct] = _Plan(tuple(texts), tuple(below), tuple(lists), _made(struct, texts, below, lists))
    return _plans[struct]


def _made(struct: type, texts: Iterable[str], below: Mapping[str, type], lists: Mapping[str, type]) -> Callable[[Any], None]:
    """Make the function that shares the texts of one Struct, as dataclasses make theirs: a line for each field takes a third of a loop's time, and each change
    of a pod looks at fifty fields. What stands in a field by default has nothing to share."""
    given: dict[str, Any] = {"known": _texts.setdefault, "put": force_setattr}
    lines = ["def share(view):"]
    for name in texts:
        lines += [f"  text = view.{name}", f"  if text and (one := known(text, text)) is not text: put(view, {name!r}, one)"]
    defaults = {field.name: field.default for field in msgspec.structs.fields(struct)}
    for name, part in (*below.items(), *lists.items()):
        given |= {f"share_{name}": _plan(part).share, f"default_{name}": defaults[name]}
        if name in lists:
            lines.append(f"  for one in view.{name}: share_{name}(one)")
        else:
            lines.append(f"  if (one := view.{name}) is not None and one is not default_{name}: share_{name}(one)")
    exec("\n".join(lines), given)  # the text is of names of our own fields alone
    made: Callable[[Any], None] = given["share"]
    return made


def _struct(type_: Any, of: type | None) -> type | None:
    """Return the Struct with common texts that a field holds, itself or in a tuple; None if it holds none."""
    if of is None:
        found = [one for one in (get_args(type_) or (type_,)) if one is not type(None)]
    else:
        found = list(get_args(type_)[:1]) if getattr(type_, "__origin__", None) is of and get_args(type_)[1:] == (...,) else []
    if len(found) == 1 and isinstance(found[0], type) and issubclass(found[0], msgspec.Struct) and not _plan(found[0]).empty:
        return found[0]
    return None
