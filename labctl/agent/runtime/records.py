"""How a pod lies on the machine's disk, and how its state is read from there. No call here changes anything.

ROOT/pods/UID/                         on a disk that can carry overlays
  sandbox.json                         the Sandbox; absent: never opened
  ns/{net,ipc,uts,user,pid}            its namespaces, held by bind mounts
  shm/                                 /dev/shm of all its containers
  containers/NAME/ATTEMPT/             a conmon bundle
    container.json  config.json        what was asked; for us, for crun
    rootfs/ upper/ work/               the overlay
    layers/N  mounts/N                 what is mounted for crun: layers and folders for users of the pod's own, sub-paths
    pid  conmon.pid  started           process ids; `started` is written after crun start: {"pid", "ticks", "at"}
    exits/ID  oom                      written by conmon: exit code; the kernel killed for memory
    refused                            written when the container can't be started as asked: {"message", "at"}
    attach  ctl                        conmon's socket and pipe
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ..linux import start_ticks
from .interface import Container, Limits, Pod, Sandbox, State

LOST_EXIT_CODE, LOST_REASON = 137, "ContainerStatusUnknown"
REFUSED_EXIT_CODE, REFUSED_REASON = 128, "StartError"


def container_id(uid: str, name: str, attempt: int) -> str:
    """Return 64 hexadecimal digits, as every container tool has them. The same attempt has the same id for every process that asks."""
    return hashlib.sha256(f"{uid}/{name}/{attempt}".encode()).hexdigest()


def read_json(path: str) -> Optional[Dict[str, Any]]:
    """Read a JSON object. Return None if it is missing, half written by a process that died, or no object."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def write_json(path: str, value: Any) -> None:
    """Whole or not at all, as far as another process can see."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(path + ".new", path)


def read_int(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def names(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


class Records:
    def __init__(self, root: str) -> None:
        self.root = os.path.join(root, "pods")

    def pod_dir(self, uid: str) -> str:
        return os.path.join(self.root, uid)

    def bundle(self, uid: str, name: str, attempt: int) -> str:
        return os.path.join(self.root, uid, "containers", name, str(attempt))

    def uids(self) -> List[str]:
        return names(self.root)

    def pod(self, uid: str) -> Pod:
        return Pod(uid, self.sandbox(uid), tuple(self._containers(uid)))

    def sandbox(self, uid: str) -> Optional[Sandbox]:
        found = read_json(os.path.join(self.pod_dir(uid), "sandbox.json"))
        return Sandbox(**{key: value for key, value in found.items() if key in Sandbox.__dataclass_fields__}) if found else None

    def _attempts(self, uid: str) -> Iterator[Tuple[str, int]]:
        """Names and numbers alone, oldest attempt first; nothing is read."""
        base = os.path.join(self.pod_dir(uid), "containers")
        for name in names(base):
            for attempt in sorted(int(each) for each in names(os.path.join(base, name)) if each.isdigit()):
                yield name, attempt

    def _containers(self, uid: str) -> List[Container]:
        found = (self.container(uid, name, attempt) for name, attempt in self._attempts(uid))
        return [each for each in found if each]

    def container(self, uid: str, name: str, attempt: int) -> Optional[Container]:
        bundle = self.bundle(uid, name, attempt)
        asked = read_json(os.path.join(bundle, "container.json"))
        if asked is None:
            return None
        limits = Limits(**{key: asked.get(key, 0) for key in Limits.__dataclass_fields__})
        kept = {key: asked[key] for key in ("image", "image_id", "log_path", "stop_signal", "delay_s", "message_path", "created_s")}
        user = (asked.get("uid", 0), asked.get("gid", 0), tuple(asked.get("groups") or ()))
        identity = container_id(uid, name, attempt)
        return Container(identity, uid, name, attempt, limits=limits, user=user, **kept, **_life(bundle, identity))

    def find(self, identity: str) -> Tuple[Optional[Container], str]:
        """Return a container by its id, and its bundle."""
        for uid in self.uids():
            for name, attempt in self._attempts(uid):
                if container_id(uid, name, attempt) == identity:
                    return self.container(uid, name, attempt), self.bundle(uid, name, attempt)
        return None, ""


def _life(bundle: str, identity: str) -> Dict[str, Any]:
    """Return where in its life a container is, from its files and the processes that they name."""
    refused = read_json(os.path.join(bundle, "refused"))
    if refused:
        end = {"state": State.EXITED, "finished_s": refused["at"], "exit_code": REFUSED_EXIT_CODE}
        return {**end, "start_error": refused["message"]}
    started = read_json(os.path.join(bundle, "started"))
    began: Dict[str, Any] = {"started_s": started["at"], "pid": started["pid"]} if started else {}
    ended = _ended(bundle, identity)
    if ended:
        return {**began, **ended}
    if started is None:
        return {"state": State.CREATED}
    if start_ticks(started["pid"]) == started["ticks"] or conmon_alive(bundle, identity):
        return {**began, "state": State.RUNNING}  # a conmon that lives will write the exit file in a moment
    ended = _ended(bundle, identity)  # again: conmon may have written it and ended since the first look
    lost = {"state": State.EXITED, "finished_s": started["at"], "exit_code": LOST_EXIT_CODE, "oom_killed": _oom(bundle), "lost": True}
    return {**began, **(ended or lost)}


def _ended(bundle: str, identity: str) -> Optional[Dict[str, Any]]:
    """Return what conmon wrote of the container's end, if it has. After a power cut its file may be there with nothing in it: that is no exit code 0."""
    try:
        with open(os.path.join(bundle, "exits", identity), encoding="ascii") as file:
            code, finished = int(file.read(16)), os.fstat(file.fileno()).st_mtime
    except (OSError, ValueError):
        return None
    return {"state": State.EXITED, "finished_s": finished, "exit_code": code, "oom_killed": _oom(bundle)}


def _oom(bundle: str) -> bool:
    return os.path.exists(os.path.join(bundle, "oom"))


def conmon_alive(bundle: str, identity: str) -> bool:
    """Tell whether the pid in conmon.pid is still this container's conmon, because pids are used again."""
    pid = read_int(os.path.join(bundle, "conmon.pid"))
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return identity.encode() in file.read()
    except OSError:
        return False
