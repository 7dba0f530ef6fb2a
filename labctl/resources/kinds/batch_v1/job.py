"""Job: pods of one template that run until a given number of them has succeeded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from labctl.clock import parse_rfc3339
from labctl.resources.cells import AGE, NAME, duration
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules, workloads
from labctl.resources.kinds.batch_v1 import job_rules, job_status_rules
from labctl.resources.kinds.batch_v1.job_rules import INDEXED as INDEXED
from labctl.resources.kinds.batch_v1.job_rules import NAME_LABEL as NAME_LABEL
from labctl.resources.kinds.batch_v1.job_rules import OLD_NAME_LABEL as OLD_NAME_LABEL
from labctl.resources.kinds.batch_v1.job_rules import OLD_UID_LABEL as OLD_UID_LABEL
from labctl.resources.kinds.batch_v1.job_rules import UID_LABEL as UID_LABEL
from labctl.resources.kinds.core_v1 import pod_warnings
from labctl.resources.kinds.core_v1.pod_acts import acts_on
from labctl.resources.kinds.core_v1.pod_defaults import POD_TYPES
from labctl.resources.kinds.core_v1.pod_view import PodTemplate
from labctl.resources.kinds.shared import Condition, condition_status
from labctl.resources.selectors import Selector, of_json


class ExitCodes(msgspec.Struct, frozen=True, rename="camel", gc=False):
    container_name: str | None = None
    operator: str = ""  # In, NotIn
    values: tuple[int, ...] = ()


class PodConditionPattern(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    status: str = "True"


class FailureRule(msgspec.Struct, frozen=True, rename="camel", gc=False):
    action: str = ""
    on_exit_codes: ExitCodes | None = None
    on_pod_conditions: tuple[PodConditionPattern, ...] = ()


class FailurePolicy(msgspec.Struct, frozen=True, gc=False):
    rules: tuple[FailureRule, ...] = ()


class SuccessRule(msgspec.Struct, frozen=True, rename="camel", gc=False):
    succeeded_indexes: str | None = None
    succeeded_count: int | None = None


class SuccessPolicy(msgspec.Struct, frozen=True, gc=False):
    rules: tuple[SuccessRule, ...] = ()


class JobSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The spec. `template` is kept as bytes, because a pod is made from all of it; `pod_template` decodes the part that labctl acts on."""

    parallelism: int = 1
    completions: int | None = None
    completion_mode: str = "NonIndexed"
    backoff_limit: int = 6
    backoff_limit_per_index: int | None = None
    max_failed_indexes: int | None = None
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    suspend: bool = False
    pod_failure_policy: FailurePolicy | None = None
    success_policy: SuccessPolicy | None = None
    pod_replacement_policy: str = "TerminatingOrFailed"
    managed_by: str | None = None
    selector: msgspec.Raw = msgspec.Raw(b"{}")
    template: msgspec.Raw = msgspec.Raw(b"{}")

    def pod_template(self) -> PodTemplate:
        return workloads.decode_template(self.template)

    @property
    def indexed(self) -> bool:
        return self.completion_mode == INDEXED


class Uncounted(msgspec.Struct, frozen=True, gc=False):
    succeeded: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class JobStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    active: int = 0
    ready: int | None = None
    terminating: int | None = None
    succeeded: int = 0
    failed: int = 0
    start_time: str | None = None
    completion_time: str | None = None
    completed_indexes: str = ""
    failed_indexes: str | None = None
    uncounted_terminated_pods: Uncounted | None = None
    conditions: tuple[Condition, ...] = ()


class Job(Viewed, frozen=True, rename="camel", gc=False):
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()

    @property
    def pod_selector(self) -> Selector:
        return of_json(bytes(self.spec.selector))

    def has(self, condition: str) -> bool:
        return condition_status(self.status.conditions, condition) == "True"

    @property
    def finished(self) -> bool:
        return self.has("Complete") or self.has("Failed")


def selectable(job: Job) -> Mapping[str, str]:
    return {"status.successful": str(job.status.succeeded)}


def prepare(new: Object, old: Object | None) -> None:
    """Gives a new job a selector and labels with its uid, unless its author chose the selector. Kubernetes fills in defaults when it
    reads, too, so a job without labels has those of its pods at once."""
    if old is not None:
        return
    new["status"] = {}
    spec, metadata = new["spec"], new["metadata"]
    if spec.get("manualSelector") or "template" not in spec:
        return
    uid, name = metadata["uid"], metadata.get("name", "")
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    for key, value in ((UID_LABEL, uid), (OLD_UID_LABEL, uid), (NAME_LABEL, name), (OLD_NAME_LABEL, name)):
        labels.setdefault(key, value)
    spec.setdefault("selector", {}).setdefault("matchLabels", {}).setdefault(UID_LABEL, uid)
    _defaults(new)


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    yield from job_rules.selector(new, new=old is None)
    yield from job_rules.rules("spec", spec)
    if old is None:
        yield from job_rules.host_names(new)
    else:
        yield from job_rules.changed(spec, old["spec"], old)


