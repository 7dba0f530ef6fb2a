"""Keeps a machine's root from the host's kernel where neither a capability nor a namespace does: BPF programs at hooks of the security modules.

Root on a machine may mount file systems, because pods need it, so it may mount another /proc and /sys, or debugfs, and write what belongs to the host.
A mount's type is a text behind a pointer, which a seccomp filter can't judge. The kernel's own hooks can: they see the superblock itself, and a program
at a hook is asked only for processes of the cgroup to which it is attached (BPF_LSM_CGROUP, Linux 6.0).

    sb_set_mnt_opts  a new mount: refused for file systems of which the kernel has one for all
    file_open        writing: refused in sysfs, and in those files of /proc that are neither a process's nor a sysctl (labctl/providers/namespace/sysctls.py)
    inode_setattr    owner and mode of both: refused
    sb_remount       refused for a file system on a block device: the machine's storage is a folder of the host's
    bpf              refused, but for what a container runtime needs to limit devices

It needs `bpf` among the host's security modules (/sys/kernel/security/lsm) and BTF; a host that has not is protected less (`labctl doctor` says so).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import ProviderError
from labctl.providers.namespace import bpf, btf
from labctl.providers.namespace.bpf import ADD, ANSWER, CALL, EXIT, JA, JEQW, JNEW, LDXDW, LDXW, MOV, MOVR, STACK, STDW

MODULES = Path("/sys/kernel/security/lsm")

Fields = Mapping[str, Mapping[str, int]]

_SYSFS, _PROC = 0x62656572, 0x9FA0
SHARED = {
    "debugfs": 0x64626720,
    "tracefs": 0x74726163,
    "securityfs": 0x73636673,
    "configfs": 0x62656570,
    "efivarfs": 0xDE5E81E4,
    "pstore": 0x6165676C,
    "binfmt_misc": 0x42494E4D,
    "fusectl": 0x65735543,
    "selinuxfs": 0xF97CFF8C,
    "smackfs": 0x43415D53,
    "resctrl": 0x7655821,
    "xenfs": 0xABBA1974,
}
"""File systems of which the kernel has one for all, by the number in their superblock (linux/magic.h). devtmpfs is told by its name: its number is tmpfs's."""

_WRITING = 2  # FMODE_WRITE
_OWNER_OR_MODE = 0b111  # ATTR_MODE, ATTR_UID, ATTR_GID
_LOAD_PROGRAM, _FOR_DEVICES = 5, 15
_HARMLESS = (8, 9, 13, 15, 16)  # attach, detach, get a program by its number, look at it, ask which are attached
_READ_KERNEL = 113  # bpf_probe_read_kernel
_FIRST, _SECOND, _THIRD = 6, 7, 8  # registers that a call does not change
STRUCTURES = ("file", "inode", "super_block", "proc_inode", "file_system_type", "dentry", "iattr")


@dataclass(frozen=True)
class _Step:
    opcode: int
    to: int = 0
    source: int = 0
    offset: int = 0
    constant: int = 0
    jump: str = ""  # to the steps that ALLOW or REFUSE


ALLOW, REFUSE = "allow", "refuse"


def protect(cgroup: Path) -> bool:
    """Attach all programs to the version 2 cgroup. Return whether the kernel now protects itself from its processes.

    It takes them also where it asks nobody at its hooks, so they count only if `bpf` is among its security modules.
    """
    try:
        layout = btf.layout([f"bpf_lsm_{name}" for name in HOOKS], STRUCTURES)
        for name, steps in HOOKS.items():
            function = f"bpf_lsm_{name}"
            code = assemble([*steps(layout.arguments[function], layout.fields)])
            bpf.attach(cgroup, bpf.hook(layout.functions[function]), code)
    except (ProviderError, OSError, KeyError):
        return False
    return _asks()


def _asks() -> bool:
    try:
        return "bpf" in MODULES.read_text().strip().split(",")
    except OSError:  # securityfs is not mounted: nothing is known, so nothing is claimed
        return False


def assemble(steps: list[_Step]) -> bytes:
    """Return the instructions: the steps, then 1 (it may go on), then 0 (it may not). A last step without a jump goes on with 1."""
    places = {ALLOW: len(steps), REFUSE: len(steps) + 2}
    code = [
        bpf.instruction(step.opcode, step.to, step.source, places[step.jump] - at - 1 if step.jump else step.offset, step.constant)
        for at, step in enumerate(steps)
    ]
    ends = (bpf.instruction(MOV, ANSWER, constant=1), bpf.instruction(EXIT), bpf.instruction(MOV, ANSWER), bpf.instruction(EXIT))
    return b"".join([*code, *ends])


