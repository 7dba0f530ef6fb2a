"""The CronJob controller makes a Job at each time of its schedule, and deletes old ones.

The Job's name contains its time, so one time makes one Job, whatever restarts. Of several missed times only the last one counts, and only
until startingDeadlineSeconds have passed. Times are those of the wall clock, because a schedule is written for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from labctl.clock import parse_rfc3339, rfc3339
from labctl.controllers.indexes import CRON_JOBS, JOBS
from labctl.controllers.shared import pods
from labctl.controllers.shared.ownership import OwnerKind, owned
from labctl.reconcile.plan import NOTHING, Action, Create, Delete, Index, Key, Patch, Plan, Seen, View
from labctl.resources.kinds.batch_v1.cronjob import CronJob
from labctl.resources.kinds.batch_v1.job import Job
from labctl.resources.kinds.shared import condition
from labctl.resources.schedules import Schedule

CRON_JOB = OwnerKind(CRON_JOBS, "batch/v1", "CronJob")
SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
MOST_MISSED = 100
"""More missed times than these point to a clock or a deadline that is wrong. The last one is made nevertheless."""
_LOOK_AGAIN_S = 3600.0  # the longest pause between two looks, because a wall clock may be changed


class CronJobs:
    """The controller that the module's docstring describes."""

    name = "cronjob-controller"
    kind = CRON_JOBS

    def __init__(self) -> None:
        self.watches = {CRON_JOBS: lambda _view, seen: (seen.key,), JOBS: _of_job}
        self.indexes: Mapping[tuple[str, str], Index] = {**owned(JOBS)}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        cron: CronJob | None = view.get(CRON_JOBS, key)
        if cron is None or cron.metadata.deletion_timestamp is not None:
            return NOTHING
        jobs: Sequence[Job] = view.by(JOBS, "controller", cron.metadata.uid)
        active = [job for job in jobs if not job.finished and SCHEDULED_AT in job.metadata.annotations]
        forgotten = [*_noticed(view, cron, jobs), *_forgotten(cron, jobs)]
        if cron.spec.suspend:
            return Plan([*forgotten, *_status(cron, active, jobs, None)])
        due, again_s = _due(cron, view.wall())
        starts = list(_starts(view, cron, active, due)) if due is not None else []
        made = due if any(isinstance(action, Create) for action in starts) or (due is not None and _is_there(view, cron, due)) else None
        replaced = {action.key for action in starts if isinstance(action, Delete)}
        still = [job for job in active if job.metadata.key not in replaced]
        return Plan([*starts, *forgotten, *_status(cron, still, jobs, made)], again_s)


def _due(cron: CronJob, wall_s: float) -> tuple[float | None, float]:
    """Return the time that is due and has no Job yet (or None), and in how many seconds the next one comes."""
    schedule, zone = Schedule(cron.spec.schedule), cron.spec.time_zone or ""
    begun_s = _begun_s(cron, wall_s)
    deadline_s = cron.spec.starting_deadline_seconds
    after_s = begun_s if deadline_s is None else max(begun_s, wall_s - deadline_s)
    due = schedule.last_until(wall_s, zone, begun_s)
    following = schedule.next_after(wall_s, zone, begun_s)
    again_s = _LOOK_AGAIN_S if following is None else min(_LOOK_AGAIN_S, max(0.0, following - wall_s) + 0.1)
    return (due if due is not None and due > after_s - 1e-6 and due > begun_s else None), again_s


