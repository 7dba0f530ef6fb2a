"""What a Job's status may say (KEP-4368). Any controller that `managedBy` names writes it, and others rely on it: that counters only grow, that a Job that
has ended has no pods left, and that its end is for ever. A rule looks only at what a write changes, so that an older status never hinders another change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from labctl.clock import parse_rfc3339
from labctl.resources import fields
from labctl.resources.fields import not_negative
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.batch_v1.job_rules import INDEXED
from labctl.resources.kinds.status_rules import status_of

_CONDITIONS = "status.conditions"
_FINAL = ("Failed", "Complete", "FailureTarget")
_COUNTS = ("active", "succeeded", "failed", "ready", "terminating")


def validate(new: Object, old: Object) -> Iterator[FieldError]:
    now, before, spec = status_of(new), status_of(old), new["spec"]
    yield from not_negative("status", now, *_COUNTS)
    yield from _uncounted(now.get("uncountedTerminatedPods") or {})
    yield from _ends(now, before)
    yield from _indexes(now, before, spec)
    yield from _met(now, before, spec)
    yield from _changes(now, before, spec)


def _refused(why: str) -> FieldError:
    """Return the error of conditions that don't go together. It shows no value."""
    return FieldError(_CONDITIONS, "FieldValueInvalid", f"Invalid value: {why}")


def _has(status: Object, type_: str) -> bool:
    return any(each.get("type") == type_ and each.get("status") == "True" for each in status.get("conditions") or ())


def _time(text: str) -> str:
    """Return a time as Go prints it."""
    return datetime.fromtimestamp(int(parse_rfc3339(text)), UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")


def _uncounted(said: Object) -> Iterator[FieldError]:
    seen = set()
    for part in ("succeeded", "failed"):
        for index, uid in enumerate(said.get(part) or ()):
            at = f"status.uncountedTerminatedPods.{part}[{index}]"
            if not uid:
                yield fields.invalid(at, uid, "must not be empty")
            elif uid in seen:
                yield fields.duplicate(at, uid)
            seen.add(uid)


def _ends(now: Object, before: Object) -> Iterator[FieldError]:
    """Checks what belongs to a Job that has ended."""

    def changed(*names: str) -> bool:
        return any(_has(now, name) != _has(before, name) if name[0].isupper() else now.get(name) != before.get(name) for name in names)

    complete, failed = _has(now, "Complete"), _has(now, "Failed")
    began, ended = now.get("startTime"), now.get("completionTime")
    if changed("Complete", "Failed") and complete and failed:
        yield _refused("cannot set Complete=True and Failed=true conditions")
    if changed("Complete", "FailureTarget") and complete and _has(now, "FailureTarget"):
        yield _refused("cannot set Complete=True and FailureTarget=true conditions")
    if changed("Complete", "completionTime"):
        if ended and not complete:
            why = "cannot set completionTime when there is no Complete=True condition"
            yield FieldError("status.completionTime", "FieldValueInvalid", f"Invalid value: {_time(ended)}: {why}")
        if complete and not ended:
            yield fields.required("status.completionTime", "completionTime is required for Complete jobs")
    if changed("startTime", "completionTime") and began and ended and parse_rfc3339(ended) < parse_rfc3339(began):
        why = "completionTime cannot be set before startTime"
        yield FieldError("status.completionTime", "FieldValueInvalid", f"Invalid value: {_time(ended)}: {why}")
    if changed("Failed", "FailureTarget") and failed and not _has(now, "FailureTarget"):
        yield _refused("cannot set Failed=True condition without the FailureTarget=true condition")
    if changed("Complete", "SuccessCriteriaMet") and complete and not _has(now, "SuccessCriteriaMet"):
        yield _refused("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
    if complete or failed:
        newly = (complete or failed) != (_has(before, "Complete") or _has(before, "Failed"))
        yield from _left_over(now, lambda name: newly or changed(name))
    if changed("ready", "active") and "ready" in now and now["ready"] > now.get("active", 0):
        yield fields.invalid("status.ready", now["ready"], "cannot set more ready pods than active")


def _left_over(now: Object, looked_at: Any) -> Iterator[FieldError]:
    """Checks that a Job that has ended has no pods left. `looked_at` tells whether a field is to be checked."""
    if looked_at("active") and now.get("active", 0) > 0:
        yield fields.invalid("status.active", now["active"], "active>0 is invalid for finished job")
    if looked_at("startTime") and not now.get("startTime"):
        yield fields.required("status.startTime", "startTime is required for finished job")
    uncounted = now.get("uncountedTerminatedPods") or {}
    if looked_at("uncountedTerminatedPods") and (uncounted.get("succeeded") or uncounted.get("failed")):
        shown = {"Succeeded": uncounted.get("succeeded"), "Failed": uncounted.get("failed")}
        yield fields.invalid("status.uncountedTerminatedPods", shown, "uncountedTerminatedPods needs to be empty for finished job")
    if looked_at("terminating") and now.get("terminating", 0) > 0:
        yield fields.invalid("status.terminating", now["terminating"], "terminating>0 is invalid for finished job")


def _indexes(now: Object, before: Object, spec: Object) -> Iterator[FieldError]:
    done, failed, most = now.get("completedIndexes", ""), now.get("failedIndexes"), spec.get("completions")
    done_changed, failed_changed = done != before.get("completedIndexes", ""), failed != before.get("failedIndexes")
    if done_changed and most is not None and (why := _unreadable(done, most)):
        yield fields.invalid("status.completedIndexes", done, f"error parsing completedIndexes: {why}")
    per_index = spec.get("backoffLimitPerIndex") is not None
    if failed_changed and failed is not None and most is not None and per_index and (why := _unreadable(failed, most)):
        yield fields.invalid("status.failedIndexes", failed, f"error parsing failedIndexes: {why}")
    if done_changed and done and spec.get("completionMode") != INDEXED:
        yield fields.invalid("status.completedIndexes", done, "cannot set non-empty completedIndexes when non-indexed completion mode")
    if failed_changed and failed is not None and not per_index:
        yield fields.invalid("status.failedIndexes", failed, "cannot set non-null failedIndexes when backoffLimitPerIndex is null")
    if (done_changed or failed_changed) and done and failed and most is not None:
        both = _overlap(_readable(done, most), _readable(failed, most))
        if both is not None:
            yield fields.invalid("status.failedIndexes", failed, f"failedIndexes and completedIndexes overlap at index: {both}")


def _interval(text: str, most: int) -> tuple[int, int] | str:
    """Return the first and the last index of an interval, or what is wrong with it."""
    parts = text.split("-")
    if len(parts) > 2:
        return (
            f"the fragment {fields.shown(text)} violates the requirement that an index interval can have at most two parts separated by '-'"
        )
    limits = []
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) < 19):
            return f"cannot convert string to integer for index: {fields.shown(part)}"
        if int(part) >= most:
            return f"too large index: {fields.shown(part)}"
        limits.append(int(part))
    if len(limits) == 2 and limits[0] >= limits[1]:
        return f"non-increasing order, previous: {limits[0]}, current: {limits[1]}"
    return limits[0], limits[-1]


