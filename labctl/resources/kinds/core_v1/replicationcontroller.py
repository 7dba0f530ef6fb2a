"""ReplicationController: a count of pods made from one template, kept true by the replication controller."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, Kind, Object, Subresource, Viewed
from labctl.resources.kinds.core_v1.pod_view import PodTemplate
from labctl.resources.kinds.shared import Condition

_decode_template = msgspec.json.Decoder(PodTemplate).decode


class ReplicationControllerSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """`template` is kept raw, because a pod is made of all of it; `pod_template` reads the part labctl acts on."""

    replicas: int = 1
    min_ready_seconds: int = 0
    selector: dict[str, str] = {}
    template: msgspec.Raw = msgspec.Raw(b"{}")

    def pod_template(self) -> PodTemplate:
        return _decode_template(self.template)


class ReplicationControllerStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


class ReplicationController(Viewed, frozen=True, rename="camel", gc=False):
    spec: ReplicationControllerSpec = ReplicationControllerSpec()
    status: ReplicationControllerStatus = ReplicationControllerStatus()


def fields(rc: ReplicationController) -> Mapping[str, str]:
    return {"status.replicas": str(rc.status.replicas)}


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"replicas": 0}


COLUMNS: tuple[Column, ...] = (NAME, AGE)

KIND = Kind(
    group="",
    version="v1",
    kind="ReplicationController",
    plural="replicationcontrollers",
    singular="replicationcontroller",
    namespaced=True,
    view=ReplicationController,
    short_names=("rc",),
    categories=("all",),
    columns=COLUMNS,
    subresources=(
        Subresource("scale", ("get", "patch", "update"), kind="Scale", group="autoscaling", version="v1"),
        Subresource("status", ("get", "patch", "update")),
    ),
    has_status=True,
    has_generation=True,
    orphans=True,
    prepare=prepare,
    fields=fields,
)
