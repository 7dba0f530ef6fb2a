"""How far an autoscaler may go now: what it recommended before (stabilization), how fast it may change (policies), and its bounds. Arithmetic on frozen values.

Kubernetes' rules (KEP-853). Times are monotonic seconds. `History` is what is remembered of one autoscaler; a new master begins with none, as a new
kube-controller-manager does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from labctl.resources.kinds.autoscaling_v2.horizontalpodautoscaler import DOWN_POLICIES, UP_POLICIES, Behavior, Policy, Rules

DOWN_WINDOW_S = 300.0
MOST_REMEMBERED = 2000


class Stamped(NamedTuple):
    """A recommendation, or by how much the number of replicas changed."""

    at_s: float
    number: int


class History(NamedTuple):
    recommended: tuple[Stamped, ...] = ()
    grown: tuple[Stamped, ...] = ()
    shrunk: tuple[Stamped, ...] = ()


class Verdict(NamedTuple):
    """The number that is allowed, with the conditions AbleToScale and ScalingLimited as (status, reason, message)."""

    replicas: int
    able: tuple[bool, str, str]
    limited: tuple[bool, str, str]


def rules_of(behavior: Behavior) -> tuple[Rules, Rules]:
    """Return the rules for growing and for shrinking, with Kubernetes' defaults for what the autoscaler does not set."""
    up = behavior.scale_up or Rules(policies=tuple(_policy(each) for each in UP_POLICIES))
    down = behavior.scale_down or Rules(policies=tuple(_policy(each) for each in DOWN_POLICIES))
    return up, down


def _policy(said: dict[str, object]) -> Policy:
    return Policy(str(said["type"]), int(str(said["value"])), int(str(said["periodSeconds"])))


def allowed(current: int, desired: int, bounds: tuple[int, int], behavior: Behavior, history: History, now: float) -> Verdict:
    """Return which part of the change to the desired number is allowed now."""
    up, down = rules_of(behavior)
    stable, able = _stabilized(current, desired, up, down, history, now)
    replicas, limited = _limited(current, stable, bounds, up, down, history, now)
    return Verdict(replicas, able, limited)


def _stabilized(current: int, desired: int, up: Rules, down: Rules, history: History, now: float) -> tuple[int, tuple[bool, str, str]]:
    up_window = up.stabilization_window_seconds or 0
    down_window = DOWN_WINDOW_S if down.stabilization_window_seconds is None else down.stabilization_window_seconds
    least = min([desired, *(each.number for each in history.recommended if each.at_s > now - up_window)])
    most = max([desired, *(each.number for each in history.recommended if each.at_s > now - down_window)])
    stable = min(max(current, least), most)
    if stable < desired:
        words = "recent recommendations were lower than current one, applying the lowest recent recommendation"
        return stable, (True, "ScaleUpStabilized", words)
    if stable > desired:
        words = "recent recommendations were higher than current one, applying the highest recent recommendation"
        return stable, (True, "ScaleDownStabilized", words)
    return stable, (True, "ReadyForNewScale", "recommended size matches current size")


def _limited(
    current: int, wanted: int, bounds: tuple[int, int], up: Rules, down: Rules, history: History, now: float
) -> tuple[int, tuple[bool, str, str]]:
    least, most = bounds
    if wanted > current:
        limit = max(current, _up_limit(current, up, history, now))
        if wanted > min(most, limit):
            if limit < most:
                return limit, (True, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
            return most, (True, "TooManyReplicas", "the desired replica count is more than the maximum replica count")
    elif wanted < current:
        limit = min(current, _down_limit(current, down, history, now))
        if wanted < max(least, limit):
            if limit > least:
                return limit, (True, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
            return least, (True, "TooFewReplicas", "the desired replica count is less than the minimum replica count")
    if wanted > most:
        return most, (True, "TooManyReplicas", "the desired replica count is more than the maximum replica count")
    if wanted < least:
        return least, (True, "TooFewReplicas", "the desired replica count is less than the minimum replica count")
    return wanted, (False, "DesiredWithinRange", "the desired count is within the acceptable range")


def _up_limit(current: int, rules: Rules, history: History, now: float) -> int:
    if rules.select_policy == "Disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = current - _within(history.grown, policy, now) + _within(history.shrunk, policy, now)
        limits.append(start + policy.value if policy.type == "Pods" else math.ceil(start * (1 + policy.value / 100)))
    return (min if rules.select_policy == "Min" else max)(limits, default=current)


def _down_limit(current: int, rules: Rules, history: History, now: float) -> int:
    if rules.select_policy == "Disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = current - _within(history.grown, policy, now) + _within(history.shrunk, policy, now)
        limits.append(start - policy.value if policy.type == "Pods" else int(start * (1 - policy.value / 100)))
    return (max if rules.select_policy == "Min" else min)(limits, default=current)


def _within(changes: Iterable[Stamped], policy: Policy, now: float) -> int:
    return sum(each.number for each in changes if each.at_s > now - policy.period_seconds)


def remembered(history: History, behavior: Behavior, now: float, recommendation: int | None, change: int) -> History:
    """Return the history after a decision. What no window reaches any more is forgotten."""
    up, down = rules_of(behavior)
    window_s = max(DOWN_WINDOW_S, up.stabilization_window_seconds or 0, down.stabilization_window_seconds or 0)
    recommended = _kept(history.recommended, window_s, now)
    if recommendation is not None:
        recommended = (*recommended, Stamped(now, recommendation))
    grown = _kept(history.grown, _longest(up, down), now)
    shrunk = _kept(history.shrunk, _longest(up, down), now)
    if change > 0:
        grown = (*grown, Stamped(now, change))
    elif change < 0:
        shrunk = (*shrunk, Stamped(now, -change))
    return History(recommended, grown, shrunk)


def _longest(*rules: Rules) -> float:
    return max((policy.period_seconds for each in rules for policy in each.policies), default=0)


def _kept(stamped: Sequence[Stamped], window_s: float, now: float) -> tuple[Stamped, ...]:
    return tuple(each for each in stamped if each.at_s > now - window_s)[-MOST_REMEMBERED:]
