"""StatefulSet: numbered pods of one template, each with a name that stays and volume claims of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, ScalePaths, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules, workloads
from labctl.resources.kinds.apps_v1.deployment import rolling_limits
from labctl.resources.kinds.core_v1 import persistentvolumeclaim, pod_warnings
from labctl.resources.kinds.core_v1.pod_acts import acts_on
from labctl.resources.kinds.core_v1.pod_defaults import POD_TYPES
from labctl.resources.kinds.core_v1.pod_view import PodTemplate
from labctl.resources.kinds.shared import Condition
from labctl.resources.selectors import Selector, of_json

PARALLEL, ORDERED = "Parallel", "OrderedReady"
_CHANGEABLE = frozenset(
    {
        "minReadySeconds",
        "ordinals",
        "persistentVolumeClaimRetentionPolicy",
        "replicas",
        "revisionHistoryLimit",
        "template",
        "updateStrategy",
    }
)


class RollingStatefulUpdate(msgspec.Struct, frozen=True, rename="camel", gc=False):
    partition: int = 0
    max_unavailable: int | str | None = None


class StatefulUpdateStrategy(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = "RollingUpdate"
    rolling_update: RollingStatefulUpdate | None = None


class Ordinals(msgspec.Struct, frozen=True, gc=False):
    start: int = 0


class Retention(msgspec.Struct, frozen=True, rename="camel", gc=False):
    when_deleted: str = "Retain"
    when_scaled: str = "Retain"


class StatefulSetSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The spec. `template` and the claim templates are kept as bytes, because objects are made from all of them."""

    replicas: int = 1
    min_ready_seconds: int = 0
    service_name: str = ""
    pod_management_policy: str = ORDERED
    revision_history_limit: int | None = None
    update_strategy: StatefulUpdateStrategy = StatefulUpdateStrategy()
    ordinals: Ordinals = Ordinals()
    persistent_volume_claim_retention_policy: Retention = Retention()
    selector: msgspec.Raw = msgspec.Raw(b"{}")
    template: msgspec.Raw = msgspec.Raw(b"{}")
    volume_claim_templates: msgspec.Raw = msgspec.Raw(b"[]")

    def pod_template(self) -> PodTemplate:
        return workloads.decode_template(self.template)


class StatefulSetStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    observed_generation: int = 0
    collision_count: int | None = None
    conditions: tuple[Condition, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Returns counts and revisions by their names in JSON."""
        whole: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in whole.items() if name != "conditions"}


class StatefulSet(Viewed, frozen=True, rename="camel", gc=False):
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()

    @property
    def pod_selector(self) -> Selector:
        return of_json(bytes(self.spec.selector))


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"replicas": 0, "availableReplicas": 0}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    yield from workloads.not_negative("spec", spec, "replicas", "minReadySeconds")
    yield from workloads.not_negative("spec.ordinals", spec.get("ordinals") or {}, "start")
    selector = spec.get("selector")
    yield from workloads.label_selector("spec.selector", selector, of="statefulset")
    if old is not None and _fixed(spec) != _fixed(old["spec"]):
        changeable = "'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds'"
        yield fields.forbidden("spec", f"updates to statefulset spec for fields other than {changeable} are forbidden")
    if old is None:
        yield from _names(spec)
    if old is None or spec != old["spec"]:
        yield from _policies(spec)
        yield from workloads.template("StatefulSet", _with_claims(spec), workloads.labelled_template(spec, selector))


def _names(spec: Object) -> Iterator[FieldError]:
    """Check what never changes: the Service that names the pods, and the claims that they get."""
    if spec.get("serviceName"):
        yield from names.checked("spec.serviceName", spec["serviceName"], names.label)
    for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        for error in persistentvolumeclaim.validate({"metadata": {}, **claim}, None):
            yield replace(error, field=f"spec.volumeClaimTemplates[{index}].{error.field}")


def _with_claims(spec: Object) -> Object:
    """Return the spec with the volumes that its pods get from the claim templates, so that containers may mount them by name."""
    template = spec.get("template") or {}
    pod = template.get("spec")
    if not pod:
        return spec
    there = {volume.get("name") for volume in pod.get("volumes") or ()}
    claims = [each.get("metadata", {}).get("name", "") for each in spec.get("volumeClaimTemplates") or ()]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims if name and name not in there]
    return {**spec, "template": {**template, "spec": {**pod, "volumes": [*(pod.get("volumes") or ()), *volumes]}}}


def _fixed(spec: Object) -> Object:
    """Returns the part of a spec that may never change, without the fields of claim templates that the server sets."""
    kept = {name: value for name, value in spec.items() if name not in _CHANGEABLE}
    kept["volumeClaimTemplates"] = [(claim.get("metadata"), claim.get("spec")) for claim in spec.get("volumeClaimTemplates") or ()]
    return kept


def _policies(spec: Object) -> Iterator[FieldError]:
    if spec["podManagementPolicy"] not in (ORDERED, PARALLEL):
        yield fields.invalid("spec.podManagementPolicy", spec["podManagementPolicy"], f"must be '{ORDERED}' or '{PARALLEL}'")
    strategy = spec["updateStrategy"]
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate") or {}
        yield from workloads.not_negative("spec.updateStrategy.rollingUpdate", rolling, "partition")
        if rolling.get("maxUnavailable") is not None:
            yield from rolling_limits("spec.updateStrategy.rollingUpdate", rolling, ("maxUnavailable",))
            if str(rolling["maxUnavailable"]) in ("0", "0%"):
                yield fields.invalid("spec.updateStrategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], "cannot be 0")
    elif strategy["type"] != "OnDelete":
        yield fields.invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'")
    elif strategy.get("rollingUpdate"):
        yield fields.invalid(
            "spec.updateStrategy.rollingUpdate", strategy["rollingUpdate"], "only allowed for updateStrategy 'RollingUpdate'"
        )
    for name, value in (spec.get("persistentVolumeClaimRetentionPolicy") or {}).items():
        if value not in ("Retain", "Delete"):
            yield fields.not_supported(f"spec.persistentVolumeClaimRetentionPolicy.{name}", value, ("Delete", "Retain"))


def _spec_defaults(spec: Object) -> None:
    spec["podManagementPolicy"] = spec.get("podManagementPolicy") or ORDERED
    strategy = spec.setdefault("updateStrategy", {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    for name in ("whenDeleted", "whenScaled"):
        retention[name] = retention.get(name) or "Retain"
    for claim in spec.get("volumeClaimTemplates") or ():
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("kind", "PersistentVolumeClaim")
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
        claim["status"] = {"phase": "Pending"}


def _status(new: Object, old: Object) -> Iterator[FieldError]:
    counts = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    yield from status_rules.replicas(status_rules.status_of(new), *counts, ready="status.readyReplicas")
    yield from status_rules.not_decremented(new, old)


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column(
        "Ready",
        lambda view, _now: f"{view.status.ready_replicas}/{view.spec.replicas}",
        description="How many pods are ready, of how many.",
    ),
    AGE,
    workloads.CONTAINERS,
    workloads.IMAGES,
)

ACTS_ON = (
    "spec.minReadySeconds",
    "spec.ordinals",
    "spec.persistentVolumeClaimRetentionPolicy",
    "spec.podManagementPolicy",
    "spec.replicas",
    "spec.revisionHistoryLimit",
    "spec.selector",
    "spec.serviceName",
    "spec.template.metadata",
    "spec.updateStrategy",
    "spec.volumeClaimTemplates",
)


def warnings(new: Object, old: Object | None) -> Iterator[str]:
    yield from workloads.template_warnings(new, old)
    if old is None or new["spec"] != old["spec"]:
        below = "" if old is None else ".Spec"  # as Kubernetes writes it
        for index, claim in enumerate(new["spec"].get("volumeClaimTemplates") or ()):
            yield from pod_warnings.claim_spec(f"spec.volumeClaimTemplates[{index}]{below}", claim.get("spec") or {})
    if new["spec"].get("revisionHistoryLimit", 0) < 0:
        yield "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"


KIND = Kind(
    group="apps",
    version="v1",
    kind="StatefulSet",
    plural="statefulsets",
    singular="statefulset",
    namespaced=True,
    view=StatefulSet,
    name_rule="label",
    short_names=("sts",),
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
    warnings=warnings,
    acts_on=acts_on("spec.template.spec") | frozenset(ACTS_ON),
    scale=ScalePaths(workloads.scale_selector),
    type_defaults={
        **POD_TYPES,
        "io.k8s.api.apps.v1.StatefulSet": TypeDefaults(absent={"spec": {}}),
        "io.k8s.api.apps.v1.StatefulSetSpec": TypeDefaults(absent={"replicas": 1, "revisionHistoryLimit": 10}, function=_spec_defaults),
    },
)
