"""ReplicaSet: a count of pods made from one template, kept true by the ReplicaSet controller. Most are made by a Deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, ScalePaths, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules, workloads
from labctl.resources.kinds.core_v1.pod_acts import acts_on
from labctl.resources.kinds.core_v1.pod_defaults import POD_TYPES
from labctl.resources.kinds.core_v1.pod_view import PodTemplate
from labctl.resources.kinds.shared import Condition
from labctl.resources.selectors import Selector, of_json


class ReplicaSetSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The spec. `template` is kept as bytes, because a pod is made from all of it; `pod_template` decodes the part that labctl acts on."""

    replicas: int = 1
    min_ready_seconds: int = 0
    selector: msgspec.Raw = msgspec.Raw(b"{}")
    template: msgspec.Raw = msgspec.Raw(b"{}")

    def pod_template(self) -> PodTemplate:
        return workloads.decode_template(self.template)


class ReplicaSetStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    terminating_replicas: int = 0
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


class ReplicaSet(Viewed, frozen=True, rename="camel", gc=False):
    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()

    @property
    def pod_selector(self) -> Selector:
        return of_json(bytes(self.spec.selector))


def selectable(view: ReplicaSet) -> Mapping[str, str]:
    return {"status.replicas": str(view.status.replicas)}


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"replicas": 0}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    yield from workloads.not_negative("spec", spec, "replicas", "minReadySeconds")
    selector = spec.get("selector")
    yield from workloads.label_selector("spec.selector", selector)
    yield from workloads.selector_immutable(new, old)
    if old is None or spec != old["spec"]:
        yield from workloads.template("ReplicaSet", spec, workloads.labelled_template(spec, selector))


def defaults(obj: Object) -> None:
    """Gives an object without labels those of its template."""
    spec = obj.setdefault("spec", {})
    labels = spec.get("template", {}).get("metadata", {}).get("labels")
    metadata = obj.setdefault("metadata", {})
    if labels and not metadata.get("labels"):
        metadata["labels"] = dict(labels)


def _status(new: Object, _old: Object) -> Iterator[FieldError]:
    yield from status_rules.replicas(status_rules.status_of(new), "fullyLabeledReplicas", "readyReplicas", "availableReplicas")


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Desired", lambda view, _now: view.spec.replicas, type="integer", description="How many pods there shall be."),
    Column("Current", lambda view, _now: view.status.replicas, type="integer", description="How many pods there are."),
    Column("Ready", lambda view, _now: view.status.ready_replicas, type="integer", description="How many of them are ready."),
    AGE,
    workloads.CONTAINERS,
    workloads.IMAGES,
    workloads.SELECTOR,
)

KIND = Kind(
    group="apps",
    version="v1",
    kind="ReplicaSet",
    plural="replicasets",
    singular="replicaset",
    namespaced=True,
    view=ReplicaSet,
    short_names=("rs",),
    categories=("all",),
    columns=COLUMNS,
    subresources=(
        Subresource("scale", ("get", "patch", "update"), kind="Scale", group="autoscaling", version="v1"),
        status_rules.subresource(_status),
    ),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=workloads.named_template_warnings,
    acts_on=acts_on("spec.template.spec") | {"spec.minReadySeconds", "spec.replicas", "spec.selector", "spec.template.metadata"},
    fields=selectable,
    scale=ScalePaths(workloads.scale_selector),
    type_defaults={
        **POD_TYPES,
        "io.k8s.api.apps.v1.ReplicaSet": TypeDefaults(function=defaults),
        "io.k8s.api.apps.v1.ReplicaSetSpec": TypeDefaults(absent={"replicas": 1}),
    },
)
