"""What labctl's master acts on of a Pod. A ReplicationController's template holds the same spec, so it stands apart from pod.py.

The agent is a program of its own and reads the JSON itself; what only the agent needs (commands, probes, mounts) is not decoded here.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources.kind import Meta, Viewed
from labctl.resources.kinds.core_v1.pod_affinity import Affinity, SchedulingGate, TopologySpreadConstraint
from labctl.resources.kinds.shared import Condition, NameReference, Quantity, condition_status


class ContainerPort(msgspec.Struct, frozen=True, rename="camel", gc=False):
    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")


class Resources(msgspec.Struct, frozen=True, rename="camel", gc=False):
    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class EnvSource(msgspec.Struct, frozen=True, rename="camel", gc=False):
    config_map_key_ref: NameReference | None = None
    secret_key_ref: NameReference | None = None


class Env(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str = ""
    value_from: EnvSource | None = None


class EnvFrom(msgspec.Struct, frozen=True, rename="camel", gc=False):
    config_map_ref: NameReference | None = None
    secret_ref: NameReference | None = None


class RestartRule(msgspec.Struct, frozen=True, rename="camel", gc=False):
    action: str = ""


class Container(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str = ""
    image: str = ""
    image_pull_policy: str = ""
    ports: tuple[ContainerPort, ...] = ()
    resources: Resources = Resources()
    env: tuple[Env, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    restart_policy: str = ""  # of an init container Always makes a sidecar
    restart_policy_rules: tuple[RestartRule, ...] = ()
    stdin: bool = False
    tty: bool = False


class SecretVolume(msgspec.Struct, frozen=True, rename="camel", gc=False):
    secret_name: str = ""


class Projection(msgspec.Struct, frozen=True, rename="camel", gc=False):
    config_map: NameReference | None = None
    secret: NameReference | None = None


class ProjectedVolume(msgspec.Struct, frozen=True, rename="camel", gc=False):
    sources: tuple[Projection, ...] = ()


class ClaimVolume(msgspec.Struct, frozen=True, rename="camel", gc=False):
    claim_name: str = ""
    read_only: bool = False


class EphemeralVolume(msgspec.Struct, frozen=True, rename="camel", gc=False):
    volume_claim_template: msgspec.Raw = msgspec.Raw(b"null")


class ImageVolume(msgspec.Struct, frozen=True, rename="camel", gc=False):
    reference: str = ""


class Volume(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str = ""
    image: ImageVolume | None = None
    ephemeral: EphemeralVolume | None = None
    persistent_volume_claim: ClaimVolume | None = None
    config_map: NameReference | None = None
    secret: SecretVolume | None = None
    projected: ProjectedVolume | None = None


class Toleration(msgspec.Struct, frozen=True, rename="camel", gc=False):
    key: str = ""
    operator: str = ""  # empty is Equal
    value: str = ""
    effect: str = ""  # empty is every effect
    toleration_seconds: int | None = None


class ReadinessGate(msgspec.Struct, frozen=True, rename="camel", gc=False):
    condition_type: str = ""


class PodSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    node_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    ephemeral_containers: tuple[Container, ...] = ()
    restart_policy: str = "Always"
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    affinity: Affinity | None = None
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] = ()
    scheduling_gates: tuple[SchedulingGate, ...] = ()
    priority: int | None = None
    preemption_policy: str = ""  # empty is PreemptLowerPriority
    overhead: dict[str, Quantity] = {}
    resources: Resources = Resources()
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""
    scheduler_name: str = ""
    service_account_name: str = ""
    volumes: tuple[Volume, ...] = ()
    image_pull_secrets: tuple[NameReference, ...] = ()
    readiness_gates: tuple[ReadinessGate, ...] = ()
    resource_claims: tuple[NameReference, ...] = ()  # claims for devices

    def config_maps(self) -> Iterator[str]:
        """Names of the ConfigMaps it uses: what its node's agent may read."""
        for env in self._environments():
            if isinstance(env, Env):
                yield from _names(env.value_from.config_map_key_ref if env.value_from else None)
            else:
                yield from _names(env.config_map_ref)
        for volume in self.volumes:
            yield from _names(volume.config_map, *(s.config_map for s in _sources(volume)))

    def secrets(self) -> Iterator[str]:
        """Names of the Secrets it uses: what its node's agent may read."""
        yield from _names(*self.image_pull_secrets)
        for env in self._environments():
            if isinstance(env, Env):
                yield from _names(env.value_from.secret_key_ref if env.value_from else None)
            else:
                yield from _names(env.secret_ref)
        for volume in self.volumes:
            if volume.secret:
                yield volume.secret.secret_name
            yield from _names(*(s.secret for s in _sources(volume)))

    def _environments(self) -> Iterator[Env | EnvFrom]:
        for container in (*self.init_containers, *self.containers, *self.ephemeral_containers):
            yield from container.env
            yield from container.env_from


def _names(*refs: NameReference | None) -> Iterator[str]:
    return (ref.name for ref in refs if ref is not None)


def _sources(volume: Volume) -> tuple[Projection, ...]:
    return volume.projected.sources if volume.projected else ()


class Waiting(msgspec.Struct, frozen=True, rename="camel", gc=False):
    reason: str = ""
    message: str = ""


class Running(msgspec.Struct, frozen=True, rename="camel", gc=False):
    started_at: str = ""


class Terminated(msgspec.Struct, frozen=True, rename="camel", gc=False):
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str = ""
    finished_at: str = ""


class ContainerState(msgspec.Struct, frozen=True, rename="camel", gc=False):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str = ""
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    container_id: str = msgspec.field(default="", name="containerID")
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodIP(msgspec.Struct, frozen=True, gc=False):
    ip: str = ""


class PodStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")
    host_ip: str = msgspec.field(default="", name="hostIP")
    start_time: str = ""
    nominated_node_name: str = ""
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()


class PodTemplate(msgspec.Struct, frozen=True, rename="camel", gc=False):
    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()


class Pod(Viewed, frozen=True, rename="camel", gc=False):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        return condition_status(self.status.conditions, "Ready") == "True"

    @property
    def finished(self) -> bool:
        """Succeeded or Failed: no container of it will run again."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def active(self) -> bool:
        """Counts as a replica: neither finished nor on its way out."""
        return not self.finished and self.metadata.deletion_timestamp is None
