"""Which pod had an address, as a watch of pods saw it while a measurement ran. An address may go to another pod later, so the time counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from labctl.errors import LabctlError
from labctl.lab.client import LabClient

_AGAIN_S = 0.2
_WATCH_S = 3.0
_MAX_ADDRESSES = 100_000


class PodNames:
    """Follows pods in a thread until `close`. A master that is killed meanwhile is asked again when it is back; nothing here starts one."""

    def __init__(self, connect: Callable[[], LabClient]) -> None:
        self._connect = connect
        self._addresses: dict[str, list[tuple[float, str]]] = {}
        self._names: set[str] = set()
        self._over = threading.Event()
        self._known = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="pod-names", daemon=True)
        self._thread.start()

    def ready(self, timeout_s: float = 1.0) -> None:
        """Waits until the pods that exist are known."""
        self._known.wait(timeout_s)

    def pod(self, who: str, at_s: float) -> str:
        """Returns the name of the pod that had this address then, or that has this name; else ""."""
        if who in self._names:
            return who
        seen = self._addresses.get(who, [])
        had = [name for since_s, name in seen if since_s <= at_s]
        return had[-1] if had else seen[0][1] if seen else ""

    def close(self) -> None:
        self._over.set()

    def _follow(self) -> None:
        while not self._over.is_set():
            with suppress(LabctlError, OSError, KeyError, ValueError):
                client = self._connect()
                try:
                    self._listed(client)
                    for event in client.watch("/api/v1/pods?watch=true", timeout_s=_WATCH_S):
                        if self._over.is_set():
                            return
                        self._seen(event.get("object", {}))
                finally:
                    client.close()
            self._over.wait(_AGAIN_S)

    def _listed(self, client: LabClient) -> None:
        for pod in client.get("/api/v1/pods")["items"]:
            self._seen(pod)
        self._known.set()

    def _seen(self, pod: dict) -> None:
        name, address = pod.get("metadata", {}).get("name", ""), pod.get("status", {}).get("podIP", "")
        self._names.add(name)
        if not address or pod.get("spec", {}).get("hostNetwork") or len(self._addresses) > _MAX_ADDRESSES:
            return
        seen = self._addresses.setdefault(address, [])
        if not seen or seen[-1][1] != name:
            seen.append((time.monotonic(), name))