def _mounts(arguments: Mapping[str, int], fields: Fields) -> Iterator[_Step]:
    yield _Step(LDXDW, _FIRST, 1, 8 * arguments["super_block"])
    yield _Step(LDXDW, _SECOND, _FIRST, fields["super_block"]["s_magic"])
    for number in SHARED.values():
        yield _Step(JEQW, _SECOND, constant=_signed(number), jump=REFUSE)
    yield _Step(LDXDW, _SECOND, _FIRST, fields["super_block"]["s_type"])
    yield _Step(LDXDW, 3, _SECOND, fields["file_system_type"]["name"])
    yield from _read_kernel()
    for at, word in ((-8, b"devt"), (-4, b"mpfs")):
        yield _Step(LDXW, _SECOND, STACK, at)
        yield _Step(JNEW, _SECOND, constant=int.from_bytes(word, "little"), jump=ALLOW)
    yield _Step(JA, jump=REFUSE)


def _opens(arguments: Mapping[str, int], fields: Fields) -> Iterator[_Step]:
    yield _Step(LDXDW, _FIRST, 1, 8 * arguments["file"])
    yield from _only_with(_WRITING, _FIRST, fields["file"]["f_mode"])
    yield _Step(LDXDW, _SECOND, _FIRST, fields["file"]["f_inode"])
    yield _Step(LDXDW, _THIRD, _SECOND, fields["inode"]["i_sb"])
    yield _Step(LDXDW, _THIRD, _THIRD, fields["super_block"]["s_magic"])
    yield _Step(JEQW, _THIRD, constant=_SYSFS, jump=REFUSE)
    yield _Step(JNEW, _THIRD, constant=_PROC, jump=ALLOW)
    yield _Step(MOVR, 3, _SECOND)  # the inode is a part of what /proc keeps of it: its entry, where it is neither a process's nor a sysctl
    yield _Step(ADD, 3, constant=fields["proc_inode"]["pde"] - fields["proc_inode"]["vfs_inode"])
    yield from _read_kernel()
    yield _Step(LDXDW, _THIRD, STACK, -8)
    yield _Step(bpf.JNE, _THIRD, constant=0, jump=REFUSE)


def _attributes(arguments: Mapping[str, int], fields: Fields) -> Iterator[_Step]:
    yield _Step(LDXDW, _FIRST, 1, 8 * arguments["dentry"])
    yield _Step(LDXDW, _SECOND, 1, 8 * arguments["iattr"])
    yield from _only_with(_OWNER_OR_MODE, _SECOND, fields["iattr"]["ia_valid"])
    yield _Step(LDXDW, _FIRST, _FIRST, fields["dentry"]["d_sb"])
    yield _Step(LDXDW, _FIRST, _FIRST, fields["super_block"]["s_magic"])
    for number in (_SYSFS, _PROC):
        yield _Step(JEQW, _FIRST, constant=number, jump=REFUSE)


def _remounts(arguments: Mapping[str, int], fields: Fields) -> Iterator[_Step]:
    yield _Step(LDXDW, _FIRST, 1, 8 * arguments["super_block"])
    yield _Step(LDXDW, _FIRST, _FIRST, fields["super_block"]["s_bdev"])
    yield _Step(bpf.JNE, _FIRST, constant=0, jump=REFUSE)


def _programs(arguments: Mapping[str, int], _fields: Fields) -> Iterator[_Step]:
    yield _Step(LDXW, _FIRST, 1)
    for command in _HARMLESS:
        yield _Step(JEQW, _FIRST, constant=command, jump=ALLOW)
    yield _Step(JNEW, _FIRST, constant=_LOAD_PROGRAM, jump=REFUSE)
    yield _Step(LDXDW, _FIRST, 1, 8 * arguments["bpf_attr"])
    yield _Step(LDXW, _FIRST, _FIRST)
    yield _Step(JNEW, _FIRST, constant=_FOR_DEVICES, jump=REFUSE)


HOOKS: Mapping[str, Callable[[Mapping[str, int], Fields], Iterator[_Step]]] = {
    "sb_set_mnt_opts": _mounts,
    "file_open": _opens,
    "inode_setattr": _attributes,
    "sb_remount": _remounts,
    "bpf": _programs,
}


def _only_with(bits: int, pointer: int, field: int) -> Iterator[_Step]:
    """Go on only if the field has any of these bits; without them it is allowed. Uses the second register."""
    yield _Step(LDXW, _SECOND, pointer, field)
    yield _Step(bpf.AND, _SECOND, constant=bits)
    yield _Step(JEQW, _SECOND, constant=0, jump=ALLOW)


def _read_kernel() -> Iterator[_Step]:
    """Read eight bytes of the kernel's memory, where register 3 points, onto the end of the stack. They are 0 if there is nothing."""
    yield _Step(STDW, STACK, offset=-8)
    yield _Step(MOVR, 1, STACK)
    yield _Step(ADD, 1, constant=-8)
    yield _Step(MOV, 2, constant=8)
    yield _Step(CALL, constant=_READ_KERNEL)


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number
