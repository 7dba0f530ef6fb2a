"""One repetition on a stage whose state is restored: steady, load, the steps of the timeline in their time, and what was measured.

Time is the stage's: a step waits for its moment on that clock, and nothing here sleeps.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from labctl.errors import LabctlError
from labctl.experiments import selectors
from labctl.experiments.plan import Plan
from labctl.experiments.selectors import Chooser
from labctl.experiments.stage import ActionRequest, Condition, FaultRequest, Running, Stage, StageGone, StageRefuses
from labctl.experiments.steps import PlannedStep
from labctl.measure.records import Measurement
from labctl.measure.timeline import Timeline

_LOOK_S = 0.1  # between two looks at a condition


class BrokenOff(LabctlError):
    """The experiment can't go on: a steady state that never came, or manifests that are refused."""


def wait_steady(stage: Stage, plan: Plan, conditions: Sequence[Condition] | None = None) -> None:
    """Return when every condition (default: the whole steady state) holds at once. BrokenOff says what was missing when its time was over."""
    deadline_s = stage.now() + plan.steady_within_s
    wanted = plan.steady if conditions is None else conditions
    while missing := [text for condition in wanted if (text := stage.unmet(condition))]:
        if stage.now() >= deadline_s:
            raise BrokenOff(
                f"the steady state did not come within {plan.steady_within_s:g} s: {'; '.join(missing)}",
                mend="if it only needs longer, write steady_within",
            )
        stage.wait(stage.now() + _LOOK_S)


def refuse_early(stage: Stage, plans: Sequence[Plan]) -> None:
    """Raise StageRefuses if this lab can't do a fault of these plans whose target is there before anything is deployed: a machine, the master, a client."""
    requests = [
        FaultRequest(
            name=step.name,
            type=step.fault,
            target=target,
            peer=peer,
            direction=step.direction,
            parameters=step.parameters,
            duration=step.duration,
        )
        for plan in plans
        for step in plan.steps
        if step.fault and (target := _early(stage, step.target)) and ((peer := _early(stage, step.peer, target)) or not step.peer)
    ]
    unique = {msgspec.json.encode(request): request for request in requests}
    if refused := stage.refuse(list(unique.values())):
        raise StageRefuses("; ".join(dict.fromkeys(refused)))


def _early(stage: Stage, text: str, taken: str = "") -> str:
    """Return the target that a text means, with any minion for one that a selector will choose (not `taken`); empty if it is a pod."""
    found = selectors.target(text) if text else ""
    if isinstance(found, selectors.Selector):
        return next((name for name in stage.minions() if name != taken), "") if found.minion else ""
    return "" if found.startswith("pod/") else found


class Repetition:
    """What is played once. After `play` or `break_off` the other attributes hold what came of it."""

    def __init__(self, stage: Stage, plan: Plan, seed: int) -> None:
        self._stage = stage
        self._plan = plan
        self._chooser = Chooser(stage, seed)
        self._running: Running | None = None
        self._names: list[str] = []
        self.done: list[str] = []
        self.measurement: Measurement | None = None
        self.timelines: Sequence[Timeline] = ()

    def deploy(self) -> None:
        """Apply the manifests when the nodes are there. BrokenOff if that never is, or if they are refused, as they would be the next time.

        A machine that was just restored may be silent for some seconds; pods that are made then are all placed on the others, for good.
        """
        wait_steady(self._stage, self._plan, [condition for condition in self._plan.steady if condition.nodes])
        try:
            self._stage.deploy(self._plan.manifests)
        except StageGone:
            raise
        except LabctlError as error:
            raise BrokenOff(error.message, mend=error.mend) from None

    def play(self) -> None:
        """Play the plan to its end. Raises LabctlError if a step or the load fails."""
        wait_steady(self._stage, self._plan)
        targets = {step.name: self._chooser.target(step.target) for step in self._plan.steps if step.fault or step.action == "drain"}
        requests = [self._fault(step, targets[step.name]) for step in self._plan.steps if step.fault and not self._made_later(step)]
        if refused := self._stage.refuse(requests):
            raise StageRefuses("; ".join(refused))
        self._begin_load(list(targets.values()))
        began_s = self._stage.now()
        for step in self._plan.steps:
            self._stage.wait(began_s + step.at_s)
            self._take(step)
        self._stage.wait(began_s + self._plan.duration_s)
        self._end()
        self._stage.heal()

    def _made_later(self, step: PlannedStep) -> bool:
        """Whether the step's pod may be made by an action before it. Whether it can be hit is then known when it is there."""
        makers = [each for each in self._plan.steps if each.action in ("apply", "scale") and each.at_s <= step.at_s]
        return bool(makers) and step.target.startswith("pod/")

    def break_off(self) -> None:
        """Stop the load, keep what it measured, and heal. Raises nothing: the reason for breaking off is the one to report."""
        for work in (self._end, self._stage.heal):
            try:
                work()
            except LabctlError as error:
                self.done.append(f"afterwards: {error}"[:1_000])

    def _begin_load(self, hit: Sequence[str]) -> None:
        load = self._plan.load
        if load is None:
            return
        request = msgspec.structs.replace(load, sources=self._chooser.sources(load.sources, hit))
        if self._plan.without_failures_s:
            self._wait_without_failures(request)
        self._running = self._stage.load(request)

    def _wait_without_failures(self, request) -> None:
        """Return when no request failed for the time that the file demands. BrokenOff if that never comes."""
        deadline_s = self._stage.now() + self._plan.steady_within_s
        while True:
            running = self._stage.load(request)
            try:
                self._stage.wait(self._stage.now() + self._plan.without_failures_s)
            finally:
                measurement = running.stop()
            failed = [each for each in measurement.requests if each.outcome != "ok"]
            if measurement.requests and not failed:
                return
            if self._stage.now() >= deadline_s:
                seen = f"{len(failed)} of {len(measurement.requests)} failed, the last: {failed[-1].outcome}" if failed else "none was sent"
                raise BrokenOff(f"requests did not stop failing within {self._plan.steady_within_s:g} s: {seen}")

    def _fault(self, step: PlannedStep, target: str) -> FaultRequest:
        return FaultRequest(
            name=step.name,
            type=step.fault,
            target=target,
            peer=self._chooser.target(step.peer) if step.peer else "",
            direction=step.direction,
            parameters=step.parameters,
            duration=step.duration,
        )

    def _take(self, step: PlannedStep) -> None:
        """Take a step now. Its target is looked for once more, as a chosen pod may have been replaced."""
        if step.fault:
            done = self._stage.inject(self._fault(step, self._chooser.target(step.target)))
        else:
            target = self._chooser.target(step.target) if step.action in ("drain", "uncordon") else step.target
            action = ActionRequest(name=step.name, type=step.action, target=target, replicas=step.replicas, manifests=step.manifests)
            done = self._stage.act(action)
        self._names.append(step.name)
        self.done += [f"{step.name}: {text}"[:4_000] for text in done]

    def _end(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            self.measurement = running.stop()
        if self._names:
            names, self._names = self._names, []
            self.timelines = self._stage.timelines(names, self.measurement)
