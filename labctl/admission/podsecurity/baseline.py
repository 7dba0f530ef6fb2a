"""The checks of the level `baseline`: nothing that is known to give a pod its machine."""

from __future__ import annotations

from typing import Any

from labctl.admission.podsecurity.words import containers_named, context, every_container, names, one_or_more, quoted, setters, use, within
from labctl.resources.kind import Object

Violation = tuple[str, str] | None
"""What is wrong, and where; None is nothing."""

PROFILES = ("RuntimeDefault", "Localhost")
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_CAPABILITIES = frozenset(
    (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
        *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t")
_IPV4 = "net.ipv4."
_SYSCTLS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (0, ("kernel.shm_rmid_forced", *(_IPV4 + n for n in ("ip_local_port_range", "tcp_syncookies")))),
    (0, tuple(_IPV4 + n for n in ("ping_group_range", "ip_unprivileged_port_start"))),
    (27, (_IPV4 + "ip_local_reserved_ports",)),
    (29, tuple(_IPV4 + n for n in ("tcp_keepalive_time", "tcp_fin_timeout", "tcp_keepalive_intvl", "tcp_keepalive_probes"))),
    (32, (_IPV4 + "tcp_rmem", _IPV4 + "tcp_wmem")),
    (37, (_IPV4 + "tcp_slow_start_after_idle", _IPV4 + "tcp_notsent_lowat")),
)


def app_armor(metadata: Object, spec: Object) -> Violation:
    def bad(of: Object) -> Any:
        return of.get("appArmorProfile") and of["appArmorProfile"].get("type") not in PROFILES

    values = sorted({own["appArmorProfile"].get("type", "") for own in _contexts(spec) if bad(own)})
    who = setters(spec, bad)
    noted = sorted(
        f'{key}="{value}"'
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_APP_ARMOR) and value not in ("", "runtime/default") and not value.startswith("localhost/")
    )
    if noted:
        who.append(one_or_more("annotation", noted))
    if not who:
        return None
    wrong = [*values, *noted]
    return one_or_more("forbidden AppArmor profile", wrong), f"{' and '.join(who)} must not set AppArmor profile type to {quoted(wrong)}"


def capabilities(_metadata: Object, spec: Object) -> Violation:
    def added(container: Object) -> set[str]:
        return set(within(context(container), "capabilities", "add") or ()) - _CAPABILITIES

    found = names(spec, added)
    if not found:
        return None
    which = sorted(set().union(*(added(container) for container in every_container(spec))))
    return "non-default capabilities", f"{containers_named(found)} must not include {quoted(which)} in securityContext.capabilities.add"


def host_namespaces(_metadata: Object, spec: Object) -> Violation:
    found = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    return ("host namespaces", ", ".join(found)) if found else None


