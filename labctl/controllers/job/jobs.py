"""The Job controller: pods run until enough have succeeded, or too many have failed.

    claim pods ─► tally ─► has it failed, is it done? ─┬► no: as many active pods as parallelism allows, later after failures
                                                       └► yes: end what still runs, then Complete or Failed, then its time to live
    and always: count finished pods once, release them, write the status

A Job ends in two steps: FailureTarget or SuccessCriteriaMet is written when the end is decided, Failed or Complete when none of its pods
runs any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import msgspec

from labctl.clock import parse_rfc3339, rfc3339
from labctl.controllers.indexes import JOBS, PODS
from labctl.controllers.job import indexes, policies
from labctl.controllers.job.statuses import difference
from labctl.controllers.job.tally import FINALIZER, INDEX, INDEX_FAILURES, Tally, index_failures, index_of, tally
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.shared import pods
from labctl.controllers.shared.ownership import OwnerKind, claim, concerned, owned, owners
from labctl.reconcile.plan import NOTHING, Action, Delete, Index, Key, Patch, Plan, Seen, View
from labctl.resources.kinds.batch_v1.job import NAME_LABEL, Job
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.shared import condition
from labctl.resources.verbs.meta import generated

JOB = OwnerKind(JOBS, "batch/v1", "Job")
MANAGED_BY_US = "kubernetes.io/job-controller"
_HELD = "held-by-job"


class End(NamedTuple):
    """How a Job ends: the condition it will have, and why."""

    type: str  # Complete or Failed
    reason: str
    message: str


class Jobs:
    """The controller that the module's docstring describes."""

    name = "job-controller"
    kind = JOBS

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._settings = settings
        self.watches = {JOBS: lambda _view, seen: (seen.key,), PODS: _of_pod}
        self.indexes: Mapping[tuple[str, str], Index] = {**owned(PODS), **owners(JOBS), (PODS, _HELD): _held}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        job: Job | None = view.get(JOBS, key)
        if job is None:
            return Plan([_released(pod) for pod in view.by(PODS, _HELD, key)])
        if job.spec.managed_by not in (None, MANAGED_BY_US):
            return NOTHING
        mine, claims = claim(view, JOB, job, job.pod_selector, PODS, lambda _pod: True)
        claims = [*claims, *_of_an_earlier_job(view, job)]
        if job.finished or job.metadata.deletion_timestamp is not None:
            return _ended(view, job, mine, claims)
        return _Step(view, job, mine, self._settings, rng).plan(claims)


def _ended(view: View, job: Job, mine: Sequence[Pod], claims: Sequence[Action]) -> Plan:
    """Release the remaining pods, and delete the Job when its time to live is over."""
    release = [_released(pod) for pod in mine if FINALIZER in pod.metadata.finalizers]
    ttl_s = job.spec.ttl_seconds_after_finished
    if ttl_s is None or not job.finished or job.metadata.deletion_timestamp is not None:
        return Plan([*claims, *release])
    said = condition(job.status.conditions, "Complete" if job.has("Complete") else "Failed")
    left_s = parse_rfc3339(said.last_transition_time) + ttl_s - view.wall() if said.last_transition_time else 0.0
    if left_s > 0:
        return Plan([*claims, *release], left_s)
    why = f"job {job.metadata.name} finished {ttl_s} s ago or more"
    return Plan([*claims, *release, Delete(JOBS, job.metadata.key, job.metadata.uid, propagation="Foreground", why=why)])


def _held(pod: Pod) -> Iterator[Key]:
    """Yield the name of the Job whose count a pod waits for: its controller's, or the one in its label if it was orphaned."""
    if FINALIZER in pod.metadata.finalizers:
        owner = pod.metadata.controller
        if owner is None:
            yield f"{pod.metadata.namespace}/{pod.metadata.labels.get(NAME_LABEL, '')}"  # no Job has the empty name: it is let go at once
        elif (owner.api_version, owner.kind) == (JOB.api_version, JOB.kind):
            yield f"{pod.metadata.namespace}/{owner.name}"


def _of_an_earlier_job(view: View, job: Job) -> list[Action]:
    """Release pods of a Job that had this one's name and is gone, and those that somebody took from this one: nobody will count them."""

    def is_foreign(pod: Pod) -> bool:
        if pod.metadata.controller is None:
            return not job.pod_selector.matches(pod.metadata.labels)
        return pod.metadata.controller.uid != job.metadata.uid

    return [_released(pod) for pod in view.by(PODS, _HELD, job.metadata.key) if is_foreign(pod)]


