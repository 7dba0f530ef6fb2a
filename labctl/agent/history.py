"""What a pod's containers were before this machine knew them: from the API's last status, for a pod whose records a boot (or a lost disk) took. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List

from .runtime.interface import Container, Pod, State
from .runtime.records import LOST_EXIT_CODE, LOST_REASON, REFUSED_REASON
from .times import parse

Object = Dict[str, Any]
STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def completed(found: Pod, pod: Object) -> Pod:
    """Return `found` with an ended attempt for each that the API has seen run and the machine does not have."""
    status = pod.get("status") or {}
    held = {each.id for each in found.containers}
    first = {each.name: each.attempt for each in reversed(found.containers)}
    gone: List[Container] = []
    for each in (each for part in STATUSES for each in status.get(part) or ()):
        identity = (each.get("containerID") or "").partition("://")[2]
        if identity and identity not in held and each.get("restartCount", 0) < first.get(each["name"], 1 << 31):
            gone.append(_of_status(found.uid, each))
    return dataclasses.replace(found, containers=(*gone, *found.containers)) if gone else found


def _of_status(uid: str, status: Object) -> Container:
    state = status.get("state") or {}
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    running = state.get("running")
    return Container(
        id=status["containerID"].partition("://")[2],
        pod_uid=uid,
        name=status["name"],
        attempt=status.get("restartCount", 0),
        image=status.get("image", ""),
        image_id=status.get("imageID", ""),
        state=State.EXITED,
        created_s=0.0,
        started_s=parse((running or ended).get("startedAt")),
        finished_s=parse(ended.get("finishedAt")) if not running else parse(running.get("startedAt")),
        exit_code=LOST_EXIT_CODE if running else ended.get("exitCode", LOST_EXIT_CODE),
        oom_killed=not running and ended.get("reason") == "OOMKilled",
        lost=bool(running) or not ended or ended.get("reason") == LOST_REASON,
        start_error=ended.get("message") or REFUSED_REASON if not running and ended.get("reason") == REFUSED_REASON else "",
        earlier_boot=True,
    )
