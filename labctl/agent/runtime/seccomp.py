"""The system calls that a container does not need and that widen what a fault in the kernel would give away: the profile RuntimeDefault. Pure.

What Docker's documentation lists as refused by its own default profile is refused here too, unless the container has the capability that the kernel
asks for. The rest is allowed, so a call that a later kernel brings is allowed as well: the profile is a list that one can read, and cheap to load.
"""

from __future__ import annotations

import errno
from typing import Any, Collection, Dict, List, Mapping

RUNTIME_DEFAULT, UNCONFINED = "RuntimeDefault", "Unconfined"

NEVER = (
    "_sysctl add_key create_module get_kernel_syms io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl migrate_pages "
    "move_pages nfsservctl pivot_root query_module request_key swapoff swapon sysfs uselib userfaultfd ustat vm86 vm86old"
).split()
UNLESS: Mapping[str, List[str]] = {
    "CAP_DAC_READ_SEARCH": ["open_by_handle_at"],
    "CAP_SYS_ADMIN": (
        "fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount open_tree quotactl quotactl_fd setdomainname "
        "sethostname setns umount umount2 unshare"
    ).split(),
    "CAP_SYS_BOOT": ["reboot"],
    "CAP_SYS_CHROOT": ["chroot"],
    "CAP_SYS_MODULE": ["delete_module", "finit_module", "init_module"],
    "CAP_SYS_NICE": ["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"],
    "CAP_SYS_PACCT": ["acct"],
    "CAP_SYS_PTRACE": ["kcmp", "pidfd_getfd", "process_madvise"],
    "CAP_SYS_RAWIO": ["ioperm", "iopl"],
    "CAP_SYS_TIME": ["clock_settime", "clock_settime64", "settimeofday", "stime"],
    "CAP_SYS_TTY_CONFIG": ["vhangup"],
    "CAP_BPF": ["bpf"],
    "CAP_PERFMON": ["perf_event_open"],
    "CAP_SYSLOG": ["syslog"],
}
"""Capability -> calls that are refused to a container without it. CAP_SYS_ADMIN stands for the last three too, as in the kernel."""

_ALSO_ADMIN = ("CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG")
_NAMESPACE_FLAGS = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)  # mnt cgroup uts ipc user pid net
_AF_VSOCK = 40
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}


def profile(capabilities: Collection[str], machine: str) -> Dict[str, Any]:
    """Return `linux.seccomp` of the OCI configuration, for these capabilities on this kind of processor (as `uname -m` names it)."""
    refused = list(NEVER)
    for capability, names in UNLESS.items():
        if capability not in capabilities and not (capability in _ALSO_ADMIN and "CAP_SYS_ADMIN" in capabilities):
            refused += names
    rules = [_refuse(*sorted(refused)), {**_refuse("socket"), "args": [{"index": 0, "value": _AF_VSOCK, "op": "SCMP_CMP_EQ"}]}]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules += [{**_refuse("clone"), "args": [_has(flag)]} for flag in _NAMESPACE_FLAGS]
        # its flags lie behind a pointer, so no filter can look at them; C libraries fall back to clone
        rules.append({**_refuse("clone3"), "errnoRet": errno.ENOSYS})
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": _ARCHITECTURES.get(machine, []), "syscalls": rules}


def _refuse(*names: str) -> Dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM}


def _has(flag: int) -> Dict[str, Any]:
    return {"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}
