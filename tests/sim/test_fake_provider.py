"""What only the fake provider can do; what it shares with real ones is in tests/contract/test_provider.py."""

from __future__ import annotations

import pytest

from labctl.errors import ProviderError
from labctl.providers.protocol import MachineEvent, MachineSpec, Power
from labctl.sim.machines import FakeProvider

SPEC = MachineSpec("minion-1", 1, 1 << 30, 1.0, "10.245.1.11", 24, "ssh-ed25519 AAAA")


def test_a_crash_is_told_within_the_call_and_not_as_intended() -> None:
    fake, told = FakeProvider(), []
    fake.up(SPEC)
    fake.watch(told.append)
    fake.crash("minion-1", "the disk died")
    assert told[-1] == MachineEvent("minion-1", Power.OFF, "boot-minion-1-1", "the disk died", False)
    fake.crash("minion-1")
    assert len(told) == 2


def test_refusals_come_in_order_and_then_it_boots() -> None:
    fake = FakeProvider()
    fake.refuse("minion-1", ProviderError("no memory"), ProviderError("no disk"))
    for why in ("no memory", "no disk"):
        with pytest.raises(ProviderError, match=why):
            fake.up(SPEC)
    assert fake.up(SPEC).power is Power.ON


def test_a_cut_link_is_a_new_cable_after_the_next_boot() -> None:
    fake = FakeProvider()
    fake.up(SPEC)
    fake.cut("minion-1")
    assert fake.cut_links == {"minion-1"}
    fake.reset("minion-1")
    assert fake.cut_links == set()