def _unreadable(text: str, most: int) -> str:
    last = None
    for part in text.split(",") if text else ():
        interval = _interval(part, most)
        if isinstance(interval, str):
            return interval
        if last is not None and last >= interval[0]:
            return f"non-increasing order, previous: {last}, current: {interval[0]}"
        last = interval[1]
    return ""


def _readable(text: str, most: int) -> list[tuple[int, int]]:
    return [each for each in (_interval(part, most) for part in text.split(",")) if not isinstance(each, str)]


def _overlap(some: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> int | None:
    """Return an index that is in both; both are in order."""
    left, right = list(reversed(some)), list(reversed(others))
    while left and right:
        (first, last), (other_first, other_last) = left[-1], right[-1]
        if first <= other_last and other_first <= last:
            return max(first, other_first)
        (left if first <= other_first else right).pop()
    return None


def _met(now: Object, before: Object, spec: Object) -> Iterator[FieldError]:
    """Checks the condition that a Job has what it needs to be complete."""
    met, met_before = _has(now, "SuccessCriteriaMet"), _has(before, "SuccessCriteriaMet")
    if met and _has(now, "Failed"):
        yield _refused("cannot set SuccessCriteriaMet=True and Failed=true conditions")
    if met and _has(now, "FailureTarget"):
        yield _refused("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
    if spec.get("successPolicy") is not None and not met and _has(now, "Complete"):
        yield _refused("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
    if met_before and not met:
        yield _refused("cannot disable the SuccessCriteriaMet=True condition")
    if met and not met_before and _has(before, "Complete"):
        yield _refused("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")


def _changes(now: Object, before: Object, spec: Object) -> Iterator[FieldError]:
    yield from _not_disabled(now, before, _FINAL)
    elastic = spec.get("completionMode") == INDEXED and spec.get("completions") == spec.get("parallelism")
    for name in ("failed",) if elastic else ("failed", "succeeded"):
        if now.get(name, 0) < before.get(name, 0):
            yield fields.invalid(f"status.{name}", now.get(name, 0), f"cannot decrease the {name} counter")
    ended = now.get("completionTime")
    if ended and before.get("completionTime") not in (None, ended):
        yield FieldError("status.completionTime", "FieldValueInvalid", f"Invalid value: {_time(ended)}: completionTime cannot be mutated")
    if before.get("startTime") not in (None, now.get("startTime")) and not spec.get("suspend"):
        yield fields.required("status.startTime", "startTime cannot be removed for unsuspended job")


def _not_disabled(now: Object, before: Object, types: Iterable[str]) -> Iterator[FieldError]:
    for type_ in types:
        if _has(before, type_) and not _has(now, type_):
            yield _refused(f"cannot disable the terminal {type_}=True condition")
