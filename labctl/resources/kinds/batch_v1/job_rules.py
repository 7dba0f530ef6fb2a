"""Rules for a Job's spec, in a Job and in a CronJob's template: counts, completion mode, policies, and what of it may change. Kubernetes' words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds import workloads
from labctl.resources.kinds.core_v1 import pod_rules
from labctl.resources.labels import key_errors

UID_LABEL, NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
OLD_UID_LABEL, OLD_NAME_LABEL = "controller-uid", "job-name"
INDEXED = "Indexed"
_MOST_AT_ONCE, _MANY, _FEW = 100_000, 100_000, 10_000
_MOST_RULES, _MOST_CODES, _MOST_PATTERNS, _MOST_INDEX_BYTES = 20, 255, 20, 64 << 10
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_STATUSES = ("False", "True", "Unknown")
_COUNTS = (
    *("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"),
    *("backoffLimitPerIndex", "maxFailedIndexes"),
)
_MANAGER = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_FIXED = ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")


def rules(path: str, spec: Object) -> Iterator[FieldError]:
    yield from workloads.not_negative(path, spec, *_COUNTS)
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        yield fields.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    if spec.get("managedBy") is not None:
        yield from _manager(f"{path}.managedBy", spec["managedBy"])
    yield from _mode(path, spec)
    yield from _failure_policy(path, spec)
    yield from _success_policy(f"{path}.successPolicy", spec)
    yield from _replacement(f"{path}.podReplacementPolicy", spec)
    template = spec.get("template") or {}
    yield from pod_rules.template(f"{path}.template", template)
    policy, at = (template.get("spec") or {}).get("restartPolicy", ""), f"{path}.template.spec.restartPolicy"
    if policy in ("", "Always"):
        yield fields.required(at, 'valid values: "OnFailure", "Never"')
    elif spec.get("podFailurePolicy") is not None and policy == "OnFailure":
        yield fields.invalid(at, policy, 'only "Never" is supported when podFailurePolicy is specified')


def _manager(path: str, name: str) -> Iterator[FieldError]:
    domain, slash, rest = name.partition("/")
    if not name:
        yield fields.required(path)
    elif not (slash and domain and rest):
        yield fields.invalid(path, name, 'must be a domain-prefixed path (such as "acme.io/foo")')
    else:
        yield from names.checked(path, domain, names.subdomain)
        if not _MANAGER.fullmatch(rest):
            yield fields.invalid(path, rest, f"Invalid path (regex used for validation is '{_MANAGER.pattern}')")
    if len(name.encode()) > 63:
        yield fields.too_long(path, 63)


def _mode(path: str, spec: Object) -> Iterator[FieldError]:
    mode = spec.get("completionMode", "NonIndexed")
    if mode == INDEXED:
        yield from _indexed(path, spec)
    elif mode != "NonIndexed":
        yield fields.not_supported(f"{path}.completionMode", mode, ("NonIndexed", INDEXED))
    else:
        for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(name) is not None:
                yield fields.invalid(f"{path}.{name}", spec[name], "requires indexed completion mode")


def _indexed(path: str, spec: Object) -> Iterator[FieldError]:
    completions, at_once, failed = spec.get("completions"), spec.get("parallelism") or 0, spec.get("maxFailedIndexes")
    if completions is None:
        yield fields.required(f"{path}.completions", f"when completion mode is {INDEXED}")
    if at_once > _MOST_AT_ONCE:
        why = f"must be less than or equal to {_MOST_AT_ONCE} when completion mode is {INDEXED}"
        yield fields.invalid(f"{path}.parallelism", at_once, why)
    if failed is not None and completions is not None and failed > completions:
        yield fields.invalid(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions")
    if failed is not None and failed > _MANY:
        yield fields.invalid(f"{path}.maxFailedIndexes", failed, f"must be less than or equal to {_MANY}")
    if completions is None or completions <= _MANY or spec.get("backoffLimitPerIndex") is None:
        return
    why = f"must be less than or equal to {_FEW} when completions are above {_MANY} and used with backoff limit per index"
    if failed is None:
        yield fields.required(f"{path}.maxFailedIndexes", f"must be specified when completions is above {_MANY}")
    if at_once > _FEW:
        yield fields.invalid(f"{path}.parallelism", at_once, why)
    if failed is not None and failed > _FEW:
        yield fields.invalid(f"{path}.maxFailedIndexes", failed, why)


def _replacement(path: str, spec: Object) -> Iterator[FieldError]:
    said = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
    if said is not None and said not in allowed:
        yield fields.not_supported(path, said, allowed)


# -- which failures count ------------------------------------------------------------------------------------------------------------------


def _failure_policy(path: str, spec: Object) -> Iterator[FieldError]:
    policy = spec.get("podFailurePolicy")
    if policy is None:
        return
    at, said = f"{path}.podFailurePolicy.rules", policy.get("rules") or ()
    if len(said) > _MOST_RULES:
        yield fields.too_many(at, len(said), _MOST_RULES)
    pod = (spec.get("template") or {}).get("spec") or {}
    containers = {c.get("name", "") for part in ("containers", "initContainers") for c in pod.get(part) or ()}
    for number, rule in enumerate(said[:_MOST_RULES]):
        yield from _failure_rule(f"{at}[{number}]", rule, containers, per_index=spec.get("backoffLimitPerIndex") is not None)


def _failure_rule(path: str, rule: Object, containers: set[str], *, per_index: bool) -> Iterator[FieldError]:
    action, codes, patterns = rule.get("action", ""), rule.get("onExitCodes"), rule.get("onPodConditions") or ()
    if not action:
        yield fields.required(f"{path}.action", f"valid values: [{_quoted(_ACTIONS)}]")
    elif action not in _ACTIONS:
        yield fields.not_supported(f"{path}.action", action, _ACTIONS)
    elif action == "FailIndex" and not per_index:
        yield fields.invalid(f"{path}.action", action, "requires the backoffLimitPerIndex to be set")
    if codes is not None:
        yield from _exit_codes(f"{path}.onExitCodes", codes, containers)
    if len(patterns) > _MOST_PATTERNS:
        yield fields.too_many(f"{path}.onPodConditions", len(patterns), _MOST_PATTERNS)
    for number, pattern in enumerate(patterns[:_MOST_PATTERNS]):
        at = f"{path}.onPodConditions[{number}]"
        yield from names.checked(f"{at}.type", pattern.get("type", ""), key_errors)
        if pattern.get("status") not in _STATUSES:
            yield fields.not_supported(f"{at}.status", pattern.get("status", ""), _STATUSES)
    if codes is not None and patterns:
        yield FieldError(path, "FieldValueInvalid", "Invalid value: specifying both OnExitCodes and OnPodConditions is not supported")
    elif codes is None and not patterns:
        yield FieldError(path, "FieldValueInvalid", "Invalid value: specifying one of OnExitCodes and OnPodConditions is required")


def _quoted(values: Sequence[str]) -> str:
    return " ".join(f'"{value}"' for value in values)


def _exit_codes(path: str, codes: Object, containers: set[str]) -> Iterator[FieldError]:
    operator, values, name = codes.get("operator", ""), list(codes.get("values") or ()), codes.get("containerName")
    if not operator:
        yield fields.required(f"{path}.operator", f"valid values: [{_quoted(('In', 'NotIn'))}]")
    elif operator not in ("In", "NotIn"):
        yield fields.not_supported(f"{path}.operator", operator, ("In", "NotIn"))
    if name is not None and name not in containers:
        why = "must be one of the container or initContainer names in the pod template"
        yield fields.invalid(f"{path}.containerName", name, why)
    if not values:
        yield fields.invalid(f"{path}.values", values, "at least one value is required")
    elif len(values) > _MOST_CODES:
        yield fields.too_many(f"{path}.values", len(values), _MOST_CODES)
    for number, value in enumerate(values[:_MOST_CODES]):
        if operator == "In" and value == 0:
            yield fields.invalid(f"{path}.values[{number}]", value, "must not be 0 for the In operator")
        if value in values[:number]:
            yield fields.duplicate(f"{path}.values[{number}]", value)
    if values != sorted(values):
        yield fields.invalid(f"{path}.values", values, "must be ordered")


# -- when it has succeeded -----------------------------------------------------------------------------------------------------------------


def _success_policy(path: str, spec: Object) -> Iterator[FieldError]:
    policy = spec.get("successPolicy")
    if policy is None:
        return
    if spec.get("completionMode") != INDEXED:
        yield fields.invalid(path, policy, "requires indexed completion mode")
        return
    said = policy.get("rules") or ()
    if not said:
        yield fields.required(f"{path}.rules", "at least one rules must be specified when the successPolicy is specified")
    if len(said) > _MOST_RULES:
        yield fields.too_many(f"{path}.rules", len(said), _MOST_RULES)
    for number, rule in enumerate(said[:_MOST_RULES]):
        yield from _success_rule(f"{path}.rules[{number}]", rule, spec.get("completions") or 0)


def _success_rule(path: str, rule: Object, completions: int) -> Iterator[FieldError]:
    indexes, count, named = rule.get("succeededIndexes"), rule.get("succeededCount"), 0
    if indexes is None and count is None:
        yield fields.required(path, "at least one of succeededCount or succeededIndexes must be specified")
    if indexes is not None:
        if len(indexes) > _MOST_INDEX_BYTES:
            yield fields.too_long(f"{path}.succeededIndexes", _MOST_INDEX_BYTES)
            return
        try:
            named = _count_of(indexes, completions)
        except ValueError as error:
            yield fields.invalid(f"{path}.succeededIndexes", indexes, f"error parsing succeededIndexes: {error}")
    if count is None:
        return
    at, most = f"{path}.succeededCount", "must be less than or equal to"
    if count < 0:
        yield fields.invalid(at, count, "must be greater than or equal to 0")
    if count > completions:
        yield fields.invalid(at, count, f"{most} {completions} (the number of specified completions)")
    if indexes is not None and count > named:
        yield fields.invalid(at, count, f"{most} {named} (the number of indexes in the specified succeededIndexes field)")


def _count_of(text: str, completions: int) -> int:
    """How many indexes a list such as `1,3-5` names. Raises ValueError."""
    total, last = 0, -1
    for interval in text.split(",") if text else ():
        parts = interval.split("-")
        if len(parts) > 2:
            raise ValueError(
                f"the fragment \"{interval}\" violates the requirement that an index interval can have at most two parts separated by '-'"
            )
        first, *end = (_index(part, completions) for part in parts)
        if end and first >= end[0]:
            raise ValueError(f"non-increasing order, previous: {first}, current: {end[0]}")
        if last >= first:
            raise ValueError(f"non-increasing order, previous: {last}, current: {first}")
        last = end[0] if end else first
        total += last - first + 1
    return total


def _index(text: str, completions: int) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise ValueError(f'cannot convert string to integer for index: "{text}"')
    if int(text) >= completions:
        raise ValueError(f'too large index: "{text}"')
    return int(text)


# -- a new job, and one that changes -------------------------------------------------------------------------------------------------------


def selector(job: Object, *, new: bool) -> Iterator[FieldError]:
    """Check that the job's selector finds its pods. One that the server makes finds no other job's; labels that somebody copied would."""
    spec, metadata = job.get("spec") or {}, job.get("metadata") or {}
    said, labels = spec.get("selector"), ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if new and said is not None and not spec.get("manualSelector"):
        uid, name = metadata.get("uid", ""), metadata.get("name", "")
        wanted = {OLD_UID_LABEL: uid, OLD_NAME_LABEL: name, UID_LABEL: uid, NAME_LABEL: name}
        for key, value in wanted.items():
            if labels.get(key) != value:
                yield fields.invalid(f"spec.template.metadata.labels[{key}]", labels, f"must be '{value}'")
        if not workloads.selects(said, wanted):
            yield fields.invalid("spec.selector", said, "`selector` not auto-generated")
    yield from workloads.label_selector("spec.selector", said, may_be_empty=True)
    if said is None or not workloads.selects(said, labels):
        yield fields.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")


def host_names(job: Object) -> Iterator[FieldError]:
    """Check that the pod with the last index can be named after the job."""
    spec, name = job.get("spec") or {}, job["metadata"].get("name", "")
    if spec.get("completionMode") == INDEXED and (spec.get("completions") or 0) > 0:
        last = f"{name}-{spec['completions'] - 1}"
        if names.label(last):
            yield fields.invalid("metadata.name", name, f"will not able to create pod with invalid DNS label: {last}")


def changed(spec: Object, old: Object, job: Object) -> Iterator[FieldError]:
    """Refuses changes of the fields by which pods were counted, and of the template. `job` is the job as it was."""
    if spec.get("completions") != old.get("completions"):
        if spec.get("completionMode") != INDEXED:
            yield fields.invalid("spec.completions", spec.get("completions"), "field is immutable")
        elif spec.get("completions") is not None and spec["completions"] != spec.get("parallelism"):
            yield fields.invalid("spec.completions", spec["completions"], "can only be modified in tandem with spec.parallelism")
    for name in _FIXED:
        if spec.get(name) != old.get(name):
            yield fields.invalid(f"spec.{name}", spec.get(name), "field is immutable")
    status = job.get("status") or {}
    suspended = any(each.get("type") == "Suspended" and each.get("status") == "True" for each in status.get("conditions") or ())
    resting = old.get("suspend") and not status.get("active") and (suspended or not status.get("startTime"))
    now, before = spec.get("template") or {}, old.get("template") or {}
    if resting:
        now, before = _but_placement(now), _but_placement(before)
    if now != before:
        yield fields.invalid("spec.template", spec.get("template"), "field is immutable")


def _but_placement(template: Object) -> Object:
    """A template without what may change of a job that is suspended: where its pods run, their labels, and what they ask for (KEP-2926, KEP-5440)."""
    metadata = {name: value for name, value in (template.get("metadata") or {}).items() if name not in ("labels", "annotations")}
    pod: dict[str, Any] = dict(template.get("spec") or {})
    for name in ("nodeSelector", "tolerations", "schedulingGates"):
        pod.pop(name, None)
    affinity = {name: value for name, value in (pod.pop("affinity", None) or {}).items() if name != "nodeAffinity"}
    for part in ("containers", "initContainers"):
        pod[part] = [{name: value for name, value in c.items() if name != "resources"} for c in pod.get(part) or ()]
    return {"metadata": metadata, "spec": pod, "affinity": affinity}
