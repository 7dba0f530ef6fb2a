"""ReplicationController: a count of pods made from one template, kept true by the replication controller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, ScalePaths, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules, workloads
from labctl.resources.kinds.core_v1.pod_acts import acts_on
from labctl.resources.kinds.core_v1.pod_defaults import CORE, POD_TYPES
from labctl.resources.kinds.core_v1.pod_view import PodTemplate
from labctl.resources.kinds.shared import Condition
from labctl.resources.selectors import Selector, from_labels, of_pairs


class ReplicationControllerSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The spec. `template` is kept as bytes, because a pod is made from all of it; `pod_template` decodes the part that labctl acts on."""

    replicas: int = 1
    min_ready_seconds: int = 0
    selector: dict[str, str] = {}
    template: msgspec.Raw = msgspec.Raw(b"{}")

    def pod_template(self) -> PodTemplate:
        return workloads.decode_template(self.template)


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

    @property
    def pod_selector(self) -> Selector:
        return of_pairs(self.spec.selector)


def selectable(rc: ReplicationController) -> Mapping[str, str]:
    return {"status.replicas": str(rc.status.replicas)}


def defaults(controller: Object) -> None:
    """Takes the selector and the labels from the template if the author gave none."""
    spec = controller.setdefault("spec", {})
    labels = spec.get("template", {}).get("metadata", {}).get("labels")
    if labels:
        spec["selector"] = spec.get("selector") or dict(labels)
        metadata = controller.setdefault("metadata", {})
        metadata["labels"] = metadata.get("labels") or dict(labels)


def scale_selector(controller: Object) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(controller["spec"].get("selector", {}).items()))


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"replicas": 0}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    yield from workloads.not_negative("spec", spec, "minReadySeconds", "replicas")
    selector = spec.get("selector", {})
    if not selector:
        yield fields.required("spec.selector")
    if old is None or spec != old["spec"] or "template" not in spec:
        labels = (spec.get("template") or {}).get("metadata", {}).get("labels", {})
        yield from workloads.template("ReplicationController", spec, from_labels(selector).matches(labels) if selector else None)


def _status(new: Object, _old: Object) -> Iterator[FieldError]:
    yield from status_rules.replicas(status_rules.status_of(new), "fullyLabeledReplicas", "readyReplicas", "availableReplicas")


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Desired", lambda rc, _now: rc.spec.replicas, type="integer", description="How many pods there shall be."),
    Column("Current", lambda rc, _now: rc.status.replicas, type="integer", description="How many pods there are."),
    Column("Ready", lambda rc, _now: rc.status.ready_replicas, type="integer", description="How many of them are ready."),
    AGE,
    workloads.CONTAINERS,
    workloads.IMAGES,
    workloads.SELECTOR,
)

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
        status_rules.subresource(_status),
    ),
    has_status=True,
    has_generation=True,
    orphans=True,
    prepare=prepare,
    validate=validate,
    warnings=workloads.named_template_warnings,
    acts_on=acts_on("spec.template.spec") | {"spec.minReadySeconds", "spec.replicas", "spec.selector", "spec.template.metadata"},
    fields=selectable,
    scale=ScalePaths(scale_selector),
    type_defaults={
        **POD_TYPES,
        CORE + "ReplicationController": TypeDefaults(function=defaults),
        CORE + "ReplicationControllerSpec": TypeDefaults(absent={"replicas": 1}),
    },
)
