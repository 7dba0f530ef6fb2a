"""What a mount says of mounts below it: whether they are read-only, too (`recursiveReadOnly`, KEP-3857), and who sees later ones (`mountPropagation`). Pure.

Used where a container is made and where its status is, which says what each mount got. A plain read-only mount leaves alone what lies mounted below it, as
on any Linux.
"""

from __future__ import annotations

from typing import Any, Dict, List

from .environment import ConfigError
from .runtime.interface import PRIVATE, SHARED, SLAVE

Object = Dict[str, Any]
_PROPAGATION = {"None": PRIVATE, "HostToContainer": SLAVE, "Bidirectional": SHARED}


def propagation(mount: Object) -> str:
    return _PROPAGATION[mount.get("mountPropagation") or "None"]


def is_recursive(mount: Object, possible: bool) -> bool:
    """Tell whether all below the mount becomes read-only. Raises ConfigError if it must and the machine can't."""
    wanted = mount.get("recursiveReadOnly") or "Disabled"
    if wanted == "Enabled" and not possible:
        words = f"volume {mount['name']!r} requested recursive read-only mode, but it is not supported by the runtime"
        raise ConfigError("failed to resolve recursive read-only mode: " + words.replace("'", '"'))
    return possible and wanted != "Disabled"


def told(container: Object, possible: bool) -> List[Object]:
    """Return `volumeMounts` of the container's status: each mount of its spec, a read-only one with the mode that it got."""
    return [{"name": each["name"], "mountPath": each["mountPath"], **_mode(each, possible)} for each in container.get("volumeMounts") or ()]


def _mode(mount: Object, possible: bool) -> Object:
    if not mount.get("readOnly"):
        return {}
    recursive = possible and (mount.get("recursiveReadOnly") or "Disabled") != "Disabled"
    return {"readOnly": True, "recursiveReadOnly": "Enabled" if recursive else "Disabled"}