def _missed(cron: CronJob, due: float, wall_s: float) -> int:
    """Return how many times have come since the last Job, or within the deadline, by the time between the first two of them."""
    schedule, zone, begun_s = Schedule(cron.spec.schedule), cron.spec.time_zone or "", _begun_s(cron, wall_s)
    deadline_s = cron.spec.starting_deadline_seconds
    first = schedule.next_after(begun_s if deadline_s is None else max(begun_s, wall_s - deadline_s), zone, begun_s)
    second = None if first is None else schedule.next_after(first, zone, begun_s)
    return 1 if first is None or second is None else int((wall_s - first) // (second - first)) + 1


def _begun_s(cron: CronJob, wall_s: float) -> float:
    return parse_rfc3339(cron.status.last_schedule_time or cron.metadata.creation_timestamp or rfc3339(wall_s))


def _starts(view: View, cron: CronJob, active: Sequence[Job], due: float) -> Iterator[Action]:
    """Make the Job of this time, as the concurrency policy allows."""
    if _is_there(view, cron, due):
        return
    if _missed(cron, due, view.wall()) > MOST_MISSED:
        message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        yield pods.event(CRON_JOB, cron, "TooManyMissedTimes", message, "Warning")
    if cron.spec.concurrency_policy == "Forbid" and active:
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        yield pods.event(CRON_JOB, cron, "JobAlreadyActive", message)
        return
    if cron.spec.concurrency_policy == "Replace":
        for job in active:
            said = pods.event(CRON_JOB, cron, "SuccessfulDelete", f"Deleted job {job.metadata.name}")
            why = f"cronjob {cron.metadata.name} replaces what still runs"
            yield Delete(JOBS, job.metadata.key, job.metadata.uid, propagation="Background", why=why, event=said)
    yield _job(cron, due)


def _noticed(view: View, cron: CronJob, jobs: Sequence[Job]) -> Iterator[Action]:
    """Say which Jobs have ended, which somebody deleted while they ran, and which somebody else made in this owner's name (`kubectl create job --from`).

    Those that somebody else made hold up none, and none replaces them.
    """
    for reference in cron.status.active:
        if view.get(JOBS, f"{cron.metadata.namespace}/{reference.name}") is None:
            yield pods.event(CRON_JOB, cron, "MissingJob", f"Active job went missing: {reference.name}")
    known = {reference.uid for reference in cron.status.active}
    for job in jobs:
        name = job.metadata.name
        if job.finished and job.metadata.uid in known:
            end = "Complete" if job.has("Complete") else "Failed"
            yield pods.event(CRON_JOB, cron, "SawCompletedJob", f"Saw completed job: {name}, condition: {end}")
        elif not job.finished and SCHEDULED_AT not in job.metadata.annotations:
            message = f"Saw a job that the controller did not create or forgot: {name}"
            yield pods.event(CRON_JOB, cron, "UnexpectedJob", message, "Warning")


def _name(cron: CronJob, due: float) -> str:
    return f"{cron.metadata.name}-{int(due) // 60}"


def _is_there(view: View, cron: CronJob, due: float) -> bool:
    return view.get(JOBS, f"{cron.metadata.namespace}/{_name(cron, due)}") is not None


def _job(cron: CronJob, due: float) -> Create:
    given: dict[str, Any] = msgspec.json.decode(cron.spec.job_template.metadata)
    zone = cron.spec.time_zone
    stamp = rfc3339(due) if not zone else _in_zone(due, zone)
    name = _name(cron, due)
    metadata = {
        "name": name,
        "namespace": cron.metadata.namespace,
        "labels": dict(given.get("labels") or {}),
        "annotations": {**(given.get("annotations") or {}), SCHEDULED_AT: stamp},
        "ownerReferences": [CRON_JOB.reference(cron)],
    }
    whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": msgspec.json.decode(cron.spec.job_template.spec)}
    said = pods.event(CRON_JOB, cron, "SuccessfulCreate", f"Created job {name}")
    return Create(JOBS, whole, f"created by cronjob {cron.metadata.name}, due at {stamp}", said)


def _in_zone(due: float, zone: str) -> str:
    return datetime.fromtimestamp(due, ZoneInfo(zone)).isoformat(timespec="seconds")


def _forgotten(cron: CronJob, jobs: Sequence[Job]) -> Iterator[Action]:
    """Delete finished Jobs above the history's limits, the oldest first."""
    limits = (("Complete", cron.spec.successful_jobs_history_limit), ("Failed", cron.spec.failed_jobs_history_limit))
    for type_, limit in limits:
        if limit is None:
            continue
        ended = sorted((job for job in jobs if job.has(type_)), key=lambda job: (job.status.start_time or "", job.metadata.name))
        for job in ended[: max(0, len(ended) - limit)]:
            said = pods.event(CRON_JOB, cron, "SuccessfulDelete", f"Deleted job {job.metadata.name}")
            why = f"cronjob {cron.metadata.name} keeps {limit} of these"
            yield Delete(JOBS, job.metadata.key, job.metadata.uid, propagation="Background", why=why, event=said)


def _status(cron: CronJob, active: Sequence[Job], jobs: Sequence[Job], made: float | None) -> Iterable[Action]:
    references = [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": job.metadata.name,
            "namespace": job.metadata.namespace,
            "uid": job.metadata.uid,
        }
        for job in active
    ]
    patch: dict[str, Any] = {}
    if {job.metadata.uid for job in active} != {reference.uid for reference in cron.status.active}:
        patch["active"] = references or None
    if made is not None and cron.status.last_schedule_time != rfc3339(made):
        patch["lastScheduleTime"] = rfc3339(made)
    succeeded = max((_completed_at(job) for job in jobs if job.has("Complete")), default="")
    if succeeded and succeeded > (cron.status.last_successful_time or ""):
        patch["lastSuccessfulTime"] = succeeded
    return [Patch(CRON_JOBS, cron.metadata.key, {"status": patch}, subresource="status")] if patch else ()


def _completed_at(job: Job) -> str:
    said = condition(job.status.conditions, "Complete")
    return job.status.completion_time or (said.last_transition_time if said else "")


def _of_job(_view: View, seen: Seen) -> Iterator[Key]:
    for job in (seen.old, seen.new):
        owner = job.metadata.controller if job is not None else None
        if owner is not None and owner.kind == "CronJob":
            yield f"{job.metadata.namespace}/{owner.name}"
