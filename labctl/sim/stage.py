"""The stage of experiments on virtual time: the same files as on a real lab, in a simulated world (`labctl sim FILE`).

experiments/stage.py has the contract. Time stands still between two calls. A state is not a copy of memory: it is what was deployed until then, and `restore` makes a new
world from another seed and waits until all of it is ready, so repetitions differ as they do on machines. What a simulation knows nothing of is refused in one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from labctl import defaults
from labctl.clock import rfc3339
from labctl.controllers.settings import ControllerSettings
from labctl.errors import ApiError, LabctlError, UsageError
from labctl.experiments.stage import ActionRequest, Condition, FaultRequest, LoadRequest, Pod, Stage
from labctl.experiments.steps import PlannedStep
from labctl.measure.marks import FaultFacts, Timeline
from labctl.measure.records import Measurement
from labctl.measure.timeline import timeline
from labctl.resources.client import Client
from labctl.resources.plurals import SLICES
from labctl.sim.clock import VirtualLoop
from labctl.sim.faults import FAULTS, SimFaults
from labctl.sim.requests import Load
from labctl.sim.settings import HollowSettings
from labctl.sim.world import World

T = TypeVar("T")
SETTINGS = ("minions", "timing")
ACTIONS = ("scale", "apply", "delete", "uncordon", "drain", "rollout-restart")
TOO_MANY = 429  # what the API answers to an eviction that a disruption budget does not allow now
EVICT_AGAIN_S = 5.0  # kubectl's pause after that
TOLD_S = (0.01, 0.1)  # from a machine's end to the provider's report
STEADY_S = 300.0
"""Virtual seconds in which what was deployed must be ready again after a restore."""


class SimStages:
    """Makes a simulated lab for each combination of settings."""

    def refuse(self, settings: Mapping[str, Any], steps: Sequence[PlannedStep] = ()) -> str:
        strange = next((name for name in settings if name not in SETTINGS), "")
        if strange:
            return f"lab.{strange}: a simulated lab has only {' and '.join(SETTINGS)}"
        if settings.get("timing", defaults.TIMING) not in defaults.TIMINGS:
            return f"lab.timing can't be {settings['timing']!r}: write one of {', '.join(defaults.TIMINGS)}"
        for step in steps:
            if step.fault and step.fault not in FAULTS:
                return f"{step.field} ({step.name}): a simulated lab has no fault {step.fault}; it has {', '.join(FAULTS)}"
            if step.action and step.action not in ACTIONS:
                return f"{step.field} ({step.name}): a simulated lab has no {step.action}; it has {', '.join(ACTIONS)}"
        return ""

    def open(self, settings: Mapping[str, Any]) -> Stage:
        return SimStage(int(settings.get("minions", 2)), str(settings.get("timing", defaults.TIMING)))

    def close(self, stage: Stage) -> None:
        assert isinstance(stage, SimStage)
        stage.close()


class SimRunning:
    """A load on a simulated lab."""

    def __init__(self, stage: SimStage, load: Load) -> None:
        self._stage, self._load = stage, load
        self._measured: Measurement | None = None

    def stop(self) -> Measurement:
        if self._measured is None:
            self._measured = self._stage.run(self._load.stop())
        return self._measured


class SimStage:
    """A simulated lab as a stage."""

    def __init__(self, minions: int, timing: str) -> None:
        self._count, self._timing = minions, timing
        self._runner = asyncio.Runner(loop_factory=VirtualLoop)
        self._seed = 0
        self._deployed: list[Mapping[str, Any]] = []
        self._states: dict[str, tuple[Mapping[str, Any], ...]] = {}
        self._facts: dict[str, FaultFacts] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._world = self.run(self._made())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self._end_drains()
        self.run(self._world.stop())
        self._runner.close()

    async def _made(self) -> World:
        self._seed += 1
        timing = defaults.TIMINGS[self._timing]
        controllers = ControllerSettings(
            lease_s=timing.lease_s,
            lease_grace_s=timing.grace_s,
            eviction_s=timing.evict_s,
            peers=timing.peers,
            eviction_rate=timing.rate,
            eviction_slow_rate=timing.slow_rate,
        )
        nodes = HollowSettings(lease_s=timing.lease_s, peers=timing.peers, told_s=TOLD_S, container_statuses=True)
        world = World(self._seed, nodes, controllers, proxies=self._count)
        self._faults = SimFaults(world)
        await world.start(self._count)
        return world

    def _asked(self) -> World:
        """Return the world with a master that answers: one that was killed is started again by the next call that needs it, as on a lab."""
        if not self._world.master_answers:
            self.run(self._master_starts())
        return self._world

    async def _master_starts(self) -> None:
        await self._world.start_master()
        await self._faults.heal_overdue()

    # -- looking -----------------------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._world.clock.now()

    def wait(self, until_s: float) -> None:
        self.run(asyncio.sleep(max(0.0, until_s - self.now())))

    def facts(self) -> Mapping[str, Any]:
        settings = {"minions": self._count, "timing": self._timing, "provider": "simulation"}
        return {"versions": {}, "host": {"simulated": True}, "settings": settings}

    def load_average(self) -> float:
        return 0.0

    def unmet(self, condition: Condition) -> str:
        client = self._asked().client
        if condition.service:
            namespace, name = condition.service.split("/")
            pieces = client.list(SLICES, namespace, f"kubernetes.io/service-name={name}")
            there = sum(bool(endpoint.conditions.ready) for piece in pieces for endpoint in piece.endpoints)
            return "" if there == condition.endpoints else f"service {condition.service} has {there} of {condition.endpoints} endpoints"
        if condition.workload:
            ready = sum(pod.ready for pod in self.pods(condition.workload))
            return "" if ready == condition.ready else f"{condition.workload} has {ready} of {condition.ready} Ready pods"
        ready = sum(node.ready for node in client.list("nodes"))
        return "" if ready >= condition.nodes else f"{ready} of {condition.nodes} nodes are Ready"

    def pods(self, what: str) -> Sequence[Pod]:
        kind, namespace, name = what.split("/")
        found = self._asked().client.raw(self._resource(kind), f"{namespace}/{name}")
        selector = (found or {}).get("spec", {}).get("selector") or {}
        wanted = selector.get("matchLabels", selector).items()
        there = [
            pod for pod in self._world.client.list("pods", namespace) if found and wanted <= pod.metadata.labels.items() and pod.active
        ]
        made = [Pod(namespace=namespace, name=p.metadata.name, node=p.spec.node_name, ready=p.ready) for p in there]
        return sorted(made, key=lambda pod: (len(pod.node), pod.node, pod.name))

    def minions(self) -> Sequence[str]:
        return list(self._world.fleet.nodes)

    def _resource(self, kind: str) -> str:
        found = next((each for each in self._world.registry if kind.lower() in (each.kind.lower(), each.singular)), None)
        if found is None:
            raise UsageError(f"a simulated lab knows no kind {kind}")
        return found.resource

    # -- doing -------------------------------------------------------------------------------------------------------------------------

    def deploy(self, manifests: Sequence[Mapping[str, Any]]) -> None:
        self._asked()
        self.run(self._apply(manifests))

    async def _apply(self, manifests: Sequence[Mapping[str, Any]]) -> None:
        client = self._world.client
        for manifest in manifests:
            resource = self._resource(manifest["kind"])
            kind = self._world.registry[resource]
            metadata = {**({"namespace": "default"} if kind.namespaced else {}), **manifest["metadata"]}
            key = f"{metadata['namespace']}/{metadata['name']}" if kind.namespaced else metadata["name"]
            body = {**manifest, "metadata": metadata}
            await (client.patch(resource, key, body) if client.get(resource, key) else client.create(resource, body))
        self._deployed += manifests

    def load(self, request: LoadRequest) -> SimRunning:
        if not request.target.startswith(("service ", "service/")) or request.protocol not in ("", "http"):
            raise LabctlError("on virtual time requests go to a Service, by HTTP", mend="play it on a lab: labctl experiment run")

        async def begin() -> Load:
            return Load(self._world, request)

        return SimRunning(self, self.run(begin()))

    def refuse(self, faults: Sequence[FaultRequest]) -> Sequence[str]:
        self._asked()
        return [f"{fault.name}: {why}" for fault in faults if (why := self._faults.refusal(fault))]

    def inject(self, fault: FaultRequest) -> Sequence[str]:
        self._asked()
        if why := self._faults.refusal(fault):
            raise LabctlError(f"{fault.name}: {why}")
        return self.run(self._inject(fault))

    async def _inject(self, fault: FaultRequest) -> Sequence[str]:
        began_s = self.now()
        done = await self._faults.inject(fault)
        self._facts[fault.name] = FaultFacts(
            name=fault.name, type=fault.type, target=fault.target, peer=fault.peer, injected_s=began_s, uncertainty_s=0.0
        )
        return [done]

    def heal(self) -> None:
        self._asked()
        self._end_drains()
        self.run(self._faults.heal_all())

    def act(self, action: ActionRequest) -> Sequence[str]:
        if action.type not in ACTIONS:
            raise LabctlError(f"{action.name}: a simulated lab has no {action.type}; it has {', '.join(ACTIONS)}")
        self._asked()
        self._facts[action.name] = FaultFacts(name=action.name, type=action.type, target=action.target, injected_s=self.now())
        return [self.run(self._act(action))]

    async def _act(self, action: ActionRequest) -> str:
        client = self._world.client
        if action.type == "apply":
            await self._apply(action.manifests)
            return f"applied {len(action.manifests)} manifests"
        if action.type == "uncordon":
            await client.patch("nodes", action.target, {"spec": {"unschedulable": None}})
            return f"{action.target} takes pods again"
        if action.type == "drain":
            return await self._drain(action.target)
        kind, namespace, name = action.target.split("/")
        resource, key = self._resource(kind), f"{namespace}/{name}"
        if action.type == "delete":
            await client.delete(resource, key)
            return f"deleted {action.target}"
        if action.type == "rollout-restart":
            stamp = {"kubectl.kubernetes.io/restartedAt": rfc3339(self._world.clock.wall())}
            await client.patch(resource, key, {"spec": {"template": {"metadata": {"annotations": stamp}}}})
            return f"restarted {action.target}"
        await client.patch(resource, key, {"spec": {"replicas": action.replicas}})
        return f"scaled {action.target} to {action.replicas}"

    async def _drain(self, minion: str) -> str:
        """Begin what `kubectl drain` does: cordon the node, and evict what runs there. It goes on beside the experiment."""
        if minion not in self._world.fleet.nodes:
            raise LabctlError(f"there is no machine {minion}")
        client = self._world.client
        await client.patch("nodes", minion, {"spec": {"unschedulable": True}})
        pods = [pod for pod in client.list("pods") if pod.spec.node_name == minion and not _of_daemon_set(pod)]
        for pod in pods:
            task = asyncio.get_running_loop().create_task(self._evict(client, pod))
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)
        return f"drains {minion} of {len(pods)} pods"

    async def _evict(self, client: Client, pod: Any) -> None:
        """Evict a pod, and ask again as long as its disruption budget refuses."""
        while True:
            try:
                return await client.evict(pod.metadata.key, pod.metadata.uid)
            except ApiError as error:
                if error.code != TOO_MANY:
                    return None  # it is gone, or another pod has its name
            await asyncio.sleep(EVICT_AGAIN_S)

    def _end_drains(self) -> None:
        for task in tuple(self._drains):
            task.cancel()

    def timelines(self, names: Sequence[str], measurement: Measurement | None) -> Sequence[Timeline]:
        lines = list(self._world.journal.lines)
        return [timeline(self._facts[name], lines, measurement) for name in names]

    # -- states ------------------------------------------------------------------------------------------------------------------------

    def save(self, name: str) -> None:
        self._states[name] = tuple(self._deployed)

    def saved(self, name: str) -> bool:
        return name in self._states

    def restore(self, name: str) -> None:
        self.run(self._restore(self._states[name]))

    async def _restore(self, deployed: Sequence[Mapping[str, Any]]) -> None:
        self._end_drains()
        await self._world.stop()
        self._facts.clear()
        self._deployed = []
        self._world = await self._made()
        await self._apply(deployed)
        if problems := await self._world.calm(STEADY_S, 0.1):
            raise LabctlError(f"what was deployed is not ready after {STEADY_S:.0f} virtual seconds: {problems[0]}")

    def forget(self, name: str) -> None:
        self._states.pop(name, None)


def _of_daemon_set(pod: Any) -> bool:
    """Whether a drain leaves it, because its controller would make it again at the same place."""
    owner = pod.metadata.controller
    return owner is not None and owner.kind == "DaemonSet"
