"""Job: pods of one template that run until a given number of them has succeeded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from labctl.clock import parse_rfc3339
from labctl.resources import fields
from labctl.resources.cells import AGE, NAME, duration
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds import workloads
from labctl.resources.kinds.core_v1 import pod_rules
from labctl.resources.kinds.core_v1.pod_acts import acts_on
from labctl.resources.kinds.core_v1.pod_defaults import POD_TYPES
from labctl.resources.kinds.core_v1.pod_view import PodTemplate
from labctl.resources.kinds.shared import Condition, condition_status
from labctl.resources.selectors import Selector, of_json

UID_LABEL, NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
OLD_UID_LABEL, OLD_NAME_LABEL = "controller-uid", "job-name"
INDEXED = "Indexed"
_MAX_INDEXED = 100_000
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")


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
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    uid, name = metadata["uid"], metadata.get("name", "")
    labels |= {UID_LABEL: uid, OLD_UID_LABEL: uid, NAME_LABEL: name, OLD_NAME_LABEL: name}
    spec["selector"] = {"matchLabels": {UID_LABEL: uid}}
    _defaults(new)


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    yield from rules("spec", spec, new)
    if old is None:
        yield from workloads.label_selector("spec.selector", spec.get("selector"))
    else:
        yield from _changed(spec, old["spec"], old)


def rules(path: str, spec: Object, job: Object | None = None) -> Iterator[FieldError]:
    """Validates a job's spec, in a Job or in a CronJob's template."""
    counts = ("parallelism", "completions", "backoffLimit", "backoffLimitPerIndex", "maxFailedIndexes")
    yield from workloads.not_negative(path, spec, *counts, "activeDeadlineSeconds", "ttlSecondsAfterFinished")
    yield from _mode(path, spec)
    yield from _policies(path, spec)
    template = spec.get("template")
    if template is None:
        yield fields.required(f"{path}.template")
        return
    labels = template.get("metadata", {}).get("labels", {})
    if job is not None and spec.get("selector") and not workloads.selects(spec["selector"], labels):
        yield fields.invalid(f"{path}.template.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from pod_rules.template(f"{path}.template", template)
    if template.get("spec") is None:
        return
    policy = template["spec"]["restartPolicy"]
    if policy == "Always":
        yield fields.required(f"{path}.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')


def _mode(path: str, spec: Object) -> Iterator[FieldError]:
    mode = spec.get("completionMode", "NonIndexed")
    if mode not in ("NonIndexed", INDEXED):
        yield fields.not_supported(f"{path}.completionMode", mode, ("NonIndexed", INDEXED))
    if mode == INDEXED:
        if spec.get("completions") is None:
            yield fields.required(f"{path}.completions", f"when completion mode is {INDEXED}")
        elif spec["completions"] > _MAX_INDEXED and (spec.get("parallelism") or 0) > _MAX_INDEXED:
            yield fields.invalid(f"{path}.parallelism", spec["parallelism"], f"must be less than or equal to {_MAX_INDEXED}")
        return
    for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
        if spec.get(name) is not None:
            why = "requires indexed completion mode" if name == "backoffLimitPerIndex" else "when backoffLimitPerIndex is not specified"
            yield fields.invalid(f"{path}.{name}", spec[name], why)
    if spec.get("successPolicy"):
        yield fields.invalid(f"{path}.successPolicy", spec["successPolicy"], "requires indexed completion mode")


def _policies(path: str, spec: Object) -> Iterator[FieldError]:
    replacement = spec.get("podReplacementPolicy")
    if replacement not in (None, "TerminatingOrFailed", "Failed"):
        yield fields.not_supported(f"{path}.podReplacementPolicy", replacement, ("Failed", "TerminatingOrFailed"))
    policy = spec.get("podFailurePolicy")
    if policy is None:
        return
    if (spec.get("template") or {}).get("spec", {}).get("restartPolicy") not in ("Never", None):
        policy_path = f"{path}.template.spec.restartPolicy"
        yield fields.invalid(
            policy_path, spec["template"]["spec"]["restartPolicy"], 'only "Never" is supported when podFailurePolicy is specified'
        )
    for number, rule in enumerate(policy.get("rules") or ()):
        yield from _failure_rule(f"{path}.podFailurePolicy.rules[{number}]", rule, spec)


def _failure_rule(path: str, rule: Object, spec: Object) -> Iterator[FieldError]:
    action, codes = rule.get("action", ""), rule.get("onExitCodes")
    if action not in _ACTIONS:
        yield fields.not_supported(f"{path}.action", action, _ACTIONS)
    elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
        yield fields.invalid(f"{path}.action", action, "requires the backoffLimitPerIndex to be set")
    if bool(codes) == bool(rule.get("onPodConditions")):
        yield fields.invalid(path, rule, "specifying one of OnExitCodes and OnPodConditions is required")
    if codes:
        values = codes.get("values") or ()
        if codes.get("operator") not in ("In", "NotIn"):
            yield fields.not_supported(f"{path}.onExitCodes.operator", codes.get("operator", ""), ("In", "NotIn"))
        if not values:
            yield fields.invalid(f"{path}.onExitCodes.values", values, "at least one value is required")
        elif codes.get("operator") == "In" and 0 in values:
            yield fields.invalid(f"{path}.onExitCodes.values[{list(values).index(0)}]", 0, "must not be 0 for the In operator")


def _changed(spec: Object, old: Object, job: Object) -> Iterator[FieldError]:
    """Refuses changes of the fields by which pods were counted, and changes of the template unless the job is suspended and never ran."""
    names_ = ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    indexed = spec.get("completionMode") == INDEXED
    if not (indexed and spec.get("completions") == spec.get("parallelism")):
        names_.append("completions")
    if not (old.get("suspend") and not job.get("status", {}).get("startTime")):
        names_.append("template")
    for name in names_:
        if spec.get(name) != old.get(name):
            yield fields.invalid(f"spec.{name}", spec.get(name), "field is immutable")


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
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=workloads.template_warnings,
    acts_on=acts_on("spec.template.spec") | {f"spec.{name}" for name in SPEC_ACTS_ON},
    fields=selectable,
    type_defaults={**TYPES, "io.k8s.api.batch.v1.Job": TypeDefaults(function=_defaults)},
)
