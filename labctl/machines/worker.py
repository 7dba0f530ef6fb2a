"""One machine's worker does what the machine needs, one step after another, and writes what it saw into the Machine's status.

    see (object, node)  ─┐
    event (provider)    ─┴► wake ─► need() ─► boot | join | halt | destroy | rest ─► status

When the provider says that the machine has ended, the worker writes that at once, before any step that is waiting, and closes the SSH connections, because
the node controller acts on it. Every step may be repeated safely; a step that failed is tried again after a pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from labctl.errors import ApiError, HostKeyMismatch, LabctlError, RemoteError
from labctl.machines import clocks, status
from labctl.machines.decide import FINALIZER, Known, Need, Phase, need
from labctl.machines.join import MissingPrograms
from labctl.machines.tools import Tools, machine_spec
from labctl.providers.protocol import Machine as Real
from labctl.providers.protocol import MachineEvent, Power
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.labctl_internal_v1.machine import BOOT_REQUEST, Machine
from labctl.resources.plurals import MACHINES, NODES

log = logging.getLogger(__name__)


class MachineWorker:
    """The worker of one machine, as the module's docstring describes."""

    def __init__(self, machine: Machine, real: Real | None, tools: Tools) -> None:
        self.name = machine.metadata.name
        self.known = Known(real=real)
        self._machine = machine
        self._node: Node | None = None
        self._tools = tools
        self._wake = asyncio.Event()  # set when anything arrived
        self._changed = asyncio.Event()  # set when something arrived that this worker has not written itself
        self._gone = False
        self._booting = False
        self._events_during_boot: list[MachineEvent] = []  # events that came during a boot; they may be about that boot
        self._unwritten_end: MachineEvent | None = None  # an end of the machine that could not be written to the store yet
        self._telling: set[asyncio.Task[None]] = set()
        self._task = f"machine-{self.name}"
        tools.supervisor.run(self._task, self._run)

    # -- what arrives

    def see(self, machine: Machine | None, node: Node | None) -> None:
        """Take in the object and its node as the view has them; None means that there is none."""
        if machine is None or _wanted(machine) != _wanted(self._machine) or node is not self._node:
            self._changed.set()
        if machine is None:
            self._gone = True
        elif machine.metadata.revision >= self._machine.metadata.revision:  # the view may be older than what this worker wrote
            self._machine = machine
        self._node = node
        self._wake.set()

    def event(self, event: MachineEvent) -> None:
        """Take in what the provider says about this machine."""
        if self._booting:
            self._events_during_boot.append(event)
            return
        task = asyncio.create_task(self._handle_event(event), name=f"event {self.name}")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def awake(self) -> None:
        """Join the machine again, which checks its clock, because the machine or the whole host was asleep. A running agent is not restarted."""
        self.known.joined = ""
        self._changed.set()
        self._wake.set()

    async def stop(self) -> None:
        await self._tools.supervisor.stop(self._task)
        await asyncio.gather(*self._telling, return_exceptions=True)

    # -- the steps, one after another

    async def _run(self) -> None:
        failures = 0
        try:
            await self._compare_with_provider()
        except LabctlError as error:  # what it could not write is written before the first step, or by `_rest`
            self._note(f"failed: {error}")
        while not self._gone:
            self._wake.clear()
            self._changed.clear()
            try:
                await self._write_end()
                again_s = await self._step()
                failures = 0
            except Exception as error:  # a LabctlError is the world's; any other is our mistake, and must not end the worker
                failures += 1
                again_s = self._failed(error, failures)
            if self._gone or again_s == 0:
                continue
            try:
                async with asyncio.timeout(again_s):
                    await (
                        self._changed if failures else self._wake
                    ).wait()  # writing the failure into the status is no reason to try again
            except TimeoutError:
                pass
        await self._tools.remote.forget(self.name)

    async def _step(self) -> float | None:
        """Do the next step. Return the seconds until the one after it, or None if only a change can make one necessary."""
        steps: dict[Need, Callable[[], Awaitable[float | None]]] = {
            Need.ADOPT: self._adopt,
            Need.DESTROY: self._destroy,
            Need.HALT: self._halt,
            Need.BOOT: self._boot,
            Need.JOIN: self._join,
            Need.REST: self._rest,
        }
        return await steps[need(self._machine, self.known)]()

    async def _adopt(self) -> float | None:
        finalizers = [*self._machine.metadata.finalizers, FINALIZER]
        await self._patch({"metadata": {"finalizers": finalizers}})
        return 0

    async def _boot(self) -> float | None:
        request = self._machine.metadata.annotations.get(BOOT_REQUEST, "")
        if not self._on():
            await self._write(status.booting())
        self._booting = True
        try:
            await self._boot_now(request)
        finally:
            self._booting = False
            await self._apply_events_during_boot()
        return 0

    async def _boot_now(self, request: str) -> None:
        provider, started = self._tools.provider, self._tools.clock.now()
        was_on = self.known.real.boot_id if self._on() and self.known.real else ""
        try:
            spec = machine_spec(self._machine, provider.name, self._tools.lab, self._tools.settings)
            real: Real = await self._tools.blocking(lambda: provider.up(spec))
        except LabctlError as error:
            self._record_event("Warning", "FailedBoot", str(error))
            await self._write(status.failed(str(error), request))
            return
        if not (self._on() and self.known.real == real):
            self._record_event("Normal", "Booted", f"is on after {self._tools.clock.now() - started:.2f} s")
        self.known.real, self.known.refused, self.known.attempts = real, "", 0
        if (
            was_on == real.boot_id
        ):  # who asks for the boot of a machine that is on misses its node: what keeps its agent running may have ended
            self.known.joined = ""
        phase = Phase.READY if self.known.joined == real.boot_id and self._registered(real) else Phase.JOINING
        await self._write(status.booted(real, request, phase, self._tools.clock.wall()))

    async def _join(self) -> float | None:
        real = self.known.real
        assert real is not None
        if not (self._machine.status.phase == Phase.READY and self._machine.status.boot_id == real.boot_id):
            await self._write(
                {"phase": Phase.JOINING, "address": status.address(real)}
            )  # written before its agent registers, which may use no other address
        started = self._tools.clock.now()
        try:
            joined = await (await self._tools.join())(real)
            if real.own_clock and (correct_clock := await clocks.correct_clock(self._tools.remote, self.name, self._tools.clock)):
                self._note(correct_clock)
        except (HostKeyMismatch, MissingPrograms) as error:
            self.known.refused = real.boot_id
            self._record_event("Warning", "FailedJoin", str(error))
            await self._write(status.failed(str(error)))
            return 0
        except RemoteError as error:
            return await self._join_later(real, error)
        if self.known.real is not real:
            return 0  # meanwhile it ended, or was booted again
        self.known.real = msgspec.structs.replace(real, boot_id=joined.boot_id)
        self.known.joined, self.known.attempts = joined.boot_id, 0
        if joined.changed:
            self._record_event("Normal", "Joined", f"{joined.changed} in {self._tools.clock.now() - started:.2f} s")
        return 0

    async def _join_later(self, real: Real, error: RemoteError) -> float | None:
        if self.known.real is not real:
            return 0
        self.known.attempts += 1
        pause_s = self._pause_s(self.known.attempts)
        self._note(f"joining failed, again in {pause_s:.1f} s: {error.message}")
        if self.known.attempts == 3:  # earlier failures are normal while sshd starts
            self._record_event("Warning", "FailedJoin", str(error))
            await self._write({"message": str(error)})
        return pause_s

    async def _rest(self) -> float | None:
        real, written = self.known.real, self._machine.status
        if real is None or real.power is Power.OFF:
            if self._machine.spec.power == "Off" and written.phase != Phase.OFF:
                await self._write({"power": Power.OFF.value, "phase": Phase.OFF, "message": ""})
            return None
        phase = written.phase
        if self.known.joined == real.boot_id and self._registered(real):
            phase = Phase.READY
        if (written.power, written.boot_id) != (real.power.value, real.boot_id):
            await self._write(status.seen_on(real, phase))
        if phase != written.phase:
            await self._write(status.ready(real.boot_id, self._tools.clock.wall()))
        return None

    async def _halt(self) -> float | None:
        real = self.known.real
        assert real is not None
        await self._write({"phase": Phase.HALTING, "message": ""})
        await self._tools.blocking(lambda: self._tools.provider.halt(self.name, self._tools.settings.halt_grace_s))
        await self._apply_event(MachineEvent(self.name, Power.OFF, real.boot_id, "halted", intended=True))
        return 0

    async def _destroy(self) -> float | None:
        await self._write({"phase": Phase.DESTROYING, "message": ""})
        await self._tools.remote.forget(self.name)
        await self._tools.blocking(lambda: self._tools.provider.destroy(self.name))
        self.known.real = None
        await self._unless_deleted(self._tools.client.delete(NODES, self.name))
        finalizers = [each for each in self._machine.metadata.finalizers if each != FINALIZER]
        self._note("destroyed")
        await self._patch({"metadata": {"finalizers": finalizers}})
        self._gone = True
        return None

    async def _apply_events_during_boot(self) -> None:
        """Handle what the provider said during a boot.

        It may be about the boot before, so an end is believed only if the machine is off now.
        """
        while self._events_during_boot:
            event = self._events_during_boot.pop(0)
            if event.power is Power.OFF:
                now = (await self._tools.blocking(self._tools.provider.machines)).get(self.name)
                if now and now.power is not Power.OFF and now.boot_id == event.boot_id:
                    continue
            await self._apply_event(event)

    # -- what was seen

    async def _compare_with_provider(self) -> None:
        """Compare, once at the start, what the object says with what the provider says, and write the difference."""
        real, last = self.known.real, self._machine.status
        if real is None or real.power is Power.OFF:
            if last.power in (Power.ON, Power.PAUSED):
                await self._apply_event(MachineEvent(self.name, Power.OFF, last.boot_id, "it was found off when the master started"))
        elif real.boot_id != last.boot_id and last.boot_id:
            await self._apply_event(MachineEvent(self.name, real.power, real.boot_id, "it was found booted anew when the master started"))

    async def _handle_event(self, event: MachineEvent) -> None:
        """Handle one event at once, beside the steps. If it can't be written now, the next step writes it."""
        try:
            await self._apply_event(event)
        except LabctlError as error:
            self._note(f"could not write down that it is {event.power}: {error}")
        except Exception as error:  # a mistake of ours must not end the worker
            self._tools.supervisor.mistake(self._task, error)
        finally:
            self._changed.set()
            self._wake.set()

    async def _apply_event(self, event: MachineEvent) -> None:
        real, wall_s = self.known.real, self._tools.clock.wall()
        if event.power is Power.OFF:
            await self._end(event)
        elif real is None or event.boot_id != real.boot_id:
            await self._ask_provider(event)
        elif event.power is not real.power:
            self.known.real = msgspec.structs.replace(real, power=event.power)
            await self._write(status.power(event, wall_s))
            if event.power is Power.ON:
                self.awake()
        self._wake.set()

    async def _end(self, event: MachineEvent) -> None:
        last = self._machine.status
        current = self.known.real.boot_id if self._on() and self.known.real else last.boot_id
        if event.boot_id != current or last.power == Power.OFF or self._unwritten_end:
            return  # it is about an earlier boot, or known already
        self.known.real = None
        self.known.joined = ""
        self._unwritten_end = event
        text = f"off ({'intended' if event.intended else 'not intended'}): {event.reason}"
        self._tools.journal.note("machines", f"machine/{self.name}", text, did="off", where=self.name, urgent=True)
        await self._write_end()

    async def _write_end(self) -> None:
        """Write the end of a boot that is not written yet.

        If the store refuses, the next step tries again, because the node controller waits for this.
        """
        event = self._unwritten_end
        if event is None:
            return
        await self._write(status.ended(event, self._tools.clock.wall()))
        self._tools.journal.note("machines", f"{MACHINES}/{self.name}", "its end is written", rev=self._machine.metadata.revision)
        if self._unwritten_end is not event:
            return  # a step wrote it meanwhile
        self._unwritten_end = None
        if not event.intended:
            self._tools.recorder.record(self._machine, "Warning", "PoweredOff", event.reason)
        await self._tools.remote.forget(self.name)

    async def _ask_provider(self, event: MachineEvent) -> None:
        """Ask the provider what is there now, because the machine is on with a boot id that this worker does not know."""
        machines = await self._tools.blocking(self._tools.provider.machines)
        real = machines.get(self.name)
        if real is None or real.power is Power.OFF or (self.known.real and self.known.real.boot_id == real.boot_id):
            return
        self._note(f"on with another boot id: {event.reason}")
        self.known.real, self.known.joined = real, ""
        wall_s = self._tools.clock.wall()
        await self._write({**status.seen_on(real, Phase.JOINING), "lastEvent": status.last_event(event, wall_s)})

    def _on(self) -> bool:
        return self.known.real is not None and self.known.real.power is not Power.OFF

    def _registered(self, real: Real) -> bool:
        """Tell whether its agent has registered the node since this boot."""
        return self._node is not None and self._node.status.node_info.boot_id == real.boot_id

    # -- writing

    async def _write(self, new: dict[str, Any]) -> None:
        await self._patch({"status": new}, "status")

    async def _patch(self, patch: dict[str, Any], subresource: str = "") -> None:
        written = await self._unless_deleted(self._tools.client.patch(MACHINES, self.name, patch, subresource))
        if written is not None and written.metadata.revision >= self._machine.metadata.revision:
            self._machine = written

    async def _unless_deleted(self, write: Awaitable[Any]) -> Any:
        """Await a write. Return None if the object is deleted already."""
        try:
            return await write
        except ApiError as error:
            if error.code != 404:
                raise
            return None

    def _failed(self, error: Exception, failures: int) -> float:
        if not isinstance(error, LabctlError):
            log.error("tending %s failed", self.name, exc_info=error)
        pause_s = self._pause_s(failures)
        self._note(f"failed, again in {pause_s:.1f} s: {error}")
        return pause_s

    def _pause_s(self, failures: int) -> float:
        settings = self._tools.settings
        return min(settings.retry_first_s * 2.0 ** (failures - 1), settings.retry_max_s)

    def _record_event(self, type_: str, reason: str, message: str) -> None:
        self._note(message)
        self._tools.recorder.record(self._machine, type_, reason, message)

    def _note(self, text: str) -> None:
        self._tools.journal.note("machines", f"machine/{self.name}", text)


def _wanted(machine: Machine) -> tuple[object, ...]:
    """Return what others may change of a Machine. Only the worker writes its status."""
    metadata = machine.metadata
    return machine.spec, metadata.annotations, metadata.deletion_timestamp, metadata.finalizers
