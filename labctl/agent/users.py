"""Who a container runs as: securityContext, else the image's USER, looked up in the image's own passwd and group files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import beneath
from .environment import ConfigError

Object = Dict[str, Any]

STRICT = "Strict"
"""A supplementalGroupsPolicy: groups of the image's own do not count (KEP-3619)."""


@dataclass(frozen=True)
class User:
    uid: int
    gid: int
    groups: Tuple[int, ...] = ()


def resolve(context: Object, pod_context: Object, image_user: str, layers: Sequence[str]) -> User:
    """Return the user of a container. `layers` are the image's folders, lowest first. Raises ConfigError."""
    asked_uid = context.get("runAsUser", pod_context.get("runAsUser"))
    asked_gid = context.get("runAsGroup", pod_context.get("runAsGroup"))
    name, _, group = image_user.partition(":")
    if asked_uid is not None:
        name, group = str(asked_uid), ""
    people = _table(layers, "etc/passwd")
    entry = _find(people, name or "0", 2)
    uid = _number(name or "0", entry, 2, "user")
    gid = int(entry[3]) if entry and not group else _number(group or "0", _find(_table(layers, "etc/group"), group or "0", 2), 2, "group")
    extra = list(pod_context.get("supplementalGroups") or ())
    if pod_context.get("fsGroup") is not None:
        extra.append(pod_context["fsGroup"])
    if entry and pod_context.get("supplementalGroupsPolicy") != STRICT:
        extra += [
            int(each[2]) for each in _table(layers, "etc/group") if len(each) > 3 and entry[0] in each[3].split(",") and _is_number(each[2])
        ]
    chosen_gid = gid if asked_gid is None else asked_gid
    return User(uid, chosen_gid, tuple(sorted(set(extra) - {chosen_gid})))


def may_be_root(context: Object, pod_context: Object, image_user: str) -> str:
    """Why a container that asks for runAsNonRoot can't be run, in the kubelet's words; "" if it can.

    A user's name proves nothing: the image's passwd file could call root by any name.
    """
    asked_uid = context.get("runAsUser", pod_context.get("runAsUser"))
    if asked_uid is not None:
        return "container's runAsUser breaks non-root policy" if asked_uid == 0 else ""
    name = image_user.partition(":")[0]
    if name and not _is_number(name):
        return f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
    return "container has runAsNonRoot and image will run as root" if int(name or 0) == 0 else ""


def _is_number(text: str) -> bool:
    """Tell whether the text is a number of a user or group: the image wrote it, and `²` is a digit to Python, too."""
    return text.isascii() and text.isdigit() and len(text) <= 10


def _number(name: str, entry: Optional[List[str]], column: int, what: str) -> int:
    if _is_number(name):
        return int(name)
    if entry is None:
        raise ConfigError(f"unable to find {what} {name}: no matching entries in {'passwd' if what == 'user' else 'group'} file")
    return int(entry[column])


def _find(table: List[List[str]], name: str, column: int) -> Optional[List[str]]:
    for entry in table:
        if entry[0] == name or (_is_number(name) and entry[column] == name):
            return entry
    return None


def _table(layers: Sequence[str], path: str) -> List[List[str]]:
    """Return the file as the overlay would show it. Links that lead out of the layer are not followed, and only regular files are read."""
    for layer in reversed(layers):
        try:
            text = beneath.read_below(layer, path).decode("utf-8", "replace")
        except OSError:
            continue
        entries = [line.split(":") for line in text.splitlines()]
        return [entry for entry in entries if len(entry) > 3 and _is_number(entry[2]) and (_is_number(entry[3]) or path.endswith("group"))]
    return []