def _released(pod: Pod) -> Action:
    kept = [finalizer for finalizer in pod.metadata.finalizers if finalizer != FINALIZER]
    return Patch(PODS, pod.metadata.key, {"metadata": {"finalizers": kept or None}}, revision=pod.metadata.revision)


class _Step:
    """One unfinished Job at one moment."""

    def __init__(self, view: View, job: Job, mine: Sequence[Pod], settings: ControllerSettings, rng: Random) -> None:
        self._view, self._job, self._mine, self._settings, self._rng = view, job, mine, settings, rng
        self._tally: Tally = tally(job, mine)
        self._stamp = rfc3339(view.wall())
        self._waits: list[float] = []

    def plan(self, claims: Sequence[Action]) -> Plan:
        end = self._decided() or self._failing() or self._succeeding()
        suspended = self._job.spec.suspend and end is None
        active = list(self._tally.active)
        acts: list[Action] = []
        if end is not None or suspended:
            acts = [self._delete(pod, "which has ended") if end else self._dismissed(pod, "which is suspended") for pod in active]
        elif self._job.status.start_time:
            acts = list(self._managed(active))
        acts = acts[: self._settings.burst]
        release = [_released(pod) for pod in self._tally.release]
        return Plan([*claims, *acts, *release, *self._status(end, suspended)], min(self._waits, default=None))

    # -- how it ends -------------------------------------------------------------------------------------------------------------------

    def _decided(self) -> End | None:
        for interim, final in (("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")):
            said = condition(self._job.status.conditions, interim)
            if said and said.status == "True":
                return End(final, said.reason, said.message)
        return None

    def _failing(self) -> End | None:
        spec, count = self._job.spec, self._tally
        if count.doomed is not None:
            return End("Failed", "PodFailurePolicy", count.doomed.message)
        if count.failed > spec.backoff_limit or self._restarts() > 0:
            return End("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        if self._overdue():
            return End("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
        if spec.backoff_limit_per_index is None or not spec.indexed:
            return None
        if spec.max_failed_indexes is not None and len(count.failed_indexes) > spec.max_failed_indexes:
            return End("Failed", "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes")
        if count.failed_indexes and len(count.completed) + len(count.failed_indexes) >= (spec.completions or 0):
            return End("Failed", "FailedIndexes", "Job has failed indexes")
        return None

    def _restarts(self) -> int:
        """Return by how much restarts of containers exceed the limit: with OnFailure a restart counts as a failure."""
        if self._job.spec.pod_template().spec.restart_policy != "OnFailure":
            return 0
        restarts = sum(
            status.restart_count
            for pod in self._tally.active
            if pod.status.phase in ("Pending", "Running")
            for status in (*pod.status.init_container_statuses, *pod.status.container_statuses)
        )
        return max(0, restarts - self._job.spec.backoff_limit) if self._job.spec.backoff_limit else restarts

    def _overdue(self) -> bool:
        deadline_s, began = self._job.spec.active_deadline_seconds, self._job.status.start_time
        if deadline_s is None or not began or self._job.spec.suspend:
            return False
        left_s = parse_rfc3339(began) + deadline_s - self._view.wall()
        if left_s > 0:
            self._waits.append(left_s)
        return left_s <= 0

    def _succeeding(self) -> End | None:
        spec, count = self._job.spec, self._tally
        why = policies.success(self._job, count.completed) if spec.indexed else None
        if why is not None:
            return End("Complete", "SuccessPolicy", why)
        if spec.completions is None:
            done = count.succeeded > 0 and not count.active
        else:
            done = count.succeeded >= spec.completions
        return End("Complete", "CompletionsReached", "Reached expected number of succeeded pods") if done else None

    # -- pods --------------------------------------------------------------------------------------------------------------------------

    def _managed(self, active: Sequence[Pod]) -> Iterable[Action]:
        spec, count = self._job.spec, self._tally
        if spec.completions is None:
            wanted = len(active) if count.succeeded else spec.parallelism
        else:
            wanted = min(spec.parallelism, spec.completions - count.succeeded)
        surplus, kept = self._surplus(active, wanted)
        if surplus:
            return surplus
        occupied = len(kept) + (len(count.terminating) if spec.pod_replacement_policy == "Failed" else 0)
        if occupied >= wanted:
            return ()
        return self._missing(kept, wanted - occupied)

    def _surplus(self, active: Sequence[Pod], wanted: int) -> tuple[list[Action], Sequence[Pod]]:
        """Pods over the wanted number; for an indexed Job first those whose index is done, or taken by another."""
        useless: list[Pod] = []
        if self._job.spec.indexed:
            taken: set[int] = set()
            for pod in sorted(active, key=lambda each: (each.metadata.creation_timestamp or "", each.metadata.name)):
                index = index_of(pod)
                done = index is None or index >= (self._job.spec.completions or 0) or index in self._tally.completed
                if done or index in taken:
                    useless.append(pod)
                elif index is not None:
                    taken.add(index)
        kept = [pod for pod in active if pod not in useless]
        more = sorted(kept, key=pods.least_useful_first(kept))[: max(0, len(kept) - wanted)]
        return [self._dismissed(pod, "which wants fewer at once") for pod in (*useless, *more)], kept

    def _missing(self, active: Sequence[Pod], count: int) -> Iterator[Action]:
        left_s = self._back_off_s()
        if left_s > 0 and self._job.spec.backoff_limit_per_index is None:
            self._waits.append(left_s)
            return
        count = min(count, max(len(active), self._settings.slow_start), self._settings.burst)
        template: dict[str, Any] = msgspec.json.decode(self._job.spec.template)
        if not self._job.spec.indexed:
            for _ in range(count):
                name = generated(f"{self._job.metadata.name}-", self._rng)
                yield self._create(name, template)
            return
        for index in self._free_indexes(active)[:count]:
            yield self._create_indexed(index, template)

    def _free_indexes(self, active: Sequence[Pod]) -> list[int]:
        """Return the lowest indexes that are neither done nor failed nor in work."""
        busy = {index_of(pod) for pod in active} | self._tally.completed | self._tally.failed_indexes
        if self._job.spec.pod_replacement_policy == "Failed":
            busy |= {index_of(pod) for pod in self._tally.terminating}
        most = self._settings.burst
        found: list[int] = []
        for index in range(self._job.spec.completions or 0):
            if index not in busy and self._index_may_start(index):
                found.append(index)
                if len(found) == most:
                    break
        return found

    def _index_may_start(self, index: int) -> bool:
        if self._job.spec.backoff_limit_per_index is None:
            return True
        mine = [pod for pod in self._mine if index_of(pod) == index and pod.status.phase == "Failed"]
        left_s = self._left_s(mine)
        if left_s > 0:
            self._waits.append(left_s)
        return left_s <= 0

    def _back_off_s(self) -> float:
        """Return how long no new pod is made: 10 s after the first failure since the last success, then twice as long each time."""
        succeeded = max((_ended_at(pod) for pod in self._mine if pod.status.phase == "Succeeded"), default=0.0)
        return self._left_s([pod for pod in self._mine if pod.status.phase == "Failed" and _ended_at(pod) > succeeded])

    def _left_s(self, failed: Sequence[Pod]) -> float:
        if not failed:
            return 0.0
        pause_s = min(self._settings.job_backoff_s * 2 ** min(len(failed) - 1, 20), self._settings.job_backoff_max_s)
        return max(map(_ended_at, failed)) + pause_s - self._view.wall()

    def _create(self, name: str, template: Mapping[str, Any]) -> Action:
        whole = {**template, "metadata": {**(template.get("metadata") or {})}}
        whole["metadata"]["finalizers"] = [*(whole["metadata"].get("finalizers") or ()), FINALIZER]
        return pods.creation(JOB, self._job, name, whole, "which is not done")

    def _create_indexed(self, index: int, template: Mapping[str, Any]) -> Action:
        name = generated(f"{self._job.metadata.name}-{index}-", self._rng)
        metadata = {**(template.get("metadata") or {})}
        metadata["labels"] = {**(metadata.get("labels") or {}), INDEX: str(index)}
        metadata["annotations"] = {**(metadata.get("annotations") or {}), INDEX: str(index)}
        if self._job.spec.backoff_limit_per_index is not None:
            before = [index_failures(pod) for pod in self._mine if index_of(pod) == index and pod.status.phase == "Failed"]
            metadata["annotations"][INDEX_FAILURES] = str(max(before) + 1 if before else 0)
        spec = {**(template.get("spec") or {}), "hostname": f"{self._job.metadata.name}-{index}"}
        for part in ("containers", "initContainers"):
            if spec.get(part):
                spec[part] = [_with_index(container) for container in spec[part]]
        return self._create(name, {**template, "metadata": metadata, "spec": spec})

    def _dismissed(self, pod: Pod, why: str) -> Action:
        """Delete a pod whose end is no failure: it is released before, so that nobody counts it."""
        return _released(pod) if FINALIZER in pod.metadata.finalizers else self._delete(pod, why)

    def _delete(self, pod: Pod, why: str) -> Action:
        return pods.deletion(JOB, self._job, pod, why)

    # -- status ------------------------------------------------------------------------------------------------------------------------

    def _status(self, end: End | None, suspended: bool) -> Iterator[Action]:
        job, count = self._job, self._tally
        active = count.active if end is None and not suspended else ()
        status: dict[str, Any] = {
            "active": len(active),
            "ready": sum(pod.ready for pod in active),
            "terminating": len(count.terminating),
            "succeeded": len(count.completed) if job.spec.indexed else job.status.succeeded + count.flushed_succeeded,
            "failed": job.status.failed + count.flushed_failed,
        }
        if job.spec.indexed:
            status["completedIndexes"] = indexes.text(count.completed)
            if job.spec.backoff_limit_per_index is not None:
                status["failedIndexes"] = indexes.text(count.failed_indexes)
        status["uncountedTerminatedPods"] = {"succeeded": list(count.uncounted_succeeded), "failed": list(count.uncounted_failed)}
        status |= self._times(suspended)
        conditions, events = self._conditions(end, suspended)
        if conditions is not None:
            status["conditions"] = conditions
            if end is not None and end.type == "Complete" and any(each["type"] == "Complete" for each in conditions):
                status["completionTime"] = self._stamp
        patch = difference(job, status)
        if patch:
            yield Patch(JOBS, job.metadata.key, {"status": patch}, subresource="status", revision=job.metadata.revision)
        yield from events

    def _times(self, suspended: bool) -> dict[str, Any]:
        if suspended:
            return {"startTime": None}
        return {} if self._job.status.start_time else {"startTime": self._stamp}

    def _conditions(self, end: End | None, suspended: bool) -> tuple[list[dict[str, Any]] | None, list[Action]]:
        """Return the new conditions, or None if they stay; and the Events about the change."""
        job, count = self._job, self._tally
        now = [msgspec.to_builtins(each) for each in job.status.conditions]
        wanted: list[tuple[str, str, str, str]] = []
        events: list[Action] = []
        paused = condition(job.status.conditions, "Suspended")
        if suspended and not (paused and paused.status == "True"):
            wanted.append(("Suspended", "True", "JobSuspended", "Job suspended"))
            events.append(pods.event(JOB, job, "Suspended", "Job suspended"))
        elif not job.spec.suspend and paused and paused.status == "True":
            wanted.append(("Suspended", "False", "JobResumed", "Job resumed"))
            events.append(pods.event(JOB, job, "Resumed", "Job resumed"))
        if end is not None:
            interim = "FailureTarget" if end.type == "Failed" else "SuccessCriteriaMet"
            if not job.has(interim):
                wanted.append((interim, "True", end.reason, end.message))
            elif not (count.active or count.terminating or count.uncounted_failed or count.uncounted_succeeded):
                wanted.append((end.type, "True", end.reason, end.message))
                events.append(self._finished_event(end))
        if not wanted:
            return None, events
        changed = {type_ for type_, *_ in wanted}
        new = [self._condition(*each) for each in wanted]
        return [*(_plain(each) for each in now if each["type"] not in changed), *new], events

    def _condition(self, type_: str, status: str, reason: str, message: str) -> dict[str, Any]:
        stamps = {"lastProbeTime": self._stamp, "lastTransitionTime": self._stamp}
        return {"type": type_, "status": status, "reason": reason, "message": message, **stamps}

    def _finished_event(self, end: End) -> Action:
        if end.type == "Complete":
            return pods.event(JOB, self._job, "Completed", "Job completed")
        return pods.event(JOB, self._job, end.reason, end.message, "Warning")


def _plain(said: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("type", "status", "reason", "message", "lastTransitionTime")
    return {**{name: said[name] for name in kept}, "lastProbeTime": said["lastTransitionTime"]}


def _with_index(container: Mapping[str, Any]) -> dict[str, Any]:
    """Give a container its index as a variable, unless it has that variable."""
    environment = container.get("env") or []
    if any(each.get("name") == "JOB_COMPLETION_INDEX" for each in environment):
        return dict(container)
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
    return {**container, "env": [*environment, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]}


def _ended_at(pod: Pod) -> float:
    """Return when the last container of a finished pod ended, in seconds since the epoch; if that is unknown, when the pod was made."""
    times = [status.state.terminated.finished_at for status in pod.status.container_statuses if status.state.terminated]
    known = [parse_rfc3339(time) for time in times if time]
    return max(known) if known else parse_rfc3339(pod.metadata.creation_timestamp or "1970-01-01T00:00:00Z")


def _of_pod(view: View, seen: Seen) -> Iterator[Key]:
    yield from concerned(view, JOB, seen)
    if seen.new is not None:
        yield from _held(seen.new)
