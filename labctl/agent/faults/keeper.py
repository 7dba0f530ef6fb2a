"""A process that keeps up a fault after the request that began it: it burns CPU or memory, or limits new containers.

Its record lies in RUN, which a reboot empties, as a reboot ends the process. It says which process it is and what must be undone after it. The process
leads a session of its own, so that it and its workers are ended together; a worker also ends when its leader does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import time
import traceback
from typing import Any, Callable, Dict, List, Optional

from .. import linux
from ..runtime.records import names, read_json, write_json

RUN = "/run/labctl-faults"
NAME = b"labctl-fault"
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
READY_BYTES_MAX = 4096
END_S = 5.0
WRITE_TRIES = 100

Undo = Callable[[Dict[str, Any]], None]
Ready = Callable[[], None]


def record(fault: str) -> Optional[Dict[str, Any]]:
    return read_json(_path(fault))


def faults() -> List[str]:
    """Return the faults that have a record."""
    return [each[: -len(".json")] for each in names(RUN) if each.endswith(".json")]


def alive(found: Dict[str, Any]) -> bool:
    return bool(found.get("pid")) and linux.start_ticks(found["pid"]) == found["ticks"]


def begin(fault: str, kept: Dict[str, Any], work: Callable[[Ready], None], undo: Undo) -> None:
    """Start the process, and return when it said that it is ready. `kept` is for `undo`, in the record. Raises OSError with the process's own words."""
    _write(fault, {**kept, "pid": 0, "ticks": 0})
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _detach(fault, kept, work, undo, writing)
    os.close(writing)
    os.waitpid(child, 0)
    said = os.read(reading, READY_BYTES_MAX).decode(errors="replace")  # one message: its workers hold the other end, too
    os.close(reading)
    if said != "ready":
        end(fault, undo)
        raise OSError(said or "the process that keeps up the fault ended at once")


def end(fault: str, undo: Undo) -> bool:
    """End the process and its workers, and undo what they did. Whether there was anything. It may be repeated."""
    found = record(fault)
    if found is None:
        return False
    if alive(found):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(found["pid"], signal.SIGKILL)
        _wait_for(found["pid"])
    undo(found)
    _forget(fault)
    return True


def _wait_for(group: int) -> None:
    """Wait until no process of this process group lives. Raises OSError if one goes on."""
    until = time.monotonic() + END_S
    while any(linux.process_group(int(each)) == group for each in os.listdir("/proc") if each.isdigit()):
        if time.monotonic() > until:
            raise OSError(f"the processes of group {group}, which keep up the fault, do not end")
        time.sleep(0.005)


def _forget(fault: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(fault))
    with contextlib.suppress(OSError):
        os.rmdir(RUN)  # when it was the last


def _write(fault: str, found: Dict[str, Any]) -> None:
    """Write a record. The folder may go at any moment, because the keeper of another fault ended."""
    for left in reversed(range(WRITE_TRIES)):
        try:
            os.makedirs(RUN, mode=0o700, exist_ok=True)
            write_json(_path(fault), found)
            return
        except (FileNotFoundError, FileExistsError):  # makedirs says the latter if it goes between two looks
            if not left:
                raise


def _path(fault: str) -> str:
    return os.path.join(RUN, f"{fault}.json")


def _detach(fault: str, kept: Dict[str, Any], work: Callable[[Ready], None], undo: Undo, writing: int) -> None:
    """Become a session of its own in the child, do the work, and undo it. It never returns."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_NAME, NAME, 0, 0, 0)
        teller = _Teller(_only_descriptor(writing))
        _write(fault, {**kept, "pid": os.getpid(), "ticks": linux.start_ticks(os.getpid())})
        try:
            work(lambda: teller.tell("ready"))
        except OSError as error:
            teller.tell(str(error))
        finally:
            undo(kept)
            _forget(fault)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


class _Teller:
    """Tells whoever began the fault one thing: that it is ready, or why not. What comes later is nobody's: it would only be read as a part of the first."""

    def __init__(self, writing: int) -> None:
        self._writing = writing
        self._told = False

    def tell(self, text: str) -> None:
        if not self._told:
            self._told = True
            with contextlib.suppress(OSError):  # nobody listens any more
                os.write(self._writing, text.encode()[:READY_BYTES_MAX])


def _only_descriptor(kept: int) -> int:
    """Close all others, so that the SSH connection does not wait for this process."""
    os.chdir("/")
    quiet = os.open("/dev/null", os.O_RDWR)
    for descriptor in range(3):
        os.dup2(quiet, descriptor)
    os.dup2(kept, 3)
    os.closerange(4, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65_536))
    return 3


def worker(cgroup_files: List[str], work: Callable[[], None]) -> int:
    """Fork a process that puts itself into these control groups and works there until it is killed. Its pid. Raises OSError if a group is not to be joined."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            for path in cgroup_files:
                with open(path, "w", encoding="ascii") as file:
                    file.write("0")
            os.close(writing)
            work()
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.write(writing, str(error).encode()[:READY_BYTES_MAX])
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read(READY_BYTES_MAX)
    if said:
        os.waitpid(child, 0)
        raise OSError(said.decode(errors="replace"))
    return child
