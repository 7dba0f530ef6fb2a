"""Rules for `securityContext`, of a container and of a pod, and for a pod's operating system. Field errors in Kubernetes' words and order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1 import windows_rules
from labctl.resources.kinds.core_v1.mount_rules import local_path

_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_PROC_MOUNTS = ("Default", "Unmasked")
_APPARMOR_MAX = 4095
_OF_PODS = {
    "fsGroupChangePolicy": ("Always", "OnRootMismatch"),
    "supplementalGroupsPolicy": ("Merge", "Strict"),
    "seLinuxChangePolicy": ("MountOption", "Recursive"),
}
_SYSCTL_MAX = 253  # characters
_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?", re.ASCII)
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")
_NOT_ON_WINDOWS = "cannot be set for a windows pod"
_NEVER_ON_WINDOWS = (
    ("appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem"),
    ("privileged", "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup"),
)
_NEVER_IN_WINDOWS_PODS = (
    ("appArmorProfile", "seLinuxOptions", "seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls", "runAsUser", "runAsGroup"),
    ("supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy"),
)


NOT_OWN_USERS = "when `hostUsers` is false"


def of_container(path: str, context: Object, *, host_users: bool) -> Iterator[FieldError]:
    yield from _ids(path, context, "runAsUser", "runAsGroup")
    proc = context.get("procMount")
    if proc is not None:
        if proc not in _PROC_MOUNTS:
            yield fields.not_supported(f"{path}.procMount", proc, _PROC_MOUNTS)
        if host_users and proc == "Unmasked":
            yield fields.invalid(f"{path}.procMount", proc, "`hostUsers` must be false to use `Unmasked`")
    yield from _seccomp(f"{path}.seccompProfile", context.get("seccompProfile"))
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            yield fields.invalid(path, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
        if "CAP_SYS_ADMIN" in (context.get("capabilities") or {}).get("add", ()):
            yield fields.invalid(path, context, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")
    yield from _apparmor(f"{path}.appArmorProfile", context.get("appArmorProfile"))


def of_pod(path: str, said: Object) -> Iterator[FieldError]:
    """Validates a pod's securityContext, and what of the host's namespaces goes with what. `path` is that of the pod's spec."""
    at, context = f"{path}.securityContext", said.get("securityContext") or {}
    yield from _ids(at, context, "fsGroup", "runAsUser", "runAsGroup")
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        yield from names.checked(f"{at}.supplementalGroups[{index}]", group, _id)
    if said.get("hostPID") and said.get("shareProcessNamespace"):
        yield fields.invalid(f"{at}.shareProcessNamespace", True, "ShareProcessNamespace and HostPID cannot both be enabled")
    yield from _sysctls(f"{at}.sysctls", context.get("sysctls") or (), said)
    for name, allowed in _OF_PODS.items():
        if context.get(name) is not None and context[name] not in allowed:
            yield fields.not_supported(f"{at}.{name}", context[name], allowed)
    yield from _seccomp(f"{at}.seccompProfile", context.get("seccompProfile"))
    yield from _apparmor(f"{at}.appArmorProfile", context.get("appArmorProfile"))
    yield from windows_rules.options(f"{at}.windowsOptions", context.get("windowsOptions"))
    yield from windows_rules.host_processes(path, said)
    if said.get("hostUsers") is False:
        for name, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
            if said.get(name):
                yield fields.forbidden(f"{path}.{shown}", NOT_OWN_USERS)


def _ids(path: str, context: Object, *named: str) -> Iterator[FieldError]:
    for name in named:
        if context.get(name) is not None:
            yield from names.checked(f"{path}.{name}", context[name], _id)


def _id(number: int) -> list[str]:
    return [] if 0 <= number < 2**31 else ["must be between 0 and 2147483647, inclusive"]


