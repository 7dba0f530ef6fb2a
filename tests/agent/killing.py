"""Kills a piece of work at one chosen system call, as `kill -9` may: the work runs in a process of its own under ptrace.

Only calls that change something count: between two of them nothing on the machine differs. The process is killed when it enters the call,
so the call does not happen. Everything that the work started (conmon, crun) lives on, as it does when an agent is killed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
import traceback
from collections.abc import Callable

_TRACEME, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
_SYSGOOD, _TRACECLONE, _EXITKILL = 1, 8, 1 << 20
_WALL = 0x40000000
_CREATE = 0o100
_OPENAT, _OPEN = 257, 2
_CHANGING = {
    *(1, 18, 20, 40, 44, 46, 56, 58, 62, 435),  # write, pwrite64, writev, sendfile, sendto, sendmsg, clone, vfork, kill, clone3
    *(76, 77, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94),  # truncate ... lchown
    *(133, 165, 166, 170, 188, 189, 272, 280, 308),  # mknod, mount, umount2, sethostname, setxattr, unshare, utimensat, setns
    *(258, 259, 260, 263, 264, 265, 266, 268, 316, 424),  # the *at calls, renameat2, pidfd_send_signal
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def possible() -> bool:
    return platform.machine() == "x86_64" and sys.platform == "linux"


def killed_at(number: int, work: Callable[[], None]) -> bool:
    """Run `work` and kill it at its `number`th changing call (from 1). False: it was done before that; AssertionError if it failed by itself."""
    tracer = os.fork()
    if tracer == 0:
        os._exit(_trace(number, work))
    _, status = os.waitpid(tracer, 0)
    outcome = os.waitstatus_to_exitcode(status)
    assert outcome in (_KILLED, _DONE), f"the work failed by itself before its call {number}"
    return outcome == _KILLED


_DONE, _KILLED, _FAILED = 0, 10, 11


def _trace(number: int, work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        _libc.ptrace(_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(_FAILED)
        os._exit(_DONE)
    os.waitpid(child, 0)
    _libc.ptrace(_SETOPTIONS, child, None, _SYSGOOD | _TRACECLONE | _EXITKILL)
    _libc.ptrace(_SYSCALL, child, None, None)
    return _follow(child, number)


def _follow(child: int, left: int) -> int:
    """Let the process and its threads go from call to call; the exit status of this tracer."""
    while True:
        thread, status = os.waitpid(-1, _WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            if thread == child:
                return _DONE if status == 0 else _FAILED
            continue
        stopped_by = os.WSTOPSIG(status)
        if stopped_by == signal.SIGTRAP | 0x80:
            left -= _enters_a_change(thread)
            if left == 0:
                return _kill(child)
        told = 0 if stopped_by in (signal.SIGTRAP | 0x80, signal.SIGTRAP, signal.SIGSTOP) else stopped_by
        _libc.ptrace(_SYSCALL, thread, None, told)


def _kill(child: int) -> int:
    os.kill(child, signal.SIGKILL)
    while True:
        try:
            os.waitpid(-1, _WALL)
        except ChildProcessError:
            return _KILLED


def _enters_a_change(thread: int) -> bool:
    info = ctypes.create_string_buffer(88)
    if _libc.ptrace(_GET_SYSCALL_INFO, thread, len(info), ctypes.addressof(info)) <= 0 or info.raw[0] != 1:
        return False  # it leaves a call, or is gone
    call, first, second, third = struct.unpack_from("=QQQQ", info.raw, 24)
    if call in (_OPEN, _OPENAT):
        return bool((second if call == _OPEN else third) & _CREATE)
    if call == 1 and first in (1, 2):
        return False  # what is only said
    return call in _CHANGING
