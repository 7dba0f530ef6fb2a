"""Rules for annotations of pods and of their templates that mean something: of profiles, of the cost of a deletion, of mirror pods. In Kubernetes' words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from labctl.resources import fields
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1.mount_rules import local_path

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_MIRROR = "kubernetes.io/config.mirror"
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"
_ON_DISK = "localhost/"
_SECCOMP_PROFILES = ("runtime/default", "docker/default", "unconfined")
_APPARMOR_PROFILES = ("", "runtime/default", "unconfined")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,9}")


def of_values(path: str, said: Mapping[str, str]) -> Iterator[FieldError]:
    """Validates what can be judged by the annotations alone."""
    cost = said.get(DELETION_COST)
    if cost is not None and not (_INTEGER.fullmatch(cost) and -(2**31) <= int(cost) < 2**31):
        yield fields.invalid(f"{path}[{DELETION_COST}]", cost, "must be a 32bit integer")
    for key, value in said.items():
        if key == _SECCOMP_POD or key.startswith(_SECCOMP):
            yield from _seccomp(f"{path}.{key}", value)
        elif key.startswith(_APPARMOR) and value not in _APPARMOR_PROFILES and not value.startswith(_ON_DISK):
            yield fields.invalid(f"{path}[{key}]", value, f"invalid AppArmor profile name: {fields.shown(value)}")


def _seccomp(path: str, profile: str) -> Iterator[FieldError]:
    if profile.startswith(_ON_DISK):
        yield from local_path(path, profile.removeprefix(_ON_DISK))
    elif profile not in _SECCOMP_PROFILES:
        yield fields.invalid(path, profile, "must be a valid seccomp profile")


def of_spec(path: str, said: Mapping[str, str], spec: Object) -> Iterator[FieldError]:
    """Validates what depends on the pod's spec: a mirror pod has a node, and a profile belongs to a container."""
    if _MIRROR in said and not spec.get("nodeName"):
        yield fields.invalid(f"{path}[{_MIRROR}]", said[_MIRROR], "must set spec.nodeName if mirror pod annotation is set")
    profiles = [key for key in said if key.startswith(_APPARMOR)]
    there = _containers(spec) if profiles else ()
    for key in profiles:
        name = key.removeprefix(_APPARMOR)
        if name not in there:
            yield fields.invalid(f"{path}[{key}]", name, "container not found")


def depend(said: Collection[str]) -> bool:
    """Tells whether `of_spec` has anything to say about annotations with these keys."""
    return any(key == _MIRROR or key.startswith(_APPARMOR) for key in said)


def changed(path: str, new: Mapping[str, str], old: Mapping[str, str]) -> Iterator[FieldError]:
    """Validates that an update leaves alone what is fixed when a pod is made."""
    for key in {**old, **new}:
        if new.get(key) == old.get(key) or not depend((key,)):
            continue
        verb = "add" if key not in old else "remove or update"
        what = "mirror pod annotation" if key == _MIRROR else "AppArmor annotations"
        yield fields.forbidden(f"{path}[{key}]", f"may not {verb} {what}")


def _containers(spec: Object) -> Collection[str]:
    return {c.get("name") for part in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(part) or ()}
