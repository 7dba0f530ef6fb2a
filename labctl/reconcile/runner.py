"""The runner sees every revision once, has controllers plan what it concerns, and carries the plans out.

    store ══ watch ══► view.apply ─┬─► observers: seen
                                   └─► controllers' watches: which keys? ─► queue ─► plan (synchronous) ─► executor ─► client ─► store
                                                                                       └► reporter: journal, why, Events

One runner hosts all controllers on one loop: one watch, one view, one queue of (controller, key). A key is never planned twice at a time, and after
its own writes only on a view that has reached them, so a controller needs no memory of what it just did. What failed is planned again: at once if
somebody else was first, else after a back-off. If the watch is lost (Compacted, Lagging) the view is loaded anew and the difference is planned.
It never decides anything itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeGuard

from labctl.clock import Clock
from labctl.errors import ApiError, Compacted, Conflict, LabctlError, Lagging, Unavailable
from labctl.journal import Journal
from labctl.reconcile.causes import Causes, CausesOf
from labctl.reconcile.executor import ActionExecutor, Writer, target
from labctl.reconcile.following import indexes_of, watches_of
from labctl.reconcile.plan import (
    EVERY,
    Action,
    Bind,
    Controller,
    Create,
    Delete,
    Follower,
    Key,
    Observer,
    Patch,
    Plan,
    Ranks,
    Record,
    Remembers,
    Replace,
    Seen,
)
from labctl.reconcile.queue import KeyedQueue, Place
from labctl.reconcile.reporting import EventRecorder, EventReporter
from labctl.reconcile.settings import ReconcileSettings
from labctl.reconcile.view import LiveView
from labctl.resources.registry import KindChange
from labctl.resources.resources import Resources
from labctl.store.interface import Entry, Watch
from labctl.supervisor import Supervisor

log = logging.getLogger(__name__)

RACES = frozenset({"Conflict", "NotFound", "AlreadyExists"})  # reasons of ApiError that mean: plan again on what is there now
WATCH, PLANS, EVENTS = "runner-watch", "runner-plans", "runner-events"  # its three tasks
CHANGES_AT_ONCE = 64  # taken from the watch before the loop may serve others
AGAIN_MIN_S = 0.001  # a moment that rounds to nothing would be planned for ever

_DID = {Create: "create", Patch: "patch", Replace: "replace", Delete: "delete", Bind: "bind"}  # the journal's words

Item = tuple[int, Key]  # number of the controller, key


class Runner:
    """Hosts controllers and observers; each group sees a change in the order given. `recorder(component)` answers who records Events in its name."""

    def __init__(
        self,
        resources: Resources,
        client: Writer,
        recorder: Callable[[str], EventRecorder],
        followers: Sequence[Follower],
        clock: Clock,
        journal: Journal,
        rng: Random,
        settings: ReconcileSettings = ReconcileSettings(),  # noqa: B008 - frozen
        supervisor: Supervisor | None = None,
    ) -> None:
        self._supervisor = supervisor or Supervisor(clock, journal)
        self.view = LiveView(decoder(resources), clock, indexes_of(followers), self._unreadable)
        self._store = resources.store
        self._registry = resources.registry
        self._stop_listening: Callable[[], None] = lambda: None  # ends listening to the registry
        self._clock = clock
        self._journal = journal
        self._rng = rng
        self._controllers = tuple(one for one in followers if isinstance(one, Controller))
        self._remembering = {number: one for number, one in enumerate(self._controllers) if isinstance(one, Remembers)}
        self._ranking = {number: one for number, one in enumerate(self._controllers) if isinstance(one, Ranks)}
        self._observers = tuple(one for one in followers if isinstance(one, Observer))
        self._following: dict[str, tuple[Observer, ...]] = {}  # by kind, filled as they come
        self._settings = settings
        self._watches = watches_of(self._controllers)
        self._wake = asyncio.Event()
        self._queue: KeyedQueue[Item] = KeyedQueue(settings.backoff_min_s, settings.backoff_max_s, self._wake.set, self._place)
        self._executor = ActionExecutor(client, settings.actions_at_once)
        self._reporter = EventReporter(journal, recorder, lambda: self.idle, clock, settings)
        self._waiting_plans: deque[tuple[int, Item, Plan, Causes]] = deque()  # carried out, waiting for the view to see it
        self._causes: CausesOf[Item] = CausesOf()
        self._running: dict[asyncio.Task[None], None] = {}  # in order, so that stopping is the same each time
        self._watcher: Watch | None = None  # begun, and not followed yet
        self._ticked = (clock.now(), clock.wall())
        self._due = clock.now()  # when it is to look again, at the latest
        self._awake: list[Callable[[], None]] = []
        self.plans = 0  # how many were made

    # -- for others --------------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the view and begin. On return every controller has seen what is there, and nothing is planned yet."""
        self._load()
        self._stop_listening = self._registry.listen(self._kinds_changed)
        self._watcher = self._store.watch("", self.view.revision)
        for name, work in ((WATCH, self._follow), (PLANS, self._work), (EVENTS, self._reporter.run)):
            self._supervisor.run(name, work)

    async def stop(self) -> None:
        """Stops in order: it makes no new plans, lets running writes finish, and has queued Events written."""
        self._stop_listening()
        self._stop_listening = lambda: None
        await self._supervisor.stop(WATCH, PLANS, EVENTS)
        if self._running:
            await asyncio.wait(self._running, timeout=self._settings.stop_s)
        for carried in tuple(self._running):
            carried.cancel()
        try:
            async with asyncio.timeout(self._settings.stop_s):
                await self._reporter.drain()
        except TimeoutError:
            self._journal.note("reconcile", "runner", "stopped with Events unwritten")

    async def told(self) -> None:
        """Wait until the Events of all that was done so far are written."""
        await self._reporter.told()

    def when_awake(self, tell: Callable[[], None]) -> None:
        """Call `tell`, on the loop, whenever this process finds that it, or the whole host, has been asleep."""
        self._awake.append(tell)

    def why(self, kind: str, key: Key) -> str:
        """Return the last sentence that a controller said about an object, or ""."""
        return self._reporter.why(kind, key)

    @property
    def idle(self) -> bool:
        """Tell whether nothing is to be planned, nothing is being carried out, and the view shows all that is stored."""
        return self._queue.idle and self.view.revision == self._store.revision

    # -- see ---------------------------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        for seen in self.view.load(self._store.range("")):
            self._see(seen)

    def _kinds_changed(self, change: KindChange) -> None:
        """Objects may have been stored before their kind was known, or outlive it: the view shows those of the kinds there are, at its own revision."""
        self._following.pop(change.resource, None)
        try:
            page = self._store.range(f"{change.resource}/", at=self.view.revision) if change.new else None
        except Compacted:  # the view is far behind: what changed is seen as the difference
            self._load()
            return
        for seen in self.view.reload(change.resource, page.entries if page else ()):
            self._see(seen)

    async def _follow(self) -> None:
        """Apply every revision, until it is cancelled. After a lost watch the view is loaded anew; what changed between is seen as the difference.

        An error that is nobody's expectation ends the task: its supervisor starts it again, and it begins with a fresh load.
        """
        while True:
            watcher, self._watcher = self._watcher, None
            if watcher is None:
                self._load()
                watcher = self._store.watch("", self.view.revision)
            try:
                await self._apply(watcher)
            except (Compacted, Lagging, Unavailable) as error:
                self._journal.note("reconcile", "runner", f"lost the watch and loads anew: {error}")
            await asyncio.sleep(self._settings.backoff_min_s)

    async def _apply(self, watcher: Watch) -> None:
        changes = 0
        try:
            async for batch in watcher:
                for seen in self.view.apply(batch):
                    self._see(seen)
                self._release_waiting()
                changes += len(batch.changes)
                if changes > CHANGES_AT_ONCE:
                    changes = 0
                    await asyncio.sleep(0)
        finally:
            await watcher.aclose()

    def _see(self, seen: Seen) -> None:
        for observer in self._observers_of(seen.kind):
            try:
                observer.seen(self.view, seen)
            except Exception as error:  # our mistake, in one observer: the others must hear of the change
                log.exception("%s could not take %s/%s in", observer.name, seen.kind, seen.key)
                self._supervisor.mistake(f"observer-{observer.name}", error)
        revision = seen.new.metadata.revision if seen.new is not None else self.view.revision
        for number, keys in self._watches.get(seen.kind, self._watches[EVERY]):
            try:
                for key in keys(self.view, seen):
                    item = (number, key)
                    self._causes.add(item, revision)
                    self._queue.add(item)
            except Exception as error:  # our mistake, in one controller: the others must hear of the change
                name = self._controllers[number].name
                log.exception("%s could not tell what %s/%s concerns", name, seen.kind, seen.key)
                self._supervisor.mistake(f"controller-{name}", error)

    def _observers_of(self, kind: str) -> tuple[Observer, ...]:
        if kind not in self._following:
            self._following[kind] = tuple(one for one in self._observers if kind in one.follows or EVERY in one.follows)
        return self._following[kind]

    def _unreadable(self, key: str, error: Exception) -> None:
        """Notes that one stored object can't be read. All others are handled as usual."""
        log.error("%s can't be read: %s", key, error)
        self._supervisor.mistake("runner-objects", f"{key} can't be read, and is passed over: {error}")

    def _place(self, item: Item) -> Place | None:
        """Return where a key stands among those of its controller, if that has an order."""
        ranking = self._ranking.get(item[0])
        return (item[0], ranking.rank(self.view, item[1])) if ranking else None

    # -- plan --------------------------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            self._look_at_clock()
            started = self._clock.now()
            while len(self._running) < self._settings.plans_at_once and (item := self._queue.pop(self._clock.now())):
                self._plan(item)
                if self._clock.now() - started > self._settings.slice_s:
                    await asyncio.sleep(0)
                    self._look_at_clock()
                    started = self._clock.now()
            await self._wait()

    def _plan(self, item: Item) -> None:
        controller = self._controllers[item[0]]
        causes = self._causes.take(item)
        self.plans += 1
        try:
            plan = controller.plan(self.view, item[1], self._clock.now(), self._rng)
            if (remembers := self._remembering.get(item[0])) is not None:
                remembers.decided(self.view, item[1], plan, self._clock.now())
        except Exception as error:  # our mistake: it must not stop the other keys
            log.exception("%s could not plan %s", controller.name, item[1])
            self._supervisor.mistake(f"controller-{controller.name}", error)
            self._failed(item, error, causes)
            return
        if plan.why:
            self._reporter.note(controller.name, controller.kind, item[1], plan.why, causes=causes)
        if not plan.actions:
            self._finish(item, plan, causes)
            return
        task = asyncio.create_task(self._carry_out(item, plan, causes))
        self._running[task] = None
        task.add_done_callback(self._carried)

    async def _wait(self) -> None:
        """Waits until a key is added or becomes due, or until the clock must be checked."""
        due = self._queue.next_due()
        now = self._clock.now()
        delay_s = self._settings.tick_s if due is None else min(self._settings.tick_s, max(0.0, due - now))
        self._due = now + delay_s
        timer = asyncio.get_running_loop().call_later(delay_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _look_at_clock(self) -> None:
        """Lets every grace period begin again after the host was suspended or the process stood still: silence proves nothing then."""
        now, wall = self._clock.now(), self._clock.wall()
        then, wall_then = self._ticked
        late_s = now - max(self._due, then)
        self._ticked = (now, wall)
        ran_away_s = abs((wall - wall_then) - (now - then))
        if late_s > self._settings.jump_s or ran_away_s > self._settings.jump_s:
            self._journal.note("reconcile", "runner", f"the clock jumped by {max(late_s, ran_away_s):.1f} s: grace periods begin anew")
            self.view.begin_anew()
            for tell in self._awake:
                try:
                    tell()
                except Exception as error:  # our mistake, in one listener
                    self._supervisor.mistake("runner-awake", error)

    # -- do ----------------------------------------------------------------------------------------------------------------------------

    async def _carry_out(self, item: Item, plan: Plan, causes: Causes) -> None:
        try:
            await self._carry_out_all(item, plan, causes)
        except Exception as error:  # our mistake, beside the actions themselves: the key must not stay taken for ever
            log.exception("%s could not finish %s", self._controllers[item[0]].name, item[1])
            self._supervisor.mistake(f"controller-{self._controllers[item[0]].name}", error)
            self._failed(item, error, causes)

    async def _carry_out_all(self, item: Item, plan: Plan, causes: Causes) -> None:
        if len(plan.actions) == 1:
            errors = [await self._act(item, plan.actions[0], causes)]
        else:
            errors = await asyncio.gather(*(self._act(item, action, causes) for action in plan.actions))
        failures = [error for error in errors if error is not None]
        if failures and plan.refused is not None:
            refusals = [(action, error) for action, error in zip(plan.actions, errors, strict=True) if _refused(error)]
            for action in plan.refused(refusals) if refusals else ():
                await self._act(item, action, causes)  # if this fails, it is tried again with the rest
        if failures:
            self._failed(item, next((error for error in failures if not _raced(error)), failures[0]), causes)
        elif self.view.revision >= self._store.revision:
            self._finish(item, plan, causes)
        else:
            self._waiting_plans.append((self._store.revision, item, plan, causes))

    async def _act(self, item: Item, action: Action, causes: Causes) -> Exception | None:
        controller = self._controllers[item[0]]
        component = controller.name
        kind, key = target(action)
        about = self.view.get(action.event.kind, action.event.key) if not isinstance(action, Record) and action.event else None
        try:
            written = await self._executor.do(action)
        except Exception as error:  # LabctlError: the world's; anything else: ours. Either way this key is planned again
            self._tell_failure(item, action, error)
            return error
        if isinstance(action, Record):
            self._record(component, action, self.view.get(kind, key))
            return None
        if action.why:
            key = written.metadata.key if isinstance(action, Create) and written is not None else key
            rev, of = _revision(written) or self._store.revision, f"{controller.kind}/{item[1]}"
            where = action.node if isinstance(action, Bind) else ""
            self._reporter.note(component, kind, key, action.why, rev=rev, causes=causes, did=_DID[type(action)], of=of, where=where)
        if action.event:
            self._record(component, action.event, about)
        return None

    def _record(self, component: str, record: Record, about: Any) -> None:
        if about is not None:
            self._reporter.event(component, about, record)

    def _tell_failure(self, item: Item, action: Action, error: Exception) -> None:
        controller = self._controllers[item[0]]
        if not isinstance(error, LabctlError):
            log.error("%s: %s of %s", controller.name, type(action).__name__, item[1], exc_info=error)
        if isinstance(action, Create) and _refused(error):
            record = Record(controller.kind, item[1], "FailedCreate", f"Error creating: {error.args[0]}", "Warning")
            self._record(controller.name, record, self.view.get(controller.kind, item[1]))

    def _carried(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._wake.set()

    def _failed(self, item: Item, error: Exception, causes: Causes) -> None:
        raced = _raced(error)
        self._causes.give_back(item, causes)
        delay_s = self._queue.fail(item, self._clock.now(), raced=raced)
        if not raced:
            controller = self._controllers[item[0]]
            self._journal.note(controller.name, f"{controller.kind}/{item[1]}", f"failed, again in {delay_s:.2f} s: {error}")

    def _finish(self, item: Item, plan: Plan, causes: Causes) -> None:
        self._queue.done(item)
        if plan.again_s is not None:
            self._causes.give_back(item, causes)
            self._queue.add_later(item, self._clock.now() + max(plan.again_s, AGAIN_MIN_S))

    def _release_waiting(self) -> None:
        while self._waiting_plans and self._waiting_plans[0][0] <= self.view.revision:
            _, item, plan, causes = self._waiting_plans.popleft()
            self._finish(item, plan, causes)


def decoder(resources: Resources) -> Callable[[Entry], Any]:
    """Return a function that returns an entry's typed view, and None for keys that hold no object, such as claims."""

    def decode(entry: Entry) -> Any:
        kind = resources.registry.get(entry.key.partition("/")[0])
        return None if kind is None else resources.view(entry)

    return decode


def _refused(error: Exception | None) -> TypeGuard[ApiError]:
    """Tells whether the API refused an action, and not only because another writer was first."""
    return isinstance(error, ApiError) and not _raced(error)


def _raced(error: Exception) -> bool:
    return isinstance(error, Conflict) or (isinstance(error, ApiError) and error.reason in RACES)


def _revision(written: Any) -> int:
    return written.metadata.revision if written is not None else 0
