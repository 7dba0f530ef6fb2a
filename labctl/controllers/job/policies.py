"""What a Job's failure policy says about a failed pod, and whether its success policy is met. All functions are pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from labctl.controllers.job.indexes import spans
from labctl.resources.kinds.batch_v1.job import ExitCodes, FailureRule, Job
from labctl.resources.kinds.core_v1.pod_view import ContainerStatus, Pod


class Verdict(NamedTuple):
    """What a failure means. `action` is Count, Ignore, FailIndex or FailJob; `message` says why, if the policy decided."""

    action: str
    message: str = ""


COUNT = Verdict("Count")


def judge(job: Job, pod: Pod) -> Verdict:
    """Apply the first rule that matches; without one, a failure counts."""
    policy = job.spec.pod_failure_policy
    for number, rule in enumerate(policy.rules if policy else ()):
        message = _matched(rule, pod)
        if message is None:
            continue
        if rule.action == "FailIndex" and job.spec.backoff_limit_per_index is None:
            continue
        return Verdict(rule.action, f"{message} matching {rule.action} rule at index {number}")
    return COUNT


def _matched(rule: FailureRule, pod: Pod) -> str | None:
    if rule.on_exit_codes is not None:
        found = next(_exits(rule.on_exit_codes, pod), None)
        if found is None:
            return None
        status, code = found
        return f"Container {status.name} for pod {pod.metadata.key} failed with exit code {code}"
    for pattern in rule.on_pod_conditions:
        if any(each.type == pattern.type and each.status == (pattern.status or "True") for each in pod.status.conditions):
            return f"Pod {pod.metadata.key} has condition {pattern.type}"
    return None


def _exits(codes: ExitCodes, pod: Pod) -> Iterator[tuple[ContainerStatus, int]]:
    """Yield the containers that ended with an exit code which the rule names; 0 is never a failure."""
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        ended = status.state.terminated
        if ended is None or ended.exit_code == 0 or codes.container_name not in (None, "", status.name):
            continue
        if (ended.exit_code in codes.values) == (codes.operator == "In"):
            yield status, ended.exit_code


def success(job: Job, completed: Collection[int]) -> str | None:
    """Say why the success policy is met with these completed indexes. None means that it is not, or that there is none."""
    for number, rule in enumerate(job.spec.success_policy.rules if job.spec.success_policy else ()):
        wanted = None if rule.succeeded_indexes is None else spans(rule.succeeded_indexes, job.spec.completions or 0)
        counted = len(completed) if wanted is None else _inside(completed, wanted)
        needed = rule.succeeded_count if rule.succeeded_count is not None else sum(map(len, wanted or ()))
        if needed and counted >= needed:
            return f"Matched rules at index {number}"
    return None


def _inside(completed: Collection[int], spans: Sequence[range]) -> int:
    """Return how many of the indexes are in one of the ranges, which are in order."""
    starts = [span.start for span in spans]
    return sum(index in spans[at - 1] for index in completed if (at := bisect_right(starts, index)))
