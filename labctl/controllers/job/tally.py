"""Counts a Job's pods: which run, have succeeded, have failed, and which of those are counted already.

A finished pod must be counted exactly once, even if it or the controller is gone in between. So each pod has a finalizer, and counting
takes three
steps (KEP-2307): its uid is written into status.uncountedTerminatedPods, then the finalizer is removed, then the uid becomes part of a
number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from labctl.controllers.job import policies
from labctl.controllers.job.indexes import parse
from labctl.controllers.job.policies import Verdict
from labctl.resources.kinds.batch_v1.job import Job, Uncounted
from labctl.resources.kinds.core_v1.pod_view import Pod

FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"


class Tally(NamedTuple):
    """The counts of one Job at one moment."""

    active: Sequence[Pod]
    terminating: Sequence[Pod]
    succeeded: int  # all of them, including those that are not part of the status's number yet
    failed: int
    completed: frozenset[int]
    failed_indexes: frozenset[int]
    uncounted_succeeded: tuple[str, ...]  # the uids that the status lists after this plan
    uncounted_failed: tuple[str, ...]
    flushed_succeeded: int  # how many of the uids that it lists now become part of the numbers
    flushed_failed: int
    release: Sequence[Pod]  # pods whose finalizer may be removed, because the status lists them
    doomed: Verdict | None  # a failure that ends the whole Job


def index_of(pod: Pod) -> int | None:
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isascii() and text.isdigit() else None


def index_failures(pod: Pod) -> int:
    text = pod.metadata.annotations.get(INDEX_FAILURES, "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def has_failed(job: Job, pod: Pod) -> bool:
    """Tell whether a pod failed, or is being deleted without success while the Job does not wait for such pods to end."""
    if pod.status.phase == "Failed":
        return True
    leaving = pod.metadata.deletion_timestamp is not None and pod.status.phase != "Succeeded"
    return leaving and (job.spec.pod_replacement_policy != "Failed" or not pod.spec.node_name)


class _Fresh:
    """Finished pods that the status does not list yet, sorted by what they mean."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._most = job.spec.completions or 0
        self.completed = parse(job.status.completed_indexes, self._most) if job.spec.indexed else set()
        self.broken = parse(job.status.failed_indexes, self._most) if job.spec.backoff_limit_per_index is not None else set()
        self.succeeded: list[str] = []
        self.failed: list[str] = []
        self.ignored: list[Pod] = []
        self.doomed: Verdict | None = None

    def add(self, pod: Pod) -> None:
        if pod.status.phase == "Succeeded":
            self._success(pod)
        elif has_failed(self._job, pod):
            self._failure(pod)

    def _success(self, pod: Pod) -> None:
        index = index_of(pod)
        if self._job.spec.indexed and (index is None or index >= self._most or index in self.completed):
            self.ignored.append(pod)
            return
        if self._job.spec.indexed and index is not None:
            self.completed.add(index)
        self.succeeded.append(pod.metadata.uid)

    def _failure(self, pod: Pod) -> None:
        verdict = policies.judge(self._job, pod) if pod.status.phase == "Failed" else policies.COUNT
        if verdict.action == "Ignore":
            self.ignored.append(pod)
            return
        if verdict.action == "FailJob":
            self.doomed = self.doomed or verdict
        self.failed.append(pod.metadata.uid)
        limit, index = self._job.spec.backoff_limit_per_index, index_of(pod)
        if index is not None and limit is not None and (verdict.action == "FailIndex" or index_failures(pod) >= limit):
            self.broken.add(index)


def tally(job: Job, mine: Sequence[Pod]) -> Tally:
    listed = job.status.uncounted_terminated_pods or Uncounted()
    held = {pod.metadata.uid: pod for pod in mine if FINALIZER in pod.metadata.finalizers}
    fresh = _Fresh(job)
    for uid, pod in sorted(held.items(), key=lambda each: each[1].metadata.name):
        if uid not in listed.succeeded and uid not in listed.failed:
            fresh.add(pod)
    left_succeeded = tuple(uid for uid in listed.succeeded if uid in held)
    left_failed = tuple(uid for uid in listed.failed if uid in held)
    succeeded = job.status.succeeded + len(listed.succeeded) + len(fresh.succeeded)
    return Tally(
        active=[pod for pod in mine if pod.active],
        terminating=[pod for pod in mine if pod.metadata.deletion_timestamp is not None and not pod.finished],
        succeeded=len(fresh.completed) if job.spec.indexed else succeeded,
        failed=job.status.failed + len(listed.failed) + len(fresh.failed),
        completed=frozenset(fresh.completed),
        failed_indexes=frozenset(fresh.broken - fresh.completed),
        uncounted_succeeded=(*left_succeeded, *fresh.succeeded),
        uncounted_failed=(*left_failed, *fresh.failed),
        flushed_succeeded=len(listed.succeeded) - len(left_succeeded),
        flushed_failed=len(listed.failed) - len(left_failed),
        release=[*(held[uid] for uid in (*left_succeeded, *left_failed)), *fresh.ignored],
        doomed=fresh.doomed,
    )