def host_path(_metadata: Object, spec: Object) -> Violation:
    found = [volume.get("name", "") for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return ("hostPath volumes", f"{one_or_more('volume', found)} {quoted(found)}") if found else None


def host_ports(_metadata: Object, spec: Object) -> Violation:
    def ports(container: Object) -> set[str]:
        return {str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")}

    found = names(spec, ports)
    if not found:
        return None
    which = sorted(set().union(*(ports(container) for container in every_container(spec))))
    return "hostPort", f"{containers_named(found)} {use(found)} {one_or_more('hostPort', which)} {', '.join(which)}"


def probe_hosts(_metadata: Object, spec: Object) -> Violation:
    """A probe of another host would be asked by the machine, from a network where the pod itself can't ask."""
    handlers = (("livenessProbe",), ("readinessProbe",), ("startupProbe",), ("lifecycle", "postStart"), ("lifecycle", "preStop"))

    def hosts(container: Object) -> set[str]:
        asked = (within(container, *path, way, "host") for path in handlers for way in ("httpGet", "tcpSocket"))
        return {host for host in asked if host}

    found = sorted(set(names(spec, hosts)))
    if not found:
        return None
    which = sorted(set().union(*(hosts(container) for container in every_container(spec))))
    what = "probe or lifecycle host"
    return what, f"{containers_named(found)} {use(found)} {one_or_more(what, which)} {quoted(which)}"


def privileged(_metadata: Object, spec: Object) -> Violation:
    found = names(spec, lambda container: context(container).get("privileged"))
    return ("privileged", f"{containers_named(found)} must not set securityContext.privileged=true") if found else None


def proc_mount(_metadata: Object, spec: Object) -> Violation:
    def bad(container: Object) -> bool:
        return context(container).get("procMount") not in (None, "Default")

    found = names(spec, bad)
    if not found:
        return None
    which = sorted({context(container)["procMount"] for container in every_container(spec) if bad(container)})
    return "procMount", f"{containers_named(found)} must not set securityContext.procMount to {quoted(which)}"


def proc_mount_of_users(metadata: Object, spec: Object) -> Violation:
    """Since 1.35: root of a namespace of users of its own may see all of /proc."""
    return None if own_users(spec) else proc_mount(metadata, spec)


def seccomp_notes(metadata: Object, spec: Object) -> Violation:
    """Before 1.19 profiles stood in annotations."""
    annotations = metadata.get("annotations") or {}
    keys = {_SECCOMP_POD, *(_SECCOMP_CONTAINER + container.get("name", "") for container in every_container(spec))}
    found = [f'{key}="{annotations[key]}"' for key in sorted(keys & set(annotations)) if not _allowed_note(annotations[key])]
    return ("seccompProfile", f"forbidden {one_or_more('annotation', found)} {', '.join(found)}") if found else None


def _allowed_note(value: str) -> bool:
    return value in ("runtime/default", "docker/default") or value.startswith("localhost/")


def seccomp(_metadata: Object, spec: Object) -> Violation:
    def bad(of: Object) -> Any:
        return of.get("seccompProfile") and of["seccompProfile"].get("type") not in PROFILES

    who = setters(spec, bad)
    if not who:
        return None
    values = sorted({own["seccompProfile"].get("type", "") for own in _contexts(spec) if bad(own)})
    return "seccompProfile", f"{' and '.join(who)} must not set securityContext.seccompProfile.type to {quoted(values)}"


def selinux(_metadata: Object, spec: Object) -> Violation:
    return _selinux(spec, _SELINUX_TYPES)


def selinux_31(_metadata: Object, spec: Object) -> Violation:
    return _selinux(spec, (*_SELINUX_TYPES, "container_engine_t"))


def _selinux(spec: Object, allowed: tuple[str, ...]) -> Violation:
    def options(of: Object) -> Object:
        said: Object = of.get("seLinuxOptions") or {}
        return said

    def bad(of: Object) -> bool:
        said = options(of)
        return (said.get("type") or "") not in allowed or bool(said.get("user") or said.get("role"))

    who = setters(spec, bad)
    if not who:
        return None
    said = [options(own) for own in _contexts(spec)]
    types = sorted({each["type"] for each in said if (each.get("type") or "") not in allowed})
    wrong = [f"{one_or_more('type', types)} {quoted(types)}"] if types else []
    wrong += [f"{part} may not be set" for part in ("user", "role") if any(each.get(part) for each in said)]
    return "seLinuxOptions", f"{' and '.join(who)} set forbidden securityContext.seLinuxOptions: {'; '.join(wrong)}"


def sysctls_of(minor: int) -> Any:
    """Returns the check as of a release: which settings of the kernel are a pod's own grew over the years."""
    allowed = {name for since, added in _SYSCTLS if since <= minor for name in added}

    def check(_metadata: Object, spec: Object) -> Violation:
        found = [one["name"] for one in context(spec).get("sysctls") or () if one.get("name") not in allowed]
        return ("forbidden sysctls", ", ".join(found)) if found else None

    return check


SYSCTLS = tuple((since, sysctls_of(since)) for since in sorted({since for since, _added in _SYSCTLS}))


def host_process(_metadata: Object, spec: Object) -> Violation:
    who = setters(spec, lambda of: within(of, "windowsOptions", "hostProcess"))
    return ("hostProcess", f"{' and '.join(who)} must not set securityContext.windowsOptions.hostProcess=true") if who else None


def own_users(spec: Object) -> bool:
    return spec.get("hostUsers") is False


def _contexts(spec: Object) -> list[Object]:
    return [context(spec), *(context(container) for container in every_container(spec))]
