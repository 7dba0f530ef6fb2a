"""Node: a minion as the scheduler and kubectl see it. Its agent creates it and reports its status; the node controller alone taints it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME, NONE, UNKNOWN, joined
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.core_v1 import resource_rules
from labctl.resources.kinds.shared import Condition, Quantity, condition_status
from labctl.resources.labels import key_errors, value_errors

EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
ROLE_PREFIX = "node-role.kubernetes.io/"


class Taint(msgspec.Struct, frozen=True, rename="camel", gc=False):
    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: str = ""


ZONE = "topology.kubernetes.io/zone"


class NodeSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    pod_cidr: str = msgspec.field(default="", name="podCIDR")
    pod_cidrs: tuple[str, ...] = msgspec.field(default=(), name="podCIDRs")
    provider_id: str = msgspec.field(default="", name="providerID")
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeAddress(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = ""
    address: str = ""


class NodeInfo(msgspec.Struct, frozen=True, rename="camel", gc=False):
    machine_id: str = msgspec.field(default="", name="machineID")
    system_uuid: str = msgspec.field(default="", name="systemUUID")
    boot_id: str = msgspec.field(default="", name="bootID")
    kernel_version: str = ""
    os_image: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""
    operating_system: str = ""
    architecture: str = ""


class NodeStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    capacity: dict[str, Quantity] = {}
    allocatable: dict[str, Quantity] = {}
    conditions: tuple[Condition, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()
    node_info: NodeInfo = NodeInfo()
    declared_features: tuple[str, ...] = ()


class Node(Viewed, frozen=True, rename="camel", gc=False):
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        return condition_status(self.status.conditions, "Ready") == "True"

    @property
    def zone(self) -> str:
        return self.metadata.labels.get(ZONE, "")

    def address(self, type_: str = "InternalIP") -> str:
        return next((a.address for a in self.status.addresses if a.type == type_), "")


def selectable(node: Node) -> Mapping[str, str]:
    return {"spec.unschedulable": "true" if node.spec.unschedulable else "false"}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    seen = set()
    for index, taint in enumerate(spec.get("taints", ())):
        at, key, effect = f"metadata.taints[{index}]", taint.get("key", ""), taint.get("effect", "")
        yield from names.checked(f"{at}.key", key, key_errors)
        if taint.get("value"):
            yield from names.checked(f"{at}.value", taint["value"], value_errors)
        if not effect:
            yield fields.required(f"{at}.effect")
        elif effect not in EFFECTS:
            yield fields.not_supported(f"{at}.effect", effect, EFFECTS)
        if (key, effect) in seen:
            yield FieldError(
                at, "FieldValueDuplicate", f"Duplicate value: {fields.shown(taint)}: taints must be unique by key and effect pair"
            )
        seen.add((key, effect))
    if old is None:
        yield from _amounts(status_rules.status_of(new))
    yield from _ranges(spec.get("podCIDRs") or ())
    before = (old or {}).get("spec") or {}
    had = before.get("podCIDRs") or [before["podCIDR"]] if before.get("podCIDR") else []
    if had and list(had) != list(spec.get("podCIDRs") or ()):
        yield fields.forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        yield fields.forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid')


def _amounts(status: Object) -> Iterator[FieldError]:
    for part in ("capacity", "allocatable"):
        for name, amount in sorted((status.get(part) or {}).items()):
            yield from resource_rules.amount(f"status.{part}.{name}", name, amount)


def _status(new: Object, _old: Object) -> Iterator[FieldError]:
    status = status_rules.status_of(new)
    yield from _amounts(status)
    seen = set()
    for index, each in enumerate(status.get("addresses") or ()):
        address = (each.get("type", ""), each.get("address", ""))
        if address in seen:
            yield fields.duplicate(f"status.addresses[{index}]", {"Type": address[0], "Address": address[1]})
        seen.add(address)


def _ranges(ranges: Sequence[str]) -> Iterator[FieldError]:
    wrong = [error for index, cidr in enumerate(ranges) for error in names.checked(f"spec.podCIDRs[{index}]", cidr, names.network)]
    yield from wrong
    families = ["IPv6" if ":" in cidr else "IPv4" for cidr in ranges]
    if not wrong and len(set(families)) < len(families):
        yield fields.invalid("spec.podCIDRs", list(ranges), "may specify no more than one CIDR for each IP family")
        for index, cidr in enumerate(ranges):
            if cidr in ranges[:index]:
                yield fields.duplicate(f"spec.podCIDRs[{index}]", cidr)


def prepare(new: Object, _old: Object | None) -> None:
    """Fills podCIDRs from podCIDR, which counts if both are there, or the other way round. A new node keeps its status, because its agent creates it with one."""
    spec = new.setdefault("spec", {})
    if spec.get("podCIDR") and (spec.get("podCIDRs") or [""])[0] != spec["podCIDR"]:
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        spec["podCIDR"] = spec["podCIDRs"][0]


def status(node: Node, _now_s: float) -> str:
    ready = condition_status(node.status.conditions, "Ready")
    word = "Unknown" if not ready else "Ready" if ready == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if node.spec.unschedulable else word


def roles(node: Node, _now_s: float) -> str:
    labels = node.metadata.labels
    found = {key.removeprefix(ROLE_PREFIX) for key in labels if key.startswith(ROLE_PREFIX)} | {labels.get("kubernetes.io/role", "")}
    return joined(sorted(role for role in found if role)) or NONE


def status_defaults(status: Object) -> None:
    if status.get("capacity") and "allocatable" not in status:
        status["allocatable"] = dict(status["capacity"])


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Status", status, description="The status of the node."),
    Column("Roles", roles, description="The roles of the node."),
    AGE,
    Column("Version", lambda node, _now: node.status.node_info.kubelet_version, description="The version of the node's agent."),
    Column("Internal-IP", lambda node, _now: node.address("InternalIP") or NONE, priority=1, description="Its address in the lab."),
    Column("External-IP", lambda node, _now: node.address("ExternalIP") or NONE, priority=1, description="Its address outside."),
    Column("OS-Image", lambda node, _now: node.status.node_info.os_image or UNKNOWN, priority=1, description="Its operating system."),
    Column("Kernel-Version", lambda node, _now: node.status.node_info.kernel_version or UNKNOWN, priority=1, description="Its kernel."),
    Column(
        "Container-Runtime",
        lambda node, _now: node.status.node_info.container_runtime_version or UNKNOWN,
        priority=1,
        description="What runs containers.",
    ),
    Column(
        "Arch", lambda node, _now: node.status.node_info.architecture or UNKNOWN, priority=1, description="Its processor's architecture."
    ),
)

KIND = Kind(
    group="",
    version="v1",
    kind="Node",
    plural="nodes",
    singular="node",
    namespaced=False,
    view=Node,
    short_names=("no",),
    columns=COLUMNS,
    subresources=(
        status_rules.subresource(_status, defaults=lambda node: status_defaults(node.get("status") or {})),
        Subresource("proxy", ("create", "delete", "get", "patch", "update"), kind="NodeProxyOptions"),
    ),
    has_status=True,
    prepare=prepare,
    validate=validate,
    acts_on=frozenset(("spec.podCIDR", "spec.podCIDRs", "spec.providerID", "spec.taints", "spec.unschedulable")),
    fields=selectable,
    type_defaults={"io.k8s.api.core.v1.NodeStatus": TypeDefaults(function=status_defaults)},
)
