"""From the file's words to what the runner plays: a plan for each cell of the matrix. Whatever is wrong is found here, before anything begins.

Every problem is one line with its field: what is wrong and how to mend it. All are collected, so that a person mends a file once.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from labctl.experiments import hypothesis, overlaps, selectors, units
from labctl.experiments.hypothesis import Hypothesis
from labctl.experiments.result import Cell
from labctl.experiments.schema import ACTIONS, Load, Spec, SteadyCondition, Step, Threshold
from labctl.experiments.stage import Condition, LoadRequest
from labctl.experiments.steps import PlannedStep

T = TypeVar("T")
U = TypeVar("U")
_ABOUT_LOAD = ("outage", "recovery", "requests", "failed", "failed_share", "slow", "unsent", "p50", "p99", "longest_gap")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is played in one cell."""

    cell: Cell
    settings: Mapping[str, Any]  # of the lab: names with dots, as `labctl config` shows them
    manifests: tuple[Mapping[str, Any], ...]
    steady: tuple[Condition, ...]
    without_failures_s: float
    steady_within_s: float
    load: LoadRequest | None  # its sources are as written
    duration_s: float
    steps: tuple[PlannedStep, ...]  # in the order of time
    hypotheses: tuple[Hypothesis, ...]


class Problems:
    """Collects what is wrong: `field: sentence`, each once."""

    def __init__(self) -> None:
        self.lines: dict[str, None] = {}

    def add(self, field: str, text: str) -> None:
        self.lines[f"{field}: {text}" if field else text] = None

    def tried(self, field: str, work: Callable[..., T], *arguments: Any, otherwise: U) -> T | U:
        """Return what `work` returns; a ValueError is a problem of that field, and `otherwise` is returned."""
        try:
            return work(*arguments)
        except ValueError as error:
            self.add(field, str(error))
            return otherwise


class FaultType(Protocol):
    """What an experiment must know of a type of faults: whether it is over as soon as it was done."""

    @property
    def once(self) -> bool: ...


