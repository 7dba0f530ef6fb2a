"""A provider in memory. It keeps the same contract as the real ones (tests/contract/test_provider.py runs on both), with no thread and no
machine.

Watchers are called within the call that changed something, in the order of their registration. Boot ids are counted, so one
seed gives one journal. Only a fake has `crash`, an end that nobody asked for, and `refuse`, which makes `up` fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from labctl.decoding import from_json
from labctl.errors import ProviderError
from labctl.providers.protocol import LinkRule, Machine, MachineEvent, MachineSpec, Power, Stop, Uplink, Verdict

_GATEWAY = "10.245.1.1"


@dataclass
class _Fake:
    spec: MachineSpec
    power: Power = Power.OFF
    boots: int = 0

    @property
    def boot_id(self) -> str:
        return f"boot-{self.spec.name}-{self.boots}"


class FakeProvider:
    """A provider whose machines are up at once. `cut_links` names those that no packet reaches, for the simulated network."""

    name = "fake"

    def __init__(self, arch: str = "amd64", *, own_clocks: bool = False) -> None:
        self._arch = arch
        self._own_clocks = own_clocks
        self._fakes: dict[str, _Fake] = {}
        self._boots: dict[str, int] = {}  # counts the boots, so that no boot id comes twice, even if the machine was destroyed in between
        self._watchers: list[Callable[[MachineEvent], None]] = []
        self._refusals: dict[str, list[ProviderError]] = {}
        self.cut_links: set[str] = set()
        self._rules: dict[str, dict[str, LinkRule]] = {}
        self.no_rules: dict[str, str] = {}  # why a sort of rule can't be done here

    # -- Provider

    def probe(self) -> Verdict:
        return Verdict(True, "a simulation works everywhere")

    def up(self, spec: MachineSpec) -> Machine:
        refusals = self._refusals.get(spec.name)
        if refusals:
            raise refusals.pop(0)
        fake = self._fakes.setdefault(spec.name, _Fake(spec))
        if fake.power is Power.OFF:
            fake.spec = spec
            fake.boots = self._boots[spec.name] = self._boots.get(spec.name, 0) + 1
            self._set(fake, Power.ON, "it was started", intended=True)
        elif fake.power is Power.PAUSED:
            self._set(fake, Power.ON, "it was resumed", intended=True)
        return self._describe(fake)

    def halt(self, name: str, grace_s: float = 10.0) -> None:
        self._off(name, "halted", intended=True)

    def destroy(self, name: str) -> None:
        self._off(name, "destroyed", intended=True)
        self._fakes.pop(name, None)
        self.cut_links.discard(name)

    def machines(self) -> Mapping[str, Machine]:
        return {name: self._describe(fake) for name, fake in sorted(self._fakes.items())}

    def watch(self, tell: Callable[[MachineEvent], None]) -> Stop:
        self._watchers.append(tell)
        for _, fake in sorted(self._fakes.items()):
            tell(MachineEvent(fake.spec.name, fake.power, fake.boot_id, "found so", intended=fake.power is not Power.OFF))

        def stop() -> None:
            if tell in self._watchers:
                self._watchers.remove(tell)

        return stop

    def uplink(self, port: int) -> Uplink:
        return Uplink(f"https://{_GATEWAY}:{port}", _GATEWAY, port)

    def destroy_lab(self) -> None:
        for name in sorted(self._fakes):
            self.destroy(name)

    # -- PowerControl

    def power_off(self, name: str) -> None:
        self._off(name, "its power was cut", intended=False)

    def reset(self, name: str) -> None:
        if name not in self._fakes:
            raise ProviderError(f"there is no machine {name}")
        self._off(name, "it was reset", intended=False)
        self.up(self._fakes[name].spec)

    def pause(self, name: str) -> None:
        fake = self._fakes.get(name)
        if fake and fake.power is Power.ON:
            self._set(fake, Power.PAUSED, "its processes are frozen", intended=True)

    def resume(self, name: str) -> None:
        fake = self._fakes.get(name)
        if fake and fake.power is Power.PAUSED:
            self._set(fake, Power.ON, "it was resumed", intended=True)

    # -- Links

    def cut(self, name: str) -> None:
        if name in self._fakes:
            self.cut_links.add(name)

    def restore(self, name: str) -> None:
        self.cut_links.discard(name)

    # -- LinkRules

    def why_no_rule(self, rule: LinkRule) -> str:
        return self.no_rules.get(rule.what, "")

    def add_rule(self, name: str, tag: str, rule: LinkRule) -> None:
        fake = self._fakes.get(name)
        if fake is None or fake.power is Power.OFF:
            raise ProviderError(f"{name} is off")
        self._rules.setdefault(name, {})[tag] = rule

    def remove_rule(self, name: str, tag: str) -> None:
        self._rules.get(name, {}).pop(tag, None)

    def link_rules(self, name: str) -> Mapping[str, LinkRule]:
        return dict(self._rules.get(name, {}))

    # -- Snapshots

    keeps_memory = False

    def save_machines(self, folder: Path, meanwhile: Callable[[], None]) -> None:
        on = [name for name, fake in sorted(self._fakes.items()) if fake.power is Power.ON]
        saved = [(fake.spec, fake.power is not Power.OFF) for _, fake in sorted(self._fakes.items())]
        for name in on:
            self.pause(name)
        try:
            meanwhile()
        finally:
            for name in on:
                self.resume(name)
        (folder / "machines.json").write_bytes(msgspec.json.encode(saved))

    def check_machines(self, folder: Path) -> None:
        _saved(folder)

    def load_machines(self, folder: Path) -> None:
        saved = _saved(folder)
        for name in sorted(self._fakes.keys() - {spec.name for spec, _ in saved}):
            self.destroy(name)
        for spec, was_on in saved:
            self._off(spec.name, "it was restored", intended=True)
            self._fakes.setdefault(spec.name, _Fake(spec)).spec = spec
            if was_on:
                self.up(spec)

    # -- what only a fake can do

    def crash(self, name: str, reason: str = "its init was killed") -> None:
        """End the machine although nobody asked for it."""
        self._off(name, reason, intended=False)

    def refuse(self, name: str, *errors: ProviderError) -> None:
        """Make the next `up`s of that machine fail with these errors, in order."""
        self._refusals.setdefault(name, []).extend(errors)

    # -- steps

    def _off(self, name: str, reason: str, *, intended: bool) -> None:
        fake = self._fakes.get(name)
        if fake and fake.power is not Power.OFF:
            self.cut_links.discard(name)  # a machine gets a new link at every boot
            self._rules.pop(name, None)
            self._set(fake, Power.OFF, reason, intended=intended)

    def _set(self, fake: _Fake, power: Power, reason: str, *, intended: bool) -> None:
        fake.power = power
        event = MachineEvent(fake.spec.name, power, fake.boot_id, reason, intended)
        for tell in tuple(self._watchers):
            tell(event)

    def _describe(self, fake: _Fake) -> Machine:
        return Machine(
            name=fake.spec.name,
            power=fake.power,
            address=fake.spec.address,
            host_key=f"ssh-ed25519 FAKE-{fake.spec.name}",
            arch=self._arch,
            boot_id="" if fake.power is Power.OFF else fake.boot_id,
            own_clock=self._own_clocks,
        )


def _saved(folder: Path) -> list[tuple[MachineSpec, bool]]:
    try:
        return from_json((folder / "machines.json").read_bytes(), list[tuple[MachineSpec, bool]])
    except (OSError, msgspec.DecodeError) as error:
        raise ProviderError(f"the snapshot's machines can't be read: {error}") from error
