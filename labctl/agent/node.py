"""This machine as a Node: registered, kept alive by its Lease, its conditions told when they change.

Flow: create the Node (or bring an existing one up to date), wait for its podCIDR, then renew the Lease for ever. What it never does: taint or cordon; that is
the master's and people's.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from . import client, facts, linux
from .cgroups import Cgroups
from .client import Api, Delays, Refused
from .http import Unreachable
from .ownusers import OwnUsers
from .settings import Settings
from .times import rfc3339, rfc3339_micro

Object = Dict[str, Any]
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
HEARD = "labctl.internal/heard"
MEMORY_PRESSURE_BYTES = 100 << 20
DISK_PRESSURE_SHARE = 0.03  # of its blocks, and of its inodes
PIDS_RESERVED = 512  # for the machine's own programs
PID_PRESSURE = 100  # processes that pods may still begin
DECLARED = ("GuaranteedQoSPodCPUResize", "InPlacePodLevelResourcesVerticalScaling", "RestartAllContainersOnContainerExits")
"""What this agent can of the features that a node of this release declares (KEP-5328), sorted."""
_TOLD = ("addresses", "allocatable", "capacity", "declaredFeatures", "features", "images", "nodeInfo", "runtimeHandlers")


def capacity(settings: Settings) -> Tuple[Dict[str, str], Dict[str, str]]:
    """Capacity and allocatable."""
    memory = settings.memory_bytes or facts.memory_bytes()
    cpus = settings.cpus or facts.cpus()
    disk = os.statvfs(settings.state_dir)
    whole = {
        "cpu": str(int(cpus)) if cpus == int(cpus) else f"{int(cpus * 1000)}m",
        "memory": f"{memory // 1024}Ki",
        "ephemeral-storage": f"{disk.f_blocks * disk.f_frsize // 1024}Ki",
        "pods": str(settings.max_pods),
    }
    return whole, {**whole, "memory": f"{max(0, memory - settings.memory_reserved_bytes) // 1024}Ki"}


def left_to_pods(settings: Settings) -> Tuple[int, int]:
    """Return the bytes of memory, and the processes, that all pods together may have. The rest is the machine's own, whatever pods do.

    Of a small machine pods have half, so that some can run at all.
    """
    memory, pids = settings.memory_bytes or facts.memory_bytes(), facts.pids_max()
    return max(memory // 2, memory - settings.memory_reserved_bytes), max(pids // 2, pids - PIDS_RESERVED)


def disk_missing(settings: Settings) -> Tuple[int, int]:
    """Return how many bytes, and how many inodes, must be freed before the disk is under no pressure. A file system without a table of inodes lacks none."""
    disk = os.statvfs(settings.state_dir)
    blocks, inodes = int(disk.f_blocks * DISK_PRESSURE_SHARE), int(disk.f_files * DISK_PRESSURE_SHARE)
    return max(0, blocks - disk.f_bavail) * disk.f_frsize, max(0, inodes - disk.f_favail)


def memory_missing() -> int:
    """Return how many bytes of memory must be freed before there is no pressure."""
    return max(0, MEMORY_PRESSURE_BYTES - facts.memory_available_bytes())


def pressures(settings: Settings) -> Dict[str, bool]:
    pids_left = Cgroups(settings.cgroup_root).pids_left()
    return {
        "MemoryPressure": memory_missing() > 0,
        "DiskPressure": any(disk_missing(settings)),
        "PIDPressure": pids_left is not None and pids_left < PID_PRESSURE,
    }


_CALM = {
    "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
}
_PRESSED = {
    "MemoryPressure": ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    "DiskPressure": ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    "PIDPressure": ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
}


def conditions(before: List[Object], pressed: Mapping[str, bool], not_ready: str, now_s: float) -> List[Object]:
    """Return the node's conditions. `not_ready` is the reason, or empty. A transition time changes only with the status."""
    wanted = [(kind, pressed[kind], *(_PRESSED if pressed[kind] else _CALM)[kind]) for kind in _CALM]
    ready = ("KubeletNotReady", not_ready) if not_ready else ("KubeletReady", "kubelet is posting ready status")
    wanted.append(("Ready", not not_ready, *ready))
    old = {each["type"]: each for each in before}
    made = []
    for kind, true, reason, message in wanted:
        word = "True" if true else "False"
        same = old.get(kind, {}).get("status") == word
        since = old[kind].get("lastTransitionTime") if same else rfc3339(now_s)
        made.append(
            {
                "type": kind,
                "status": word,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": rfc3339(now_s),
                "lastTransitionTime": since,
            }
        )
    return made


