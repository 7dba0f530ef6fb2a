"""All pods of this node: the API's list and watch on one side, the machine on the other, one worker for each pod between them.

What the API does not know is cleared from the machine, but only once the API has said what it knows. Until then (it is away, or this is a fresh boot) what
runs goes on; after an agent's own restart the pods it last knew are kept going from disk.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Set, Tuple

from . import admission, client, imagevolumes, logs, trees
from .boot import Boot
from .events import of_pod
from .evictions import Evictions
from .runtime.interface import RuntimeFailure
from .runtime.records import names, read_json, write_json
from .tools import Tools
from .worker import PodWorker

Object = Dict[str, Any]
OWN_LOG = 2  # what the agent says goes to its standard error, a file that is opened for appending


class Pods:
    def __init__(self, tools: Tools, boot: Boot) -> None:
        self._tools, self._boot = tools, boot
        self._workers: Dict[str, PodWorker] = {}
        self._tasks: Dict[str, "asyncio.Task[None]"] = {}
        self._ended: "Deque[str]" = deque(maxlen=256)  # what the watch may still speak of though it is gone
        self._kept = os.path.join(tools.settings.state_dir, "manifests")
        os.makedirs(self._kept, exist_ok=True)
        tools.certificates.heard = self._certified

    async def run(self) -> None:
        """Run until cancelled."""
        await self._begin()
        settings = self._tools.settings
        await asyncio.gather(
            client.reflect(self._tools.api, "/api/v1/pods", f"spec.nodeName={settings.node}", self._listed, self._event, self._tools.say),
            self._hear_exits(),
            self._keep_house(),
            Evictions(settings, lambda: self._workers.values(), self._tools.say).run(),
        )

    async def _begin(self) -> None:
        if self._boot.same:
            for pod in self._remembered():
                self._see(pod, confirmed=False)
            return
        for uid in self._tools.runtime.pods():
            await self._close(uid)  # of a boot that is over: nothing of it runs
        for name in names(self._kept):
            os.unlink(os.path.join(self._kept, name))
        self._boot.note()

    # -- the API's word

    async def _listed(self, pods: List[Object]) -> None:
        known = {pod["metadata"]["uid"] for pod in pods}
        for uid in set(self._workers) - known:
            self._workers[uid].gone()
        for pod in sorted(
            pods, key=lambda each: each["metadata"]["uid"] not in self._workers
        ):  # first what is known of those that have ended
            self._see(pod)
        await asyncio.gather(*(self._clear(uid) for uid in self._strangers(known)))
        self._clear_logs(known)

    async def _event(self, kind: str, pod: Object) -> None:
        if kind == "DELETED":
            worker = self._workers.get(pod["metadata"]["uid"])
            if worker:
                worker.gone()
        else:
            self._see(pod)

    def _see(self, pod: Object, confirmed: bool = True) -> None:
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker:
            if worker.pod["metadata"].get("generation") != pod["metadata"].get("generation"):
                self._remember(pod)
            worker.update(pod)
            return
        if uid in self._ended:
            return
        self._remember(pod)
        worker = self._workers[uid] = PodWorker(self._tools, pod, lambda: self._left(pod), confirmed, self._refusal(pod))
        self._tasks[uid] = asyncio.ensure_future(worker.run())
        self._tasks[uid].add_done_callback(self._failed)

    def _refusal(self, pod: Object) -> Optional[Tuple[str, str]]:
        """Return why this node does not take a pod that has not begun here, and say it in an Event."""
        if (pod.get("status") or {}).get("startTime") or pod["metadata"].get("deletionTimestamp"):
            return None
        others = [each.pod for each in self._workers.values() if each.admitted]
        refused = admission.refusal(pod, others, self._tools.allocatable)
        if refused:
            self._tools.events.record(of_pod(pod), "Warning", *refused)
        return refused

    def _left(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._workers.pop(uid, None)
        self._tasks.pop(uid, None)
        self._tools.tokens.forget(uid)
        self._tools.certificates.forget(uid)
        self._ended.append(uid)
        if os.path.exists(os.path.join(self._kept, uid + ".json")):
            os.unlink(os.path.join(self._kept, uid + ".json"))
        trees.remove_tree(self._tools.logs_dir(pod))

    def _failed(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception():
            asyncio.get_running_loop().call_exception_handler({"message": "a pod's worker failed", "exception": task.exception()})

    # -- what outlives the agent

    def _remember(self, pod: Object) -> None:
        write_json(os.path.join(self._kept, pod["metadata"]["uid"] + ".json"), pod)

    def _remembered(self) -> List[Object]:
        found = [read_json(os.path.join(self._kept, name)) for name in names(self._kept) if name.endswith(".json")]
        there = self._tools.runtime.pods()
        return [pod for pod in found if pod and pod["metadata"]["uid"] in there]

    def _strangers(self, known: Set[str]) -> List[str]:
        return [uid for uid in self._tools.runtime.pods() if uid not in known and uid not in self._workers]

    async def _clear(self, uid: str) -> None:
        self._tools.say(f"clearing pod {uid}, which the API does not know")
        await self._close(uid)

    async def _close(self, uid: str) -> None:
        try:
            await self._tools.runtime.close(uid)
        except (RuntimeFailure, OSError) as error:
            self._tools.say(f"clearing pod {uid}: {error}")

    def _clear_logs(self, known: Set[str]) -> None:
        base = self._tools.settings.pod_logs_dir
        for name in names(base):
            uid = name.rpartition("_")[2]
            if uid not in known and uid not in self._workers:
                trees.remove_tree(os.path.join(base, name))

    # -- the machine's word

    async def _hear_exits(self) -> None:
        async for uid in self._tools.runtime.exits():
            worker = self._workers.get(uid)
            if worker:
                worker.wake()

    def _certified(self, uid: str) -> None:
        if uid in self._workers:
            self._workers[uid].certified()

    async def _keep_house(self) -> None:
        """Now and then: logs are rotated, volumes renewed, images collected, and every worker has a look, in case something was missed."""
        turn = 0
        while True:
            await asyncio.sleep(self._tools.settings.housekeeping_s)
            turn += 1
            self._rotate_logs()
            logs.shorten(OWN_LOG, self._tools.settings.log_limit_bytes)
            if turn % 6 == 0:
                await self._now_and_then()

    async def _now_and_then(self) -> None:
        for worker in list(self._workers.values()):
            worker.wake()
            await worker.renew_volumes()
        pods = self._tools.runtime.pods()
        used = {layer for pod in pods.values() for layer in _layers_of(self._tools, pod)}
        used |= {layer for uid in pods for layer in imagevolumes.layers_in_use(self._tools.pod_dir(uid))}
        forgotten = self._tools.images.collect(used, self._tools.settings.image_limit_bytes)
        if forgotten:
            self._tools.say(f"forgot {forgotten} images that nobody used")

    def _rotate_logs(self) -> None:
        settings = self._tools.settings
        for pod in self._tools.runtime.pods().values():
            for container in pod.running():
                control = os.path.join(self._tools.pod_dir(pod.uid), "containers", container.name, str(container.attempt), "ctl")
                if container.log_path and logs.rotate(container.log_path, settings.log_limit_bytes, settings.log_files):
                    reopen_log(control)


def _layers_of(tools: Tools, pod: Any) -> Set[str]:
    found: Set[str] = set()
    for container in pod.containers:
        path = os.path.join(tools.pod_dir(pod.uid), "containers", container.name, str(container.attempt), "container.json")
        found.update((read_json(path) or {}).get("layers") or ())
    return found


def reopen_log(control: str) -> None:
    """Tell conmon through its control pipe to open the log anew."""
    try:
        descriptor = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # no conmon listens: it is ending
    try:
        os.write(descriptor, b"2 0 0\n")
    finally:
        os.close(descriptor)
