"""A ContainerSpec as the OCI runtime configuration that crun reads. Pure."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Sequence

from ..cgroups import CPU_PERIOD_US
from . import seccomp, userns
from .interface import PRIVATE, SHARED, SLAVE, ContainerSpec, Mount

DEFAULT_CAPABILITIES = (
    "CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD CAP_NET_BIND_SERVICE CAP_NET_RAW "
    "CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT"
).split()
ALL_CAPABILITIES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE "
    "CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT "
    "CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE "
    "CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ"
).split()
"""In the kernel's order: the index is the capability's number."""

_MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_PROPAGATIONS = (PRIVATE, SLAVE, SHARED)
_SYSTEM_MOUNTS: Sequence[Dict[str, Any]] = (
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
)


def held_capabilities(status: str) -> List[str]:
    """Return what this process may pass on, from the text of /proc/self/status. A machine may hold fewer capabilities than the kernel knows."""
    for line in status.splitlines():
        if line.startswith("CapPrm:"):
            bits = int(line.split()[1], 16)
            return [name for number, name in enumerate(ALL_CAPABILITIES) if bits >> number & 1]
    return list(ALL_CAPABILITIES)


def configuration(
    spec: ContainerSpec, *, namespaces: Dict[str, str], cgroup: str, held: Sequence[str], first_user: int = 0
) -> Dict[str, Any]:
    """Return the OCI configuration. `first_user`: of those of the machine that are the users of the namespace `user`.

    `namespaces` maps a kind to the path of one that the pod shares. A kind with an empty path is made anew; an absent kind stays the machine's.
    """
    capabilities = [name for name in spec.capabilities if name in held]
    linux: Dict[str, Any] = {
        "namespaces": [_namespace(kind, path) for kind, path in namespaces.items()],
        "cgroupsPath": cgroup,
        "resources": _resources(spec),
        "rootfsPropagation": f"r{_widest(spec.mounts)}",
    }
    if first_user:
        mapped = [{"containerID": 0, "hostID": first_user, "size": userns.IDS}]
        linux.update(uidMappings=mapped, gidMappings=mapped)
    if spec.sysctls:
        linux["sysctl"] = dict(spec.sysctls)
    if not spec.privileged:
        linux.update(maskedPaths=list(_MASKED), readonlyPaths=list(_READ_ONLY))
    if spec.seccomp == seccomp.RUNTIME_DEFAULT:
        linux["seccomp"] = seccomp.profile(capabilities, os.uname().machine)
    return {
        "ociVersion": "1.0.0",
        "process": {
            "terminal": spec.tty,
            "user": {"uid": spec.uid, "gid": spec.gid, "additionalGids": list(spec.groups)},
            "args": list(spec.argv),
            "env": list(spec.env),
            "cwd": spec.cwd or "/",
            "noNewPrivileges": spec.no_new_privileges,
            "oomScoreAdj": spec.oom_score_adj,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        },
        "root": {"path": "rootfs", "readonly": spec.read_only_root},
        "mounts": [*_system_mounts(spec.privileged), *(_mount(each) for each in spec.mounts)],
        "linux": linux,
    }


def _widest(mounts: Sequence[Mount]) -> str:
    """Return what the container's copies of the machine's mounts must be, so that the mounts which are made of them can be what each of them asks for."""
    return max((each.propagation for each in mounts), key=_PROPAGATIONS.index, default=PRIVATE)


def _system_mounts(privileged: bool) -> List[Dict[str, Any]]:
    if not privileged:
        return list(_SYSTEM_MOUNTS)
    return [{**mount, "options": [option for option in mount["options"] if option != "ro"]} for mount in _SYSTEM_MOUNTS]


def _namespace(kind: str, path: str) -> Dict[str, str]:
    named = {"type": "network" if kind == "net" else kind}
    return {**named, "path": path} if path else named


def _mount(mount: Mount) -> Dict[str, Any]:
    options = list(mount.options)
    if mount.kind == "bind":
        options = ["rbind", f"r{mount.propagation}", *options]
    options.append("ro" if mount.read_only else "rw")
    if mount.recursive:
        options.append("rro")
    return {"destination": mount.target, "type": mount.kind, "source": mount.source, "options": options}


def _resources(spec: ContainerSpec) -> Dict[str, Any]:
    cpu: Dict[str, Any] = {"shares": spec.cpu_shares}
    if spec.cpu_quota_us:
        cpu.update(quota=spec.cpu_quota_us, period=CPU_PERIOD_US)
    resources: Dict[str, Any] = {"cpu": cpu, "devices": [{"allow": False, "access": "rwm"}]}
    if spec.memory_limit_bytes:
        resources["memory"] = {"limit": spec.memory_limit_bytes}
    return resources
