"""Pod: a group of containers on one node. The scheduler binds it, its node's agent runs it and reports; everything else only reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from labctl.resources import fields as field_errors
from labctl.resources import isolation
from labctl.resources.kind import FieldError, Kind, Object, Subresource, TypeDefaults
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.core_v1 import (
    annotation_rules,
    ephemeral_rules,
    placement_rules,
    pod_defaults,
    pod_rules,
    pod_status_rules,
    pod_totals,
    pod_warnings,
    resize_rules,
    volume_rules,
)
from labctl.resources.kinds.core_v1.pod_acts import acts_on
from labctl.resources.kinds.core_v1.pod_columns import COLUMNS
from labctl.resources.kinds.core_v1.pod_view import Pod

DEFAULT_GRACE_S = 30
_GATED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
}
STREAM_VERBS = ("create", "get")
PROXY_VERBS = ("create", "delete", "get", "patch", "update")


def fields(pod: Pod) -> Mapping[str, str]:
    return {
        "spec.nodeName": pod.spec.node_name,
        "spec.restartPolicy": pod.spec.restart_policy,
        "spec.schedulerName": pod.spec.scheduler_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "spec.hostNetwork": "true" if pod.spec.host_network else "false",
        "status.phase": pod.status.phase,
        "status.podIP": pod.status.pod_ip,
        "status.nominatedNodeName": pod.status.nominated_node_name,
    }


def prepare(new: Object, old: Object | None) -> None:
    """Make a new pod Pending, whatever status its author wrote, and merge label keys into the selectors that they belong to."""
    if old is not None:
        return
    new["status"] = {"phase": "Pending", "qosClass": pod_totals.qos_class(new["spec"])}
    placement_rules.merge_label_keys(new["spec"], new["metadata"].get("labels") or {})
    if new["spec"].get("schedulingGates"):
        new["status"]["conditions"] = [dict(_GATED)]


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    annotations = new["metadata"].get("annotations") or {}
    before = annotations if old is None else old["metadata"].get("annotations") or {}
    if annotations != before:
        yield from annotation_rules.changed("metadata.annotations", annotations, before)
    if old is None or annotations != before:
        yield from annotation_rules.of_spec("metadata.annotations", annotations, new["spec"])
    if old is None:
        yield from pod_rules.spec("spec", new["spec"])
        if any("ephemeral" in volume for volume in new["spec"].get("volumes") or ()):
            yield from volume_rules.of_the_pod("spec.volumes", new["spec"]["volumes"], new["metadata"].get("name", ""))
        if new["spec"].get("nodeName") and new["spec"].get("schedulingGates"):
            yield field_errors.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")
        if new["spec"].get("ephemeralContainers"):
            yield field_errors.forbidden(ephemeral_rules.PATH, "cannot be set on create")
    elif new["spec"] != old["spec"]:
        yield from pod_rules.spec("spec", new["spec"])
        yield from pod_rules.changed(new["spec"], old["spec"])


def spec_alone(pod: Object) -> bool:
    """Without label keys, which bring the pod's labels into its spec, without volumes that are named after the pod, and without annotations about its
    containers or its node, all that is filled into a new pod's spec and checked of it follows from the spec."""
    spec = pod["spec"]
    if annotation_rules.depend((pod.get("metadata") or {}).get("annotations") or ()):
        return False
    if "affinity" in spec or "topologySpreadConstraints" in spec:
        return False
    return not any("ephemeral" in volume for volume in spec.get("volumes") or () if isinstance(volume, dict))


_MOST_GRACE_S = 2**31 - 1
"""68 years: a moment so far away can still be written as a time, and be waited for."""


def grace_s(pod: Object, asked: int | None) -> int:
    """Return the seconds that the pod's agent has to end it; 0 for a pod that no agent runs."""
    spec = pod["spec"]
    if not spec.get("nodeName") or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    grace = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S) if asked is None else asked
    return 1 if grace < 0 else min(int(grace), _MOST_GRACE_S)


def _resized(new: Object, old: Object) -> Iterator[FieldError]:
    """Validates a write of pods/resize: the spec as that of a new pod, and what of it may change."""
    yield from pod_rules.spec("spec", new["spec"])
    yield from resize_rules.resized(new, old)


KIND = Kind(
    group="",
    version="v1",
    kind="Pod",
    plural="pods",
    singular="pod",
    namespaced=True,
    view=Pod,
    short_names=("po",),
    categories=("all",),
    columns=COLUMNS,
    subresources=(
        Subresource("attach", STREAM_VERBS, kind="PodAttachOptions"),
        Subresource("binding", ("create",), kind="Binding"),
        Subresource("ephemeralcontainers", ("get", "patch", "update"), merge=ephemeral_rules.merged, validate=ephemeral_rules.added),
        Subresource("eviction", ("create",), kind="Eviction", group="policy", version="v1"),
        Subresource("exec", STREAM_VERBS, kind="PodExecOptions"),
        Subresource("log", ("get",)),
        Subresource("portforward", STREAM_VERBS, kind="PodPortForwardOptions"),
        Subresource("proxy", PROXY_VERBS, kind="PodProxyOptions"),
        Subresource("resize", ("get", "patch", "update"), merge=resize_rules.merged, validate=_resized),
        status_rules.subresource(pod_status_rules.validate),
    ),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    enter=isolation.enter,
    warnings=pod_warnings.of_pod,
    annotation_rules=lambda said: annotation_rules.of_values("metadata.annotations", said),
    spec_alone=spec_alone,
    grace_s=grace_s,
    acts_on=acts_on("spec"),
    fields=fields,
    returned_when_deleted=True,
    type_defaults={**pod_defaults.POD_TYPES, pod_defaults.CORE + "Pod": TypeDefaults(function=pod_defaults.pod)},
)
