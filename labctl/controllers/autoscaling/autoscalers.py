"""The autoscaler: every 15 seconds it looks what the pods of a Deployment (or of anything that has a scale) use, and sets how many there are to be.

    the target's scale ─► its pods ─► what each metric asks for (metrics.py) ─► the most that a metric asks for ─► what is allowed now (behavior.py) ─► spec.replicas

`plan` decides on the view and on the readings as they are; where a server is being asked, it looks again a moment later.
What it recommended is remembered by `decided`, for the stabilization windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from labctl.clock import rfc3339
from labctl.controllers.autoscaling import behavior, metrics
from labctl.controllers.autoscaling.behavior import History, Verdict
from labctl.controllers.autoscaling.calculate import NoCount, Tolerance
from labctl.controllers.autoscaling.metrics import NotYet, Site
from labctl.reconcile.plan import NOTHING, Action, Index, Key, Patch, Plan, Record, Seen, View
from labctl.resources.kinds.autoscaling_v2.horizontalpodautoscaler import HorizontalPodAutoscaler, Rules
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.shared import condition
from labctl.resources.measures import MetricReader, NoMetrics, Query
from labctl.resources.plurals import AUTOSCALERS, PODS
from labctl.resources.quantities import parse as amount_of
from labctl.resources.registry import Registry
from labctl.resources.selectors import parse as parse_selector
from labctl.resources.usage import NoUsage, UsageReader
from labctl.resources.verbs.subresources import scale_object, unscaled

EVERY_S = 15.0
Said = tuple[bool, str, str]
ANSWER_S = 0.1  # until the next look while a server is being asked
AT_ZERO = "ScaledToZero"  # a condition, which only a change of the number changes
_AT_ZERO_SAID: Said = (True, AT_ZERO, "the HPA controller scaled the workload to zero")
_NOT_AT_ZERO: Said = (False, "NotScaledToZero", "the HPA controller did not scale the workload to zero")


class Target(NamedTuple):
    """What is scaled: the store's resource, its key, its scale, and where its number stands."""

    resource: str
    key: Key
    replicas: int
    current: int
    selector: str
    path: str
    revision: int


class Decision(NamedTuple):
    """What one look came to. `desired` None: nothing can be said. `recommended` is what the metrics asked for, if they were asked."""

    current: int
    desired: int | None
    conditions: dict[str, Said]
    metrics: Sequence[Mapping[str, Any]] = ()
    recommended: int | None = None
    reason: str = ""
    trouble: Sequence[tuple[str, str]] = ()  # Events: reason, message


