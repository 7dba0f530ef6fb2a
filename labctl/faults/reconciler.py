"""Carries out the Fault objects. It is an Observer: the runner shows it changes, and a worker for each fault does what the fault needs next.

    Fault, Machine, Pod ══ runner ══► seen ─► worker of the fault ─► decide ─► the type's deed ─► status, journal, Events

`master` makes it, starts and stops it. A fault's worker does one step at a time; faults wait only for each other's refusal, so that of two that
contradict each other the second one is refused. Before a deed touches anything, the phase Injecting and what healing needs (`undo`) are on disk;
so a master that was killed anywhere heals what it began, or completes it. Ended faults are kept as a record, and the oldest are removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from labctl.clock import rfc3339_micro
from labctl.errors import ApiError, LabctlError
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
    UNFINISHED,
    Fault,
)
from labctl.resources.plurals import FAULTS, MACHINES, PODS

log = logging.getLogger(__name__)

NAME = "faults"


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

    # -- the workers

    def _wake(self, key: str) -> None:
        if self._stopped:
            self._early.append(key)
            return
        if self._workers is None:
            assert self._site is not None
            self._workers = Workers(self._work, self._site.clock, self._failed)
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
            over = deed.over(fault, site) if fault.phase == ACTIVE and isinstance(deed, Ends) else ""
            decision = decide(fault, site.clock.now(), site.clock.wall(), over)
            if decision.need is Need.REST:
                await self._rest(fault, deed, decision)
                return
            try:
                await Step(site, fault, deed, self._recorder, self._settings, self._beginning).do(decision)
            except ApiError:
                if site.client.get(FAULTS, key) is not None:  # else somebody took it away meanwhile
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
        async with self.beginning:
            why_not = await self._why_not()
            if why_not:
                await self._refuse(why_not)
                return
            assert self.deed is not None
            undo = dict(self.deed.undo(self.fault, self.site))
            fault = await self._write(phase=INJECTING, undo=undo, message="", injectedMonotonic=self.site.clock.now())
        await replace(self, fault=fault)._inject(self.site.clock.now())

    async def _why_not(self) -> str:
        """Says why the fault can't be done; empty if it can. Nothing was touched then."""
        fault, deed, site = self.fault, self.deed, self.site
        if deed is None:
            return f"this labctl can't do {fault.spec.type}"
        others = site.unfinished(fault)
        if len(others) >= self.settings.unfinished_max:
            return f"{len(others)} faults are at work already; heal some first: labctl fault list"
        if rival := next((each for each in others if contradict(fault, each)), None):
            return f"fault {rival.name} ({rival.spec.type} on {rival.spec.target}) is at work there already; heal it first"
        try:
            why_not = deed.refuse(fault, site)
            return why_not or (await deed.probe(fault, site) if isinstance(deed, Probes) else "")
        except LabctlError as error:
            return str(error)

    async def _inject(self, began: float) -> None:
        """Inject the fault. `began` is when it began first: if a master was killed meanwhile, the later times are unsure."""
        assert self.deed is not None
        fault, site = self.fault, self.site
        wall = site.clock.wall() - (site.clock.now() - began)
        try:
            done = [*await self.deed.inject(fault, site)]
        except LabctlError as error:
            await self._write(phase=HEALING, message=f"it could not be done: {error}")
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
        """Makes it whole. What fails is tried again by the worker, as long as it takes; the phase Healing keeps the reason."""
        fault = self.fault
        if fault.phase != HEALING:
            fault = await self._write(phase=HEALING, message=why)
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

    async def _write(self, **status: Any) -> Fault:
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


def contradict(one: Fault, other: Fault) -> bool:
    """Returns whether both would turn the same thing: the same type on the same target, and of links in the same direction to the same peer."""
    mine, theirs = one.spec, other.spec
    if (mine.type, mine.target) != (theirs.type, theirs.target):
        return False
    same_peer = not mine.peer or not theirs.peer or mine.peer == theirs.peer
    same_direction = "both" in (one.direction, other.direction) or one.direction == other.direction
    same_parameters = mine.type not in BY_PARAMETER or one.parameter(BY_PARAMETER[mine.type]) == other.parameter(BY_PARAMETER[mine.type])
    return same_peer and same_direction and same_parameters


BY_PARAMETER = {"kill-process": "process"}
"""Types of which several may hit one target, if this parameter differs."""
