"""What a machine needs next, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.machines.decide import FINALIZER, Known, Need, need
from labctl.providers import protocol
from labctl.providers.protocol import Power
from labctl.resources.kind import Meta
from labctl.resources.kinds.labctl_internal_v1.machine import BOOT_REQUEST, Machine, MachineSpec, MachineStatus, PowerEvent


def machine(*, power: str = "On", request: str = "", leaving: bool = False, adopted: bool = True, **status: Any) -> Machine:
    meta = Meta(
        name="minion-1",
        finalizers=(FINALIZER,) if adopted else (),
        deletion_timestamp="2026-01-01T00:00:00Z" if leaving else None,
        annotations={BOOT_REQUEST: request} if request else {},
    )
    return Machine(metadata=meta, spec=MachineSpec(number=1, power=power), status=MachineStatus(**status))


def known(power: Power | None, *, joined: bool = False, refused: bool = False) -> Known:
    real = protocol.Machine("minion-1", power, "10.245.1.11", boot_id="boot-2") if power else None
    return Known(real, joined="boot-2" if joined else "", refused="boot-2" if refused else "")


DIED = PowerEvent(power="Off", boot_id="boot-1", intended=False)
HALTED = PowerEvent(power="Off", boot_id="boot-1", intended=True)

CASES = [
    ("new", machine(adopted=False), known(None), Need.ADOPT),
    ("never booted", machine(), known(None), Need.BOOT),
    ("its boot was cut short", machine(phase="Booting"), known(None), Need.BOOT),
    ("its first boot failed", machine(phase="Failed"), known(None), Need.REST),
    ("its first boot failed, asked again", machine(phase="Failed", request="x"), known(None), Need.BOOT),
    ("on, not joined", machine(boot_id="boot-2"), known(Power.ON), Need.JOIN),
    ("on, joined", machine(boot_id="boot-2"), known(Power.ON, joined=True), Need.REST),
    ("on, refused", machine(boot_id="boot-2"), known(Power.ON, refused=True), Need.REST),
    ("on, refused, asked again", machine(boot_id="boot-2", request="x"), known(Power.ON, refused=True), Need.BOOT),
    ("on, joined, request had", machine(boot_id="boot-2", request="x", observed_boot_request="x"), known(Power.ON, joined=True), Need.REST),
    ("died", machine(boot_id="boot-1", last_event=DIED), known(Power.OFF), Need.REST),
    ("died, gone from its provider", machine(boot_id="boot-1", last_event=DIED), known(None), Need.REST),
    ("died, asked for", machine(boot_id="boot-1", last_event=DIED, request="x"), known(Power.OFF), Need.BOOT),
    (
        "died, asked for long ago",
        machine(boot_id="boot-1", last_event=DIED, request="x", observed_boot_request="x"),
        known(None),
        Need.REST,
    ),
    ("halted, wanted on again", machine(boot_id="boot-1", last_event=HALTED), known(Power.OFF), Need.BOOT),
    ("on, wanted off", machine(power="Off", boot_id="boot-2"), known(Power.ON, joined=True), Need.HALT),
    ("paused, wanted off", machine(power="Off", boot_id="boot-2"), known(Power.PAUSED, joined=True), Need.HALT),
    ("off, wanted off", machine(power="Off", boot_id="boot-1", last_event=HALTED), known(Power.OFF), Need.REST),
    ("off, wanted off, an old request", machine(power="Off", request="x"), known(None), Need.REST),
    ("paused", machine(boot_id="boot-2"), known(Power.PAUSED, joined=True), Need.REST),
    ("paused, asked for", machine(boot_id="boot-2", request="x"), known(Power.PAUSED, joined=True), Need.BOOT),
    ("leaving", machine(leaving=True, boot_id="boot-2"), known(Power.ON, joined=True), Need.DESTROY),
    ("leaving, never adopted", machine(leaving=True, adopted=False), known(None), Need.DESTROY),
]


@pytest.mark.parametrize(("of", "what", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_need(of: Machine, what: Known, expected: Need) -> None:
    assert need(of, what) is expected