class NodeKeeper:
    """`ranged` is told the podCIDR as soon as the API has given one; `images` reports what is here."""

    def __init__(
        self,
        settings: Settings,
        boot_id: str,
        address: str,
        api: Api,
        ranged: Callable[[str], None],
        images: Callable[[], list],
        say: Callable[[str], None],
        heard: Callable[[], str] = lambda: "",
        own_users: Optional[OwnUsers] = None,
    ) -> None:
        """Make a node. `heard` says how long ago each peer was heard, which the lease carries. `own_users` finds out what the Node says of them."""
        self._recursive_read_only = linux.has_mount_setattr()
        self._own_users = own_users or OwnUsers()
        self._settings, self._api, self._ranged, self._images, self._say = settings, api, ranged, images, say
        self._heard = heard
        self._address = address
        self._info = facts.node_info(boot_id)
        self.capacity, self.allocatable = capacity(settings)
        self._node: Object = {}
        self._lease: Optional[Object] = None
        self.cidr = ""

    @property
    def _path(self) -> str:
        return f"/api/v1/nodes/{self._settings.node}"

    # -- the Node

    async def register(self) -> None:
        """Try until the API has this Node, in its present shape."""
        delays = Delays()
        while True:
            try:
                await self._register()
                return
            except (Unreachable, Refused) as error:
                self._say(f"registering: {error}")
                await self._api.pause(delays.next())

    async def _register(self) -> None:
        labels = {
            "kubernetes.io/hostname": self._settings.node,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": self._info["architecture"],
        }
        wanted = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self._settings.node, "labels": labels},
            "spec": {},
            "status": self._status({}),
        }
        try:
            self._node = await self._api.create("/api/v1/nodes", wanted)
        except Refused as error:
            if error.code != 409:
                raise
            self._node = await self._api.get(self._path)
            if any((self._node["metadata"].get("labels") or {}).get(key) != value for key, value in labels.items()):
                self._node = await self._api.patch(self._path + "/status", {"metadata": {"labels": labels}})
        self._see_range()
        await self.report(always=True)

    def _see_range(self) -> None:
        cidr = (self._node.get("spec") or {}).get("podCIDR", "")
        if cidr:
            self.cidr = cidr
            self._ranged(cidr)

    def _status(self, before: Object) -> Object:
        """Return the status as it should be, for one that stands."""
        more, gone = _extended(before)
        not_ready = "" if self.cidr else "container runtime network not ready: no podCIDR assigned"
        return {
            "addresses": [{"type": "InternalIP", "address": self._address}, {"type": "Hostname", "address": self._settings.node}],
            "allocatable": {**self.allocatable, **more, **gone},
            "capacity": {**self.capacity, **more},
            "conditions": conditions(before.get("conditions") or [], pressures(self._settings), not_ready, time.time()),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
            "images": self._images(),
            "nodeInfo": self._info,
            "runtimeHandlers": [{"name": "", "features": self._features(before)}],
            "features": {"supplementalGroupsPolicy": True},
            "declaredFeatures": list(DECLARED),
        }

    def _features(self, before: Object) -> Object:
        """Return what the runtime can. What is not known yet stays as the Node says."""
        said = ((before.get("runtimeHandlers") or [{}])[0].get("features") or {}).get("userNamespaces", False)
        own_users = said if self._own_users.known is None else self._own_users.known
        return {"recursiveReadOnlyMounts": self._recursive_read_only, "userNamespaces": own_users}

    async def learn(self) -> None:
        """Find out what takes a while, and report it."""
        await self._own_users.found()
        await self._tell()

    async def report(self, always: bool = False) -> None:
        """Tell the Node's status if it changed, or `always`. Raises Unreachable, Refused."""
        before = self._node.get("status") or {}
        wanted = self._status(before)
        if always or _shape(before) != _shape(wanted):
            self._node = await self._api.patch(self._path + "/status", {"status": wanted})
            self._see_range()

    async def keep_status(self) -> None:
        """Run until cancelled: look every ten seconds, and report when something changed and every five minutes."""
        told = time.monotonic()
        while True:
            await asyncio.sleep(self._settings.housekeeping_s)
            due = time.monotonic() - told >= self._settings.node_status_s
            if await self._tell(always=due) and due:
                told = time.monotonic()

    async def watch(self) -> None:
        """Run until cancelled, and follow this Node's object. The podCIDR comes this way, and a Ready that the master took away is given back."""
        await client.reflect(self._api, "/api/v1/nodes", f"metadata.name={self._settings.node}", self._listed, self._event, self._say)

    async def _listed(self, nodes: List[Object]) -> None:
        if nodes:
            await self._event("MODIFIED", nodes[0])
        else:
            await self.register()

    async def _event(self, kind: str, node: Object) -> None:
        if kind == "DELETED":
            await self.register()
            return
        if _revision(node) < _revision(self._node):
            return  # it is older than the answer to our last write: its times would be written again
        self._node = node
        self._see_range()
        await self._tell()

    async def _tell(self, always: bool = False) -> bool:
        try:
            await self.report(always)
            return True
        except (Unreachable, Refused) as error:
            self._say(f"status of the node: {error}")
            return False

    # -- the Lease

    async def keep_lease(self) -> None:
        delays = Delays(0.2, self._settings.lease_s)
        while True:
            try:
                await self._renew()
                delays.reset()
                await asyncio.sleep(self._settings.lease_s)
            except (Unreachable, Refused) as error:
                self._say(f"lease: {error}")
                self._lease = None
                await asyncio.sleep(delays.next())

    async def _renew(self) -> None:
        name = self._settings.node
        if self._lease is None:
            try:
                self._lease = await self._api.get(f"{LEASES}/{name}", timeout_s=5.0)
            except Refused as error:
                if error.code != 404:
                    raise
        spec = {"holderIdentity": name, "leaseDurationSeconds": self._settings.lease_duration_s, "renewTime": rfc3339_micro(time.time())}
        if self._lease is None:
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": (self._node.get("metadata") or {}).get("uid", "")}
            metadata = {"name": name, "namespace": "kube-node-lease", **({"ownerReferences": [owner]} if owner["uid"] else {})}
            wanted = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            self._lease = await self._api.create(LEASES, wanted)
        else:
            renewed = {**self._lease, "metadata": self._with_heard(), "spec": {**self._lease.get("spec", {}), **spec}}
            self._lease = await self._api.replace(f"{LEASES}/{name}", renewed, timeout_s=min(10.0, max(1.0, 2 * self._settings.lease_s)))

    def _with_heard(self) -> Object:
        """Return the lease's metadata with what was heard of the peers. Without peers there is nothing to add."""
        metadata = (self._lease or {}).get("metadata", {})
        annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != HEARD}
        heard = self._heard()
        if heard:
            annotations[HEARD] = heard
        rest = {key: value for key, value in metadata.items() if key != "annotations"}
        return {**rest, **({"annotations": annotations} if annotations else {})}


def _extended(status: Object) -> Tuple[Dict[str, str], Dict[str, None]]:
    """Return the extended resources that somebody wrote into the node's capacity, which pods get as they are, and nothing for those that were taken out again.

    As the kubelet does it (Kubernetes' documentation, "Advertise Extended Resources for a Node").
    """
    more = {name: amount for name, amount in (status.get("capacity") or {}).items() if _is_extended(name)}
    return more, {name: None for name in status.get("allocatable") or {} if _is_extended(name) and name not in more}


def _is_extended(name: str) -> bool:
    return "/" in name and "kubernetes.io/" not in name


def _revision(node: Object) -> int:
    return int((node.get("metadata") or {}).get("resourceVersion") or 0)


def _shape(status: Object) -> Object:
    """Return a status without the fields that change by themselves."""
    told = [
        (each["type"], each["status"], each.get("reason")) for each in status.get("conditions") or () if each["type"] in (*_CALM, "Ready")
    ]
    return {
        **{key: status.get(key) for key in _TOLD},
        "conditions": sorted(told),
    }