def _seccomp(path: str, profile: Object | None) -> Iterator[FieldError]:
    if profile is None:
        return
    kind, file = profile.get("type", ""), profile.get("localhostProfile")
    if not kind:
        yield fields.required(f"{path}.type", "type is required when seccompProfile is set")
    elif kind not in _PROFILES:
        yield fields.not_supported(f"{path}.type", kind, _PROFILES)
    if file is None:
        if kind == "Localhost":
            yield fields.required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")
    elif kind == "Localhost":
        yield from local_path(f"{path}.localhostProfile", file)
    else:
        yield fields.invalid(f"{path}.localhostProfile", profile, "can only be set when seccomp type is Localhost")


def _apparmor(path: str, profile: Object | None) -> Iterator[FieldError]:
    if profile is None:
        return
    kind, file = profile.get("type", ""), profile.get("localhostProfile")
    at = f"{path}.localhostProfile"
    if not kind:
        yield fields.required(f"{path}.type", "type is required when appArmorProfile is set")
    elif kind not in _PROFILES:
        yield fields.not_supported(f"{path}.type", kind, _PROFILES)
    elif kind != "Localhost":
        if file is not None:
            yield fields.invalid(at, file, "can only be set when AppArmor type is Localhost")
    elif file is None or not file:
        yield fields.required(at, "must be set when AppArmor type is Localhost")
    elif file != file.strip():
        yield fields.invalid(at, file, "must not be padded with whitespace")
    elif len(file) > _APPARMOR_MAX:
        yield fields.too_long(at, _APPARMOR_MAX)


def _sysctls(path: str, sysctls: Sequence[Object], said: Object) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, each in enumerate(sysctls):
        at, name = f"{path}[{index}].name", each.get("name", "")
        plain = name.replace("/", ".")
        if not name:
            yield fields.required(at)
        elif len(name) > _SYSCTL_MAX or not _SYSCTL.fullmatch(name):
            yield fields.invalid(at, name, f"must have at most {_SYSCTL_MAX} characters and match regex ^{_SYSCTL.pattern}$")
        elif plain in seen:
            yield fields.duplicate(at, name)
        if said.get("hostNetwork") and plain.startswith("net."):
            yield fields.invalid(at, name, "may not be specified when 'hostNetwork' is true")
        elif said.get("hostIPC") and (plain.startswith(_IPC_SYSCTLS) or plain == "kernel.sem"):
            yield fields.invalid(at, name, "may not be specified when 'hostIPC' is true")
        seen.add(plain)


def operating_system(path: str, said: Object) -> Iterator[FieldError]:
    """Validates `spec.os`, and that nothing is said that only another system has."""
    if said.get("os") is None:
        return
    os = said["os"].get("name", "")
    if not os:
        yield fields.required(f"{path}.os.name", "cannot be empty")
    elif os not in ("linux", "windows"):
        yield fields.not_supported(f"{path}.os", os, ("linux", "windows"))
    elif os == "linux":
        for at, context in _contexts(path, said):
            if context.get("windowsOptions") is not None:
                yield fields.forbidden(f"{at}.windowsOptions", "windows options cannot be set for a linux pod")
    else:
        yield from _windows(path, said)


def _contexts(path: str, said: Object) -> Iterator[tuple[str, Object]]:
    """The securityContexts of a pod and of its containers, with their paths."""
    yield f"{path}.securityContext", said.get("securityContext") or {}
    for part in ("initContainers", "containers", "ephemeralContainers"):
        for index, c in enumerate(said.get(part) or ()):
            yield f"{path}.{part}[{index}].securityContext", c.get("securityContext") or {}


def _windows(path: str, said: Object) -> Iterator[FieldError]:
    for name in ("hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"):
        if said.get(name) is not None and (said[name] or name in ("hostUsers", "shareProcessNamespace")):
            yield fields.forbidden(f"{path}.{name}", _NOT_ON_WINDOWS)
    for index, (at, context) in enumerate(_contexts(path, said)):
        for names_ in _NEVER_ON_WINDOWS if index else _NEVER_IN_WINDOWS_PODS:
            for name in names_:
                if context.get(name) is not None and context[name] != []:
                    yield fields.forbidden(f"{at}.{name}", _NOT_ON_WINDOWS)