class Planner:
    """Turns the file, as it is for one cell, into a plan. `faults` are the types that this labctl has, or None if they are not to be checked."""

    def __init__(self, problems: Problems, faults: Mapping[str, FaultType] | None, matrix: Collection[str]) -> None:
        self._problems = problems
        self._faults = faults
        self._once = frozenset(name for name, type_ in (faults or {}).items() if type_.once)
        self._matrix = matrix

    def plan(
        self, spec: Spec, cell: Cell, manifests: Sequence[Mapping[str, Any]], steps_manifests: Sequence[Sequence[Mapping[str, Any]]]
    ) -> Plan:
        made = selectors.made_by(manifests)
        duration_s = self._seconds("duration", spec.duration)
        settings = _flat(spec.lab)
        steps = tuple(
            self._step(f"timeline[{index}]", step, index, duration_s, made, settings, steps_manifests[index])
            for index, step in enumerate(spec.timeline)
        )
        self._names(steps)
        if not self._problems.lines:
            for field, text in overlaps.contradictions(steps, self._once):
                self._problems.add(field, text)
        hypotheses = tuple(self._hypothesis(f"hypothesis[{index}]", each, spec, cell) for index, each in enumerate(spec.hypothesis))
        return Plan(
            cell=cell,
            settings=settings,
            manifests=tuple(manifests),
            steady=tuple(found for index, each in enumerate(spec.steady) if (found := self._condition(f"steady[{index}]", each, made))),
            without_failures_s=max([self._quiet(f"steady[{index}]", each, spec) for index, each in enumerate(spec.steady)], default=0.0),
            steady_within_s=self._seconds("steady_within", spec.steady_within),
            load=self._load(spec.load, made) if spec.load else None,
            duration_s=duration_s,
            steps=tuple(sorted(steps, key=lambda step: step.at_s)),
            hypotheses=tuple(each for each in hypotheses if each and all(cell.get(name) == value for name, value in each.when.items())),
        )

    def _seconds(self, field: str, text: str | int | float) -> float:
        return self._problems.tried(field, units.seconds, text, otherwise=0.0)

    # -- the steady state ------------------------------------------------------------------------------------------

    def _condition(self, field: str, each: SteadyCondition, made: Collection[str]) -> Condition | None:
        given = [name for name in ("service", "workload", "nodes", "without_failures") if getattr(each, name)]
        if len(given) != 1:
            self._problems.add(field, "write one of service with endpoints, workload with ready, nodes, or without_failures")
            return None
        for name, number in (("service", "endpoints"), ("workload", "ready")):
            if (getattr(each, number) is not None) != (name in given):
                self._problems.add(field, f"{name} and {number} belong together, such as `{name}: web` and `{number}: 2`")
                return None
        if each.service:
            found = self._object(f"{field}.service", each.service, made)
            return Condition(service=found.removeprefix("service/"), endpoints=each.endpoints or 0)
        if each.workload:
            return Condition(workload=self._object(f"{field}.workload", each.workload, made, "deployment"), ready=each.ready or 0)
        return Condition(nodes=each.nodes) if each.nodes else None

    def _quiet(self, field: str, each: SteadyCondition, spec: Spec) -> float:
        if not each.without_failures:
            return 0.0
        if spec.load is None:
            self._problems.add(f"{field}.without_failures", "it needs a `load`, which sends the requests")
        return self._seconds(f"{field}.without_failures", each.without_failures)

    def _object(self, field: str, text: str, made: Collection[str], kind: str = "service") -> str:
        found = self._problems.tried(field, selectors.reference, text, kind, otherwise="")
        if found and made and found not in made:
            there = sorted(each for each in made if each.split("/")[0] in selectors.KINDS.values())
            close = difflib.get_close_matches(found, there, 1)
            hint = f"did you mean {close[0]}?" if close else f"they make {', '.join(there[:10]) or 'none'}"
            self._problems.add(field, f"no manifest of the experiment makes {found}: {hint}")
        return found

    # -- the load --------------------------------------------------------------------------------------------------

    def _load(self, load: Load, made: Collection[str]) -> LoadRequest:
        if bool(load.service) == bool(load.url):
            self._problems.add("load", "write either service or url")
        for index, text in enumerate(load.sources):
            found = self._problems.tried(f"load.sources[{index}]", selectors.source, text, otherwise=None)
            if isinstance(found, selectors.Selector):
                self._object(f"load.sources[{index}]", found.what, made)
        return LoadRequest(
            target=load.url or self._object("load.service", load.service, made),
            port=load.port,
            path=load.path,
            protocol=load.protocol,
            rate=self._problems.tried("load.rate", units.rate, load.rate, otherwise=1.0),
            sources=load.sources,
            keepalive=load.keepalive,
            timeout_s=self._seconds("load.timeout", load.timeout),
        )

    # -- the timeline ----------------------------------------------------------------------------------------------

    def _step(
        self,
        field: str,
        step: Step,
        index: int,
        duration_s: float,
        made: Collection[str],
        settings: Mapping[str, Any],
        manifests: Sequence[Mapping[str, Any]],
    ) -> PlannedStep:
        at_s = self._seconds(f"{field}.at", step.at)
        if duration_s and at_s > duration_s:
            self._problems.add(f"{field}.at", f"{step.at} is after the end: make `duration` longer")
        if bool(step.fault) == bool(step.action):
            self._problems.add(field, "write either fault or action")
        if step.fault:
            self._fault(field, step, made, settings)
        elif step.action:
            self._known(f"{field}.action", "action", step.action, ACTIONS)
        target = self._action(field, step, made) if step.action else step.target
        return PlannedStep(
            name=step.name or f"{step.fault or step.action}-{index + 1}",
            field=field,
            at_s=at_s,
            fault=step.fault,
            action=step.action,
            target=target,
            peer=step.peer,
            direction=step.direction,
            parameters={name: _text(value) for name, value in step.parameters.items()},
            duration=str(step.for_),
            replicas=step.replicas or 0,
            manifests=tuple(manifests),
        )

    def _fault(self, field: str, step: Step, made: Collection[str], settings: Mapping[str, Any]) -> None:
        if self._faults is not None:
            self._known(f"{field}.fault", "fault", step.fault, self._faults)
        for name, text in (("target", step.target), ("peer", step.peer)):
            if not text and name == "target":
                self._problems.add(f"{field}.target", f"a fault needs a target: write {selectors.TARGETS}")
            elif text:
                self._target(f"{field}.{name}", text, made, settings)
        if step.for_ != "":
            self._seconds(f"{field}.for", step.for_)
        if step.replicas is not None or step.manifests:
            self._problems.add(field, "replicas and manifests belong to actions, not to a fault")

    def _target(self, field: str, text: str, made: Collection[str], settings: Mapping[str, Any]) -> None:
        found = self._problems.tried(field, selectors.target, text, otherwise=None)
        if isinstance(found, selectors.Selector):
            self._object(field, found.what, made)
        minions = settings.get("minions")
        if isinstance(found, str) and found.startswith("minion-") and isinstance(minions, int) and int(found[7:]) > minions > 0:
            self._problems.add(field, f"there is no {found}: `lab` says minions: {minions}")

    def _action(self, field: str, step: Step, made: Collection[str]) -> str:
        """Check an action, and return its target: KIND/NAMESPACE/NAME, or a machine or selector as it was written."""
        if step.peer or step.direction or step.parameters or step.for_:
            self._problems.add(field, "peer, direction, parameters and for belong to faults, not to an action")
        if (step.replicas is not None) != (step.action == "scale"):
            self._problems.add(field, "`replicas` and the action scale belong together")
        if bool(step.manifests) != (step.action == "apply"):
            self._problems.add(field, "`manifests` and the action apply belong together")
        if step.action in ("drain", "uncordon"):
            self._target(f"{field}.target", step.target, made, {})
            return step.target
        return self._object(f"{field}.target", step.target, made, "deployment") if step.action != "apply" else ""

    def _known(self, field: str, what: str, name: str, known: Collection[str]) -> None:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
            self._problems.add(field, f"unknown {what} {name}: {hint}")

    def _names(self, steps: Sequence[PlannedStep]) -> None:
        names = [step.name for step in steps]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._problems.add("timeline", f"two steps have the name {name}")

    # -- the hypothesis --------------------------------------------------------------------------------------------

    def _hypothesis(self, field: str, each: str | Threshold, spec: Spec, cell: Cell) -> Hypothesis | None:
        text, when = (each, {}) if isinstance(each, str) else (each.threshold, {name: _text(value) for name, value in each.when.items()})
        for name in when:
            if name not in self._matrix:
                self._problems.add(f"{field}.when", f"{name} is no name of the matrix")
        found = self._problems.tried(field, hypothesis.parse, text, when, otherwise=None)
        if found and found.figure in _ABOUT_LOAD and spec.load is None:
            self._problems.add(field, f"{found.figure} needs a `load`, which sends the requests")
        return found


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with dots in their names, as lab.yml has them."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found.update({f"{name}.{below}": each for below, each in value.items()} if isinstance(value, Mapping) else {name: value})
    return found


def _text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
