"""Carries out the Fault objects. It is an Observer: the runner shows it changes, and a worker for each fault does what the fault needs next.

    Fault, Machine, Pod ══ runner ══► seen ─► worker of the fault ─► decide ─► the type's deed ─► status, journal, Events

`master` makes it, starts and stops it. A fault's worker does one step at a time; faults wait only for each other's refusal, so that of two that
contradict each other the second one is refused. Before a deed touches anything, the phase Injecting and what healing needs (`undo`) are on disk;
so a master that was killed anywhere heals what it began, or completes it. Ended faults are kept as a record, and the oldest are removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from labctl.clock import rfc3339, rfc3339_micro
from labctl.errors import ApiError, LabctlError, StoreError
from labctl.faults.decide import Decision, Need, decide
from labctl.faults.deed import Deed, Ends, Keeps, Probes, Site
from labctl.faults.victims import victims
from labctl.reconcile.plan import Index, Seen, View
from labctl.reconcile.workers import Workers
from labctl.resources.kinds.labctl_internal_v1.fault import (
    ACTIVE,
    ENDED,
    FAILED,
    FINALIZER,
    HEALED,
    HEALING,
    INJECTING,
    REFUSED,
    STUCK,
    UNFINISHED,
    Fault,
)
from labctl.resources.plurals import FAULTS, MACHINES, PODS

log = logging.getLogger(__name__)

NAME = "faults"
RETRY_MAX_S = 10.0  # what fails again and again is tried at least so often; a change of the machine or of the fault tries it at once


class Recorder(Protocol):
    """The part of the Events' recorder that this room uses."""

    def record(self, about: Any, type_: str, reason: str, message: str) -> None: ...


@dataclass(frozen=True)
class FaultSettings:
    ended_keep: int = 100  # this many ended faults are kept as a record
    unfinished_max: int = 50  # more faults than these at one time are refused