class Autoscalers:
    """The controller that the module's docstring describes."""

    name = "horizontal-pod-autoscaler"
    kind = AUTOSCALERS

    def __init__(
        self,
        registry: Registry,
        usage: UsageReader = NoUsage(),  # noqa: B008 - it holds nothing
        measures: MetricReader = NoMetrics(),  # noqa: B008 - it holds nothing
    ) -> None:
        self._registry = registry
        self._usage = usage
        self._measures = measures
        self._history: dict[str, History] = {}  # by uid
        self._decisions: dict[Key, tuple[float, Decision]] = {}
        self._asked: dict[Key, Query] = {}  # what a server was being asked for at the last look
        self.watches = {AUTOSCALERS: _changed}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        autoscaler: HorizontalPodAutoscaler | None = view.get(AUTOSCALERS, key)
        if autoscaler is None or autoscaler.metadata.deletion_timestamp is not None:
            self._decisions.pop(key, None)
            self._asked.pop(key, None)
            return NOTHING
        if (asked := self._asked.pop(key, None)) and self._measures.read(asked) is None:
            self._asked[key] = asked  # nothing else is looked at meanwhile: a slow server costs no look at all pods and autoscalers
            return Plan([], ANSWER_S)
        target, why = self._target(view, autoscaler)
        if target is None:
            decision = Decision(
                autoscaler.status.current_replicas,
                None,
                {"AbleToScale": (False, "FailedGetScale", f"the HPA controller was unable to get the target's current scale: {why}")},
                trouble=[("FailedGetScale", why)],
            )
        else:
            try:
                decision = self._decide(view, autoscaler, target, now)
            except NotYet as waiting:
                self._asked[key] = waiting.query
                return Plan([], ANSWER_S)
        self._decisions[key] = (now, decision)
        return Plan(list(_actions(view, autoscaler, target, decision)), EVERY_S, decision.reason)

    def decided(self, view: View, key: Key, plan: Plan, now: float) -> None:
        """Remembers what was recommended, and by how much the number changes."""
        autoscaler: HorizontalPodAutoscaler | None = view.get(AUTOSCALERS, key)
        at_s, decision = self._decisions.pop(key, (0.0, None))
        if autoscaler is None:
            known = {each.metadata.uid for each in view.all(AUTOSCALERS)}
            self._history = {uid: history for uid, history in self._history.items() if uid in known}
            return
        if decision is None or decision.desired is None:
            return
        uid = autoscaler.metadata.uid
        change = decision.desired - decision.current
        history = self._history.get(uid) or _first(decision.current, at_s)
        self._history[uid] = behavior.remembered(history, autoscaler.spec.behavior, at_s, decision.recommended, change)

    def _target(self, view: View, autoscaler: HorizontalPodAutoscaler) -> tuple[Target | None, str]:
        """Return what must be scaled, or else why it can't be."""
        wanted, namespace = autoscaler.spec.scale_target_ref, autoscaler.metadata.namespace
        kind = self._registry.of(wanted.api_version or "v1", wanted.kind)
        if kind is None:
            return None, f'no matches for kind "{wanted.kind}" in version "{wanted.api_version or "v1"}"'
        stored = kind.stored
        key = f"{namespace}/{wanted.name}"
        obj = view.raw(stored.resource, key)
        if obj is None:
            return None, f'{stored.resource} "{wanted.name}" not found'
        if stored.scale is None:
            return None, "the server could not find the requested resource"
        if why := unscaled(stored, obj):
            return None, f"Internal error occurred: {why}"
        scale = scale_object(stored, obj)
        revision, selector = int(obj["metadata"]["resourceVersion"]), scale["status"].get("selector") or ""
        wanted, current = scale["spec"]["replicas"], scale["status"]["replicas"]
        return Target(stored.resource, key, wanted, current, selector, stored.scale.replicas, revision), ""

    def _decide(self, view: View, autoscaler: HorizontalPodAutoscaler, target: Target, now: float) -> Decision:
        spec, current = autoscaler.spec, target.replicas
        conditions: dict[str, Said] = {
            "AbleToScale": (True, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
        }
        if current == 0 and not _at_rest(autoscaler):
            conditions["ScalingActive"] = (False, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
            return Decision(current, 0, conditions)
        if current > spec.max_replicas:
            return Decision(current, spec.max_replicas, conditions, reason="Current number of replicas above Spec.MaxReplicas")
        if current < spec.min_replicas:
            return Decision(current, spec.min_replicas, conditions, reason="Current number of replicas below Spec.MinReplicas")
        if not target.selector:
            message = "the HPA target's scale is missing a selector"
            conditions["ScalingActive"] = (False, "InvalidSelector", message)
            return Decision(current, None, conditions, trouble=[("SelectorRequired", "selector is required")])
        if rivals := self._rivals(view, autoscaler, target):
            message = f"pods by selector {target.selector} are controlled by multiple HPAs: [{' '.join(rivals)}]"
            conditions["ScalingActive"] = (False, "AmbiguousSelector", message)
            return Decision(current, None, conditions, trouble=[("AmbiguousSelector", message), ("FailedComputeMetricsReplicas", message)])
        found = self._metrics(view, autoscaler, target)
        conditions["ScalingActive"] = found.active
        if found.replicas is None:
            return Decision(current, None, conditions, found.shown, trouble=found.trouble)
        verdict = behavior.allowed(
            current,
            found.replicas,
            (spec.min_replicas, spec.max_replicas),
            spec.behavior,
            self._history.get(autoscaler.metadata.uid) or _first(current, now),
            now,
        )
        conditions.update(AbleToScale=verdict.able, ScalingLimited=verdict.limited)
        return Decision(current, verdict.replicas, conditions, found.shown, found.replicas, _reason(current, verdict, found), found.trouble)

    def _rivals(self, view: View, autoscaler: HorizontalPodAutoscaler, target: Target) -> list[str]:
        """Return all autoscalers, this one too, that have a target with some of its pods; none where it is alone."""
        mine = [pod.metadata.labels for pod in _pods(view, autoscaler.metadata.namespace, target.selector)]
        found = []
        for each in view.all(AUTOSCALERS, autoscaler.metadata.namespace):
            other, _ = self._target(view, each)
            if other is not None and other.selector and any(map(parse_selector(other.selector).matches, mine)):
                found.append(f"{{{each.metadata.name} {each.metadata.namespace}}}")
        return sorted(found) if len(found) > 1 else []

    def _metrics(self, view: View, autoscaler: HorizontalPodAutoscaler, target: Target) -> Found:
        """Raises NotYet if nothing can be said before a server has answered."""
        site = self._site(view, autoscaler, target)
        counts, shown, failures = [], [], []
        waiting: NotYet | None = None
        for metric in autoscaler.spec.metrics:
            try:
                asked = metrics.ask(metric, site)
                counts.append((asked.replicas, asked.title))
                shown.append(asked.shown)
            except NotYet as asking:
                waiting = asking  # the others are read nevertheless, so that all servers are asked at once
            except NoCount as why:
                failures.append((metric, str(why)))
                shown.append({"type": ""})
        if waiting:
            raise waiting
        most, title = max(counts, key=lambda each: each[0], default=(0, ""))
        trouble = [(f"FailedGet{metric.type}Metric", why) for metric, why in failures]
        if failures and (not counts or most < target.replicas):
            reason, message = trouble[0]
            active = (False, reason, f"the HPA was unable to compute the replica count: {message}")
            first = f"invalid metrics ({len(failures)} invalid out of {len(autoscaler.spec.metrics)}), first error is: {metrics.failed(*failures[0])}"
            return Found(None, active, shown if counts else (), [*trouble, ("FailedComputeMetricsReplicas", first)])
        active = (True, "ValidMetricFound", f"the HPA was able to successfully calculate a replica count from {title}")
        return Found(most, active, shown, trouble, title)

    def _site(self, view: View, autoscaler: HorizontalPodAutoscaler, target: Target) -> Site:
        namespace = autoscaler.metadata.namespace
        return Site(
            namespace,
            _pods(view, namespace, target.selector),
            target.selector,
            target.replicas,
            target.current,
            _tolerance(autoscaler),
            view.wall(),
            self._registry,
            self._usage,
            self._measures,
        )


def _at_rest(autoscaler: HorizontalPodAutoscaler) -> bool:
    """Tell whether the autoscaler itself brought its target to zero (KEP-2021). Who else did it wants the autoscaler to leave the target alone."""
    said = condition(autoscaler.status.conditions or (), AT_ZERO)
    return said is not None and said.status == "True"


def _first(current: int, now: float) -> History:
    """Return a history in which the replicas of the first look are a recommendation, so that a new autoscaler does not shrink its target at once."""
    return History(recommended=(behavior.Stamped(now, current),))


class Found(NamedTuple):
    """What the metrics say: the most replicas that one of them asks for, or None."""

    replicas: int | None
    active: Said
    shown: Sequence[Mapping[str, Any]]
    trouble: Sequence[tuple[str, str]]
    title: str = ""


def _reason(current: int, verdict: Verdict, found: Found) -> str:
    if verdict.replicas == current:
        return ""
    return f"{found.title} above target" if verdict.replicas > current else "All metrics below target"


def _tolerance(autoscaler: HorizontalPodAutoscaler) -> Tolerance:
    def of(rules: Rules | None, otherwise: float) -> float:
        return float(amount_of(rules.tolerance)) if rules and rules.tolerance is not None else otherwise

    said = autoscaler.spec.behavior
    return Tolerance(of(said.scale_up, 0.1), of(said.scale_down, 0.1))


def _pods(view: View, namespace: str, text: str) -> list[Pod]:
    try:
        selector = parse_selector(text)
    except ValueError:
        return []
    return [pod for pod in view.all(PODS, namespace) if selector.matches(pod.metadata.labels)]


# -- what is written


def _actions(view: View, autoscaler: HorizontalPodAutoscaler, target: Target | None, decision: Decision) -> Iterator[Action]:
    key, desired = autoscaler.metadata.key, decision.desired
    for reason, message in decision.trouble:
        yield Record(AUTOSCALERS, key, reason, message, "Warning")
    conditions = dict(decision.conditions)
    scaled = target is not None and desired is not None and desired != decision.current
    if scaled and target is not None:
        event = Record(AUTOSCALERS, key, "SuccessfulRescale", f"New size: {desired}; reason: {decision.reason}")
        why = f"autoscaler {autoscaler.metadata.name}: {decision.reason}: {decision.current} -> {desired}"
        yield Patch(target.resource, target.key, _at(target.path, desired), revision=target.revision, why=why, event=event)
        conditions["AbleToScale"] = (True, "SucceededRescale", f"the HPA controller was able to update the target scale to {desired}")
        conditions[AT_ZERO] = _AT_ZERO_SAID if desired == autoscaler.spec.min_replicas == 0 else _NOT_AT_ZERO
    status = _status(view, autoscaler, decision, conditions, scaled)
    if status is not None:
        yield Patch(AUTOSCALERS, key, {"status": status}, "status")


def _at(path: str, number: int | None) -> dict[str, Any]:
    value: Any = number
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def _status(
    view: View, autoscaler: HorizontalPodAutoscaler, decision: Decision, said: Mapping[str, Said], scaled: bool
) -> dict[str, Any] | None:
    """Return the status to be written, or None if it would be the same as now."""
    before, now = autoscaler.status, rfc3339(view.wall())
    conditions: list[dict[str, Any]] = []
    generation, changed = autoscaler.metadata.generation, False
    stored = (view.raw(AUTOSCALERS, autoscaler.metadata.key) or {}).get("status") or {}
    kept = {each["type"]: each for each in stored.get("conditions") or ()}
    for kind in (*(each.type for each in (before.conditions or ())), *("AbleToScale", "ScalingActive", "ScalingLimited", AT_ZERO)):
        if any(each["type"] == kind for each in conditions):
            continue
        old, new = condition((before.conditions or ()), kind), said.get(kind)
        if new is None:
            if kind in kept:
                conditions.append(kept[kind])
            continue
        word = "True" if new[0] else "False"
        since = old.last_transition_time if old and old.status == word else now
        conditions.append(
            {
                "type": kind,
                "status": word,
                "observedGeneration": generation,
                "lastTransitionTime": since,
                "reason": new[1],
                "message": new[2],
            }
        )
        changed = changed or old is None or (old.status, old.reason, old.message) != (word, new[1], new[2])
    desired = decision.current if decision.desired is None else decision.desired
    shown = _unchanged_metrics(view, autoscaler)
    told = shown if decision.recommended is None and not decision.metrics else [dict(each) for each in decision.metrics]
    numbers = (before.observed_generation, before.current_replicas, before.desired_replicas)
    same = numbers == (generation, decision.current, desired) and not changed and not scaled
    if same and shown == told:
        return None
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "currentReplicas": decision.current,
        "desiredReplicas": desired,
        "currentMetrics": told or None,
        "conditions": conditions,
    }
    return {**status, **({"lastScaleTime": now} if scaled else {})}


def _unchanged_metrics(view: View, autoscaler: HorizontalPodAutoscaler) -> list[dict[str, Any]]:
    stored = view.raw(AUTOSCALERS, autoscaler.metadata.key) or {}
    return list((stored.get("status") or {}).get("currentMetrics") or ())


def _changed(_view: View, seen: Seen) -> Iterable[Key]:
    """Return a new autoscaler, or one whose spec changed. Its own status is no reason to look again."""
    if seen.old is None or seen.new is None or seen.old.metadata.generation != seen.new.metadata.generation:
        yield seen.key
