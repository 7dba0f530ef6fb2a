"""What kind of machine this is: some faults must not be made where the machine shares what they break with its host."""

from __future__ import annotations

import os

_FIRST = {"ipc": 0xEFFFFFFF, "uts": 0xEFFFFFFE, "pid": 0xEFFFFFFC}
_SYS_TIME = 1 << 25  # CAP_SYS_TIME's bit


def is_container() -> bool:
    """Tell whether the machine is a container or a machine of namespaces, which shares its host's kernel, clock and file system.

    A virtual or physical machine has the kernel's first namespaces, whose numbers are fixed (include/linux/proc_ns.h).
    """
    try:
        return any(os.stat(f"/proc/1/ns/{kind}").st_ino != number for kind, number in _FIRST.items())
    except PermissionError:  # root of a machine of its own may look
        return True


def may_set_clock() -> bool:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        held = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return bool(held & _SYS_TIME)