class Faults:
    """The Observer that the module's docstring describes. `site` needs no view yet; the runner brings it."""

    name = NAME
    follows = (FAULTS, MACHINES, PODS)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(
        self,
        site: Callable[[View], Site],
        recorder: Recorder,
        deeds: Callable[[], Mapping[str, Deed]],
        settings: FaultSettings = FaultSettings(),  # noqa: B008 - frozen
    ) -> None:
        self._make_site = site
        self._site: Site | None = None
        self._recorder = recorder
        self._deeds = deeds
        self._settings = settings
        self._workers: Workers | None = None
        self._early: list[str] = []  # seen before the start
        self._on_pods: dict[str, set[str]] = {}  # pod -> the faults at work on it
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._kept: set[str] = set()  # uids of the active faults that this process has done again, where that is needed
        self._beginning = asyncio.Lock()
        self._stopped = True

    # -- what the master and the runner call

    def start(self) -> None:
        """Begins to work on the faults that were seen, and on those that come."""
        self._stopped = False
        for key in self._early:
            self._wake(key)
        self._early.clear()

    async def stop(self) -> None:
        """Ends the work at once. What was under way is completed or healed by the next master, as after a kill."""
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._workers:
            await self._workers.stop()

    def seen(self, view: View, change: Seen) -> None:
        if self._site is None or self._site.view is not view:
            self._site = self._make_site(view)
        if change.kind == MACHINES:
            for fault in view.all(FAULTS):
                if fault.phase in UNFINISHED and (fault.form == "pod" or change.key in (fault.spec.target, fault.spec.peer)):
                    self._wake(fault.name)
        elif change.kind == PODS:
            for name in self._on_pods.get(change.key, ()):
                self._wake(name)
        else:
            self._note_pod(change)
            if change.new is not None:
                if not _only_told(change.old, change.new):
                    self._wake(change.key)
            else:
                self._forget(change.key)

    def _note_pod(self, change: Seen) -> None:
        """Remembers which unfinished faults hit which pod, so that a change of any pod costs one look."""
        fault = change.new or change.old
        if fault is None or fault.form != "pod":
            return
        pod = "/".join(fault.pod[:2])
        names = self._on_pods.setdefault(pod, set())
        if change.new is not None and change.new.phase in UNFINISHED:
            names.add(change.key)
        else:
            names.discard(change.key)
        if not names:
            del self._on_pods[pod]

    async def why_not(self, view: View, fault: Fault) -> str:
        """Says why this fault, which is no object yet, could not be done now; empty if it could. Nothing is touched."""
        return await Step(
            self._make_site(view), fault, self._deeds().get(fault.spec.type), self._recorder, self._settings, self._beginning
        ).why_not()

    # -- the workers

    def _wake(self, key: str) -> None:
        if self._stopped:
            self._early.append(key)
            return
        if self._workers is None:
            assert self._site is not None
            self._workers = Workers(self._work, self._site.clock, self._failed, backoff_max_s=RETRY_MAX_S)
            self._workers.start()
        self._workers.wake(key)

    def _forget(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()

    def _later(self, key: str, again_s: float) -> None:
        self._forget(key)
        self._timers[key] = asyncio.get_running_loop().call_later(again_s, self._wake, key)

    def _failed(self, key: str, error: Exception, again_s: float) -> None:
        assert self._site is not None
        self._site.journal.note(NAME, f"{FAULTS}/{key}", f"failed, again in {again_s:.2f} s: {error}")

    async def _work(self, key: str) -> None:
        """Do what the fault needs, step after step, until it needs nothing."""
        assert self._site is not None
        site = self._site
        while (fault := site.client.get(FAULTS, key)) is not None:
            deed = self._deeds().get(fault.spec.type)
            step = Step(site, fault, deed, self._recorder, self._settings, self._beginning)
            try:
                over = deed.over(fault, site) if fault.phase == ACTIVE and isinstance(deed, Ends) else ""
                decision = decide(fault, site.clock.now(), site.clock.wall(), over)
                if decision.need is Need.REST:
                    await self._rest(fault, deed, decision)
                    await step.tell_unstuck()
                    return
                await step.do(decision)
            except Exception as error:
                if site.client.get(FAULTS, key) is None:  # somebody took it away meanwhile
                    return
                with contextlib.suppress(ApiError, StoreError):  # a store that can't be written may be why the step failed
                    await step.tell_stuck(error)
                raise

    async def _rest(self, fault: Fault, deed: Deed | None, decision: Decision) -> None:
        assert self._site is not None
        self._forget(fault.name)
        if fault.phase in ENDED:
            self._kept.discard(fault.metadata.uid)
            return
        if isinstance(deed, Keeps) and fault.metadata.uid not in self._kept:
            await deed.keep(fault, self._site)
            self._kept.add(fault.metadata.uid)
        if decision.again_s is not None:
            self._later(fault.name, decision.again_s)


@dataclass(frozen=True)
class Step:
    """One step of one fault. Each step writes the fault's status, so that the next look at the fault finds another phase."""

    site: Site
    fault: Fault
    deed: Deed | None
    recorder: Recorder
    settings: FaultSettings
    beginning: asyncio.Lock

    async def do(self, decision: Decision) -> None:
        match decision.need:
            case Need.BEGIN:
                await self._begin()
            case Need.SKIP:
                await self._end(HEALED, f"it never began: {decision.why}")
            case Need.INJECT:
                await self._inject(self.fault.status.injected_monotonic)
            case Need.HEAL:
                await self._heal(decision.why)
            case Need.RELEASE:
                others = [each for each in self.fault.metadata.finalizers if each != FINALIZER]
                await self.site.client.patch(
                    FAULTS, self.fault.name, {"metadata": {"finalizers": others}}, revision=self.fault.metadata.revision
                )

    async def _begin(self) -> None:
        """Refuses it, or writes what healing needs and does it. Only what is decided at once keeps other faults waiting: what has to be tried may take
        long on a machine that does not answer.
        """
        why_not = await self.why_not()
        async with self.beginning:
            why_not = why_not or self._why_not_here()
            if why_not:
                await self._refuse(why_not)
                return
            assert self.deed is not None
            undo = dict(self.deed.undo(self.fault, self.site))
            fault = await self._write(phase=INJECTING, undo=undo, message="", injectedMonotonic=self.site.clock.now())
        await replace(self, fault=fault)._inject(self.site.clock.now())

    async def why_not(self) -> str:
        """Says why the fault can't be done now; empty if it can. Nothing is touched."""
        return self._why_not_here() or await self._why_not_tried()

    def _why_not_here(self) -> str:
        """Says what objects alone tell of why the fault can't be done."""
        fault, deed, site = self.fault, self.deed, self.site
        if deed is None:
            return f"this labctl can't do {fault.spec.type}"
        others = site.unfinished(fault)
        if len(others) >= self.settings.unfinished_max:
            return f"{len(others)} faults are at work already; heal some first: labctl fault list"
        if rival := next((each for each in others if contradict(fault, each)), None):
            return f"fault {rival.name} ({rival.spec.type} on {rival.spec.target}) is at work there already; heal it first"
        try:
            return deed.refuse(fault, site)
        except LabctlError as error:
            return str(error)

    async def _why_not_tried(self) -> str:
        """Says what has to be tried to know it: what a kernel can, or a program on the machine."""
        try:
            return await self.deed.probe(self.fault, self.site) if isinstance(self.deed, Probes) else ""
        except LabctlError as error:
            return str(error)

    async def _inject(self, began: float) -> None:
        """Inject the fault. `began` is when it began first: if a master was killed meanwhile, the later times are unsure."""
        assert self.deed is not None
        fault, site = self.fault, self.site
        wall = site.clock.wall() - (site.clock.now() - began)
        try:
            done = [*await self.deed.inject(fault, site)]
        except Exception as error:
            if not isinstance(error, LabctlError):
                log.exception("doing fault %s", fault.name)
            await self._write(phase=HEALING, **_because(f"it could not be done: {error}"))
            return
        took_s = max(0.0, site.clock.now() - began)
        self._note("injected", done)
        times = {"injectedAt": rfc3339_micro(wall), "injectedMonotonic": began, "tookSeconds": round(took_s, 6)}
        if fault.type.once:
            ended = {"healedAt": rfc3339_micro(site.clock.wall()), "healedMonotonic": site.clock.now()}
            await self._write(phase=HEALED, message="it happened once, and there is nothing to heal", done=done, **times, **ended)
            await self._prune()
        else:
            await self._write(phase=ACTIVE, message="", done=done, **times)
        self._tell("Warning", "FaultInjected", f"{fault.spec.type}: {'; '.join(done)}")

    async def _heal(self, why: str) -> None:
        """Makes it whole. What fails is tried again by the worker, as long as it takes; `reasonToHeal` keeps why."""
        fault = self.fault
        if fault.phase != HEALING:
            fault = await self._write(phase=HEALING, **_because(why))
        healed = [*await self.deed.heal(fault, self.site, fault.status.undo)] if self.deed else []
        self._note("healed", healed or [why])
        never = not fault.status.injected_at and "could not be done" in why
        await replace(self, fault=fault)._end(FAILED if never else HEALED, why, healed)

    async def _refuse(self, why: str) -> None:
        self.site.journal.note(NAME, f"{FAULTS}/{self.fault.name}", f"refused: {why}", rev=self.fault.metadata.revision)
        self.recorder.record(self.fault, "Warning", "FaultRefused", why)
        await self._write(phase=REFUSED, message=why)
        await self._prune()

    async def _end(self, phase: str, why: str, healed: Sequence[str] = ()) -> None:
        times = {"healedAt": rfc3339_micro(self.site.clock.wall()), "healedMonotonic": self.site.clock.now()}
        fault = await self._write(phase=phase, message=why, done=[*self.fault.status.done, *healed], **times)
        what = "; ".join(healed) or why
        if self.fault.status.injected_at:
            self._tell("Normal", "FaultHealed", f"{fault.spec.type}: {what}")
        elif phase == FAILED:
            self.recorder.record(fault, "Warning", "FaultFailed", why)
        await self._prune()

    async def _prune(self) -> None:
        """Removes the oldest ended faults, if there are too many."""
        ended = [each for each in self.site.client.list(FAULTS) if each.phase in ENDED]
        ended.sort(key=lambda each: (each.metadata.creation_timestamp or "", each.metadata.revision))
        for fault in ended[: max(0, len(ended) - self.settings.ended_keep)]:
            if not fault.metadata.deletion_timestamp:
                await self.site.client.delete(FAULTS, fault.name, fault.metadata.uid)

    # -- telling

    async def tell_stuck(self, error: Exception) -> None:
        """Writes why the step failed into the fault's status, and records it as an Event. The same reason is told once."""
        fault: Fault | None = self.site.client.get(FAULTS, self.fault.name)
        what = _TRIED.get(fault.phase, "its next step") if fault else ""
        message = f"{what} failed, and is tried again: {str(error)[:1_000] or type(error).__name__}"
        if fault is None or fault.stuck == message:
            return
        await replace(self, fault=fault)._write(message=message, conditions=[self._stuck("True", message)])
        self._tell("Warning", "FaultStuck", f"{fault.spec.type}: {message}")

    async def tell_unstuck(self) -> None:
        """Takes the words away that `tell_stuck` wrote, when a fault that stays in its phase goes on."""
        if self.fault.stuck:
            await self._write(message="", conditions=[self._stuck("False")])

    def _stuck(self, status: str, message: str = "") -> dict[str, str]:
        when = rfc3339(self.site.clock.wall())
        return {
            "type": STUCK,
            "status": status,
            "reason": "StepFailed" if message else "GoesOn",
            "message": message,
            "lastTransitionTime": when,
        }

    async def _write(self, **status: Any) -> Fault:
        if "phase" in status and self.fault.stuck:
            status["conditions"] = [self._stuck("False")]
        written: Fault = await self.site.client.patch(FAULTS, self.fault.name, {"status": status}, "status")
        return written

    def _note(self, word: str, sentences: Sequence[str]) -> None:
        key = f"{FAULTS}/{self.fault.name}"
        text, where = f"{word}: {'; '.join(sentences)}", self.fault.machine
        self.site.journal.note(NAME, key, text, rev=self.fault.metadata.revision, did=word, where=where, urgent=True)

    def _tell(self, type_: str, reason: str, message: str) -> None:
        """Records the Event on the fault and on what it hits."""
        for about in (self.fault, *victims(self.fault, self.site.view)):
            self.recorder.record(about, type_, reason, message)


def _only_told(old: Fault | None, new: Fault) -> bool:
    """Returns whether only the words about a fault changed: it needs nothing for that, and a step that fails is not tried again before its time."""
    if old is None or old.phase != new.phase or old.spec != new.spec:
        return False
    return old.metadata.deletion_timestamp == new.metadata.deletion_timestamp


def contradict(one: Fault, other: Fault) -> bool:
    """Returns whether both would turn the same thing: the same type on the same target, and of links in the same direction to the same peer."""
    mine, theirs = one.spec, other.spec
    if (mine.type, mine.target) != (theirs.type, theirs.target):
        return False
    same_peer = not mine.peer or not theirs.peer or mine.peer == theirs.peer
    same_direction = "both" in (one.direction, other.direction) or one.direction == other.direction
    same_parameters = mine.type not in BY_PARAMETER or one.parameter(BY_PARAMETER[mine.type]) == other.parameter(BY_PARAMETER[mine.type])
    return same_peer and same_direction and same_parameters


def _because(why: str) -> dict[str, str]:
    """Returns the status of a fault that is to be healed: `message` may change while that fails, `reasonToHeal` stays."""
    return {"message": why, "reasonToHeal": why}


_TRIED = {HEALING: "healing it", INJECTING: "doing it", ACTIVE: "keeping it up"}
BY_PARAMETER = {"kill-process": "process"}
"""Types of which several may hit one target, if this parameter differs."""