def spec_defaults(spec: Object) -> None:
    """Fills in defaults: a job without completions and parallelism runs one pod."""
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = spec["parallelism"] = 1
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
    if spec.get("backoffLimit") is None:
        spec["backoffLimit"] = 2**31 - 1 if spec.get("backoffLimitPerIndex") is not None else 6
    spec["completionMode"] = spec.get("completionMode") or "NonIndexed"
    spec.setdefault("suspend", False)
    spec["podReplacementPolicy"] = spec.get("podReplacementPolicy") or ("Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            pattern["status"] = pattern.get("status") or "True"


def _defaults(job: Object) -> None:
    """Gives a job without labels those of its template."""
    labels = job.setdefault("spec", {}).get("template", {}).get("metadata", {}).get("labels")
    metadata = job.setdefault("metadata", {})
    if labels and not metadata.get("labels"):
        metadata["labels"] = dict(labels)


def _status(job: Job, _now_s: float) -> str:
    for condition, shown in (
        ("Failed", "Failed"),
        ("Complete", "Complete"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):
        if job.has(condition):
            return shown
    if job.metadata.deletion_timestamp:
        return "Terminating"
    return "Suspended" if job.has("Suspended") else "Running"


def _completions(job: Job, _now_s: float) -> str:
    if job.spec.completions is not None:
        return f"{job.status.succeeded}/{job.spec.completions}"
    return f"{job.status.succeeded}/1 of {job.spec.parallelism}" if job.spec.parallelism > 1 else f"{job.status.succeeded}/1"


def _duration(job: Job, now_s: float) -> str:
    if not job.status.start_time:
        return ""
    end = parse_rfc3339(job.status.completion_time) if job.status.completion_time else now_s
    return duration(end - parse_rfc3339(job.status.start_time))


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Status", _status, description="How far it is."),
    Column("Completions", _completions, description="How many pods have succeeded, of how many."),
    Column("Duration", _duration, description="How long it runs, or ran."),
    AGE,
    workloads.CONTAINERS,
    workloads.IMAGES,
    workloads.SELECTOR,
)

SPEC_ACTS_ON = (
    "activeDeadlineSeconds",
    "backoffLimit",
    "backoffLimitPerIndex",
    "completionMode",
    "completions",
    "managedBy",
    "manualSelector",
    "maxFailedIndexes",
    "parallelism",
    "podFailurePolicy",
    "podReplacementPolicy",
    "selector",
    "successPolicy",
    "suspend",
    "template.metadata",
    "ttlSecondsAfterFinished",
)

TYPES: dict[str, Any] = {**POD_TYPES, "io.k8s.api.batch.v1.JobSpec": TypeDefaults(function=spec_defaults)}

_MANY_INDEXES, _MANY_AT_ONCE = 100_000, 10_000


def spec_warnings(path: str, spec: Object) -> Iterator[str]:
    """Yields Kubernetes' warnings about a Job's spec, or a CronJob's template of one."""
    many = spec.get("completions", 0) > _MANY_INDEXES and spec.get("parallelism", 0) > _MANY_AT_ONCE
    if spec.get("completionMode") == INDEXED and many:
        yield (
            f"{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4,"
            " Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )
    yield from pod_warnings.of_template(f"{path}.template", spec.get("template") or {})


def warnings(new: Object, old: Object | None) -> Iterator[str]:
    if old is None:
        yield from pod_warnings.of_name(new["metadata"].get("name", ""))
    if old is None or new["spec"] != old["spec"]:
        yield from spec_warnings("spec", new["spec"])


KIND = Kind(
    group="batch",
    version="v1",
    kind="Job",
    plural="jobs",
    singular="job",
    namespaced=True,
    view=Job,
    categories=("all",),
    columns=COLUMNS,
    subresources=(status_rules.subresource(job_status_rules.validate),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=warnings,
    acts_on=acts_on("spec.template.spec") | {f"spec.{name}" for name in SPEC_ACTS_ON},
    fields=selectable,
    type_defaults={**TYPES, "io.k8s.api.batch.v1.Job": TypeDefaults(function=_defaults)},
)
