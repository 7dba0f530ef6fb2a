"""Rules for ephemeral containers: what `kubectl debug` adds to a running pod. The subresource `ephemeralcontainers` adds them; nothing changes or removes them.

Kubernetes' words: validateEphemeralContainers and ValidatePodEphemeralContainersUpdate.
"""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1 import container_rules

PATH = "spec.ephemeralContainers"
MIRROR = "kubernetes.io/config.mirror"
_FORBIDDEN = (
    *("ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"),
    *("restartPolicy", "restartPolicyRules", "resizePolicy"),
)
_NOT_EPHEMERAL = "cannot be set for an Ephemeral Container"


def containers(path: str, said: Object) -> Iterator[FieldError]:
    """Validates the ephemeral containers of a pod's spec. They share one set of names with all other containers."""
    others = {c.get("name", "") for part in ("containers", "initContainers") for c in said.get(part, ())}
    taken, pod = set(others), container_rules.of_pod(said)
    for index, c in enumerate(said.get("ephemeralContainers", ())):
        at, name, target = f"{path}[{index}]", c.get("name", ""), c.get("targetContainerName", "")
        allowed = {key: value for key, value in c.items() if key not in _FORBIDDEN}
        yield from container_rules.container(at, allowed, pod, init=False)
        if name and name in taken:
            yield fields.duplicate(f"{at}.name", name)
        taken.add(name)
        if target and target not in others:
            yield fields.not_found(f"{at}.targetContainerName", target)
        for key in _FORBIDDEN:
            if c.get(key):
                yield fields.forbidden(f"{at}.{key}", _NOT_EPHEMERAL)
        for position, mount in enumerate(c.get("volumeMounts", ())):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    yield fields.forbidden(f"{at}.volumeMounts[{position}].{key}", _NOT_EPHEMERAL)


def merged(sent: Object, old: Object) -> Object:
    """Returns the old spec of a pod with the ephemeral containers of the spec that was sent."""
    kept = {name: value for name, value in old.items() if name != "ephemeralContainers"}
    given = sent.get("ephemeralContainers")
    return kept if given is None else kept | {"ephemeralContainers": given}


def added(new: Object, old: Object) -> Iterator[FieldError]:
    """Validates a write of the subresource: `new` and `old` are pods, and only the ephemeral containers may differ."""
    if MIRROR in old["metadata"].get("annotations", {}):
        yield fields.forbidden("", "static pods do not support ephemeral containers")
        return
    spec = new["spec"]
    yield from containers(PATH, spec)
    kept = {c.get("name", ""): c for c in spec.get("ephemeralContainers", ())}
    for before in old["spec"].get("ephemeralContainers", ()):
        name = before["name"]
        if name not in kept:
            yield fields.forbidden(PATH, f'existing ephemeral containers "{name}" may not be removed\n')
        elif kept[name] != before:
            yield fields.forbidden(PATH, f'existing ephemeral containers "{name}" may not be changed\n')
