"""Provider `namespace`: machines made of Linux namespaces, for hosts without virtualisation. This file carries out the protocol with its
parts.

    box       the root file system that all machines share
    lab       the init that is every machine's ancestor, and their network
    machine   one machine's folder, boot and end
    cgroup    limits, pausing, and knowing that nothing of a machine runs any more
    watch     reports what became known
    snapshots copies the machines' file systems into a folder, and back
    inside/   programs that enter namespaces

All methods block, are idempotent, and may be called from several threads and processes: every operation on a machine takes that machine's
lock, and
the present state is read from the kernel each time. Needs root.
"""

from __future__ import annotations

import ipaddress
import os
import platform
import re
import shlex
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labctl.errors import ProviderError
from labctl.paths import remove_tree
from labctl.providers import linkrules, uplinks
from labctl.providers.namespace import cgroup, snapshots
from labctl.providers.namespace.box import Box
from labctl.providers.namespace.inside import command
from labctl.providers.namespace.lab import LabInit
from labctl.providers.namespace.machine import NamespaceMachine
from labctl.providers.namespace.probe import probe
from labctl.providers.namespace.watch import Watcher
from labctl.providers.protocol import MACHINE_NAME, LinkRule, Machine, MachineEvent, MachineSpec, Power, Stop, Uplink, Verdict
from labctl.providers.settings import NamespaceSettings
from labctl.providers.watching import stopper

_NAME = re.compile(MACHINE_NAME)
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _silent(line: str) -> None:
    """Do nothing, as a progress callback."""


class NamespaceProvider:
    """The provider. `state` is this lab's folder on a local file system, labs share `cache`, and `progress` gets lines for people."""

    name = "namespace"
    prepares = "root file system"

    def __init__(
        self,
        lab: str,
        state: Path,
        cache: Path,
        settings: NamespaceSettings | None = None,
        progress: Callable[[str], None] = _silent,
        cgroups: Callable[[str], cgroup.Cgroups] = cgroup.detect,
    ) -> None:
        self._lab_id = lab
        self._state = state
        self._settings = settings or NamespaceSettings()
        self._progress = progress
        self._box = Box(cache, self._settings)
        self._watchers: list[Watcher] = []
        self._detect = cgroups
        self._parts: tuple[cgroup.Cgroups, LabInit] | None = None
        self._parts_lock = threading.Lock()

    # -- Provider

    def probe(self) -> Verdict:
        return probe(self._state)

    def prepare(self) -> None:
        """Build the root file system if there is none; `up` does so too. Only this step takes long, and only once per host."""
        self._box.get(self._progress)

    def up(self, spec: MachineSpec) -> Machine:
        network = ipaddress.IPv4Network(self._settings.network)
        if ipaddress.IPv4Address(spec.address) not in network:
            raise ProviderError(f"{spec.name}: {spec.address} is not in the lab's network {network}")
        machine = self._machine(spec.name)
        try:
            machine.up(spec, self._box.get(self._progress))
        except OSError as error:  # such as a full disk or a limit
            raise ProviderError(f"{spec.name}: {error}") from error
        finally:
            self._changed()
        return self._describe(machine, spec)

    def halt(self, name: str, grace_s: float = 10.0) -> None:
        self._machine(name).halt(grace_s)
        self._changed()

    def destroy(self, name: str) -> None:
        self._machine(name).destroy()
        self._changed()

    def machines(self) -> Mapping[str, Machine]:
        found = {}
        for name, machine in self._existing().items():
            spec = machine.spec()
            if spec and (machine.folder / "host_key.pub").exists():
                found[name] = self._describe(machine, spec)
        return found

    def watch(self, tell: Callable[[MachineEvent], None]) -> Stop:
        return stopper(self._watchers, Watcher(self._existing, lambda: self._lab().pid() != 0, tell, self._settings.rescan_s))

    def uplink(self, port: int) -> Uplink:
        lab = self._lab()
        namespace = lab.namespace()
        listening = _in_a_thread(lambda: _listen(lab, port))
        host, bound = listening.getsockname()
        return Uplink(f"https://{host}:{bound}", host, bound, (listening,), namespace)

    def destroy_lab(self) -> None:
        for name in self._existing():
            self.destroy(name)
        self._lab().destroy()
        for part in ("machines", "trash", "incoming", "locks"):
            remove_tree(self._state / part)
        self._changed()

    # -- PowerControl

    def power_off(self, name: str) -> None:
        self._machine(name).power_off("its power was cut", intended=False)
        self._changed()

    def reset(self, name: str) -> None:
        machine = self._machine(name)
        spec = machine.spec()
        if not spec:
            raise ProviderError(f"there is no machine {name}")
        machine.power_off("it was reset", intended=False)
        self._changed()
        self.up(spec)

    def pause(self, name: str) -> None:
        self._machine(name).freeze(True)
        self._changed()

    def resume(self, name: str) -> None:
        self._machine(name).freeze(False)
        self._changed()

    # -- Links

    def cut(self, name: str) -> None:
        self._machine(name).set_links("down")

    def restore(self, name: str) -> None:
        self._machine(name).set_links("up")

    # -- LinkRules

    def why_no_rule(self, rule: LinkRule) -> str:
        return linkrules.try_out({"probe": rule})

    def add_rule(self, name: str, tag: str, rule: LinkRule) -> None:
        self._machine(name).change_rule(tag, rule)

    def remove_rule(self, name: str, tag: str) -> None:
        self._machine(name).change_rule(tag, None)

    def link_rules(self, name: str) -> Mapping[str, LinkRule]:
        return self._machine(name).link_rules()

    # -- Snapshots

    keeps_memory = False

    def save_machines(self, folder: Path, meanwhile: Callable[[], None]) -> None:
        try:
            snapshots.save(self._existing(), self._made()[0], folder, meanwhile)
        except OSError as error:
            raise ProviderError(f"the machines can't be saved: {error}") from error
        finally:
            self._changed()

    def check_machines(self, folder: Path) -> None:
        snapshots.read(folder)

    def load_machines(self, folder: Path) -> None:
        try:
            with ThreadPoolExecutor(1) as pool:
                network = pool.submit(self._lab().start)  # takes as long as the copies do
                loaded = snapshots.load(self._existing(), self._machine, self._state / "incoming", folder)
                network.result()
            snapshots.boot(loaded, lambda: self._box.get(self._progress))
        except OSError as error:
            raise ProviderError(f"the machines can't be restored: {error}") from error
        finally:
            self._changed()

    # -- parts

    def _lab(self) -> LabInit:
        return self._made()[1]

    def _machine(self, name: str) -> NamespaceMachine:
        if not _NAME.fullmatch(name):  # it becomes the name of a folder
            raise ProviderError(f"{name!r} is no machine's name", mend="use lower-case letters, digits and '-'")
        cgroups, lab = self._made()
        return NamespaceMachine(self._state, name, lab, cgroups, self._settings)

    def _made(self) -> tuple[cgroup.Cgroups, LabInit]:
        """Return the cgroups and the lab.

        They are made when first needed, so that `probe` can say what is missing if they can't be made.
        """
        with self._parts_lock:
            if self._parts is None:
                cgroups = self._detect(self._lab_id)
                self._parts = (cgroups, LabInit(self._state, self._settings, cgroups))
            return self._parts

    def _existing(self) -> dict[str, NamespaceMachine]:
        try:
            names = sorted(os.listdir(self._state / "machines"))
        except FileNotFoundError:
            return {}
        return {name: self._machine(name) for name in names if _NAME.fullmatch(name)}

    def _describe(self, machine: NamespaceMachine, spec: MachineSpec) -> Machine:
        power = Power.OFF
        if machine.running():
            power = Power.PAUSED if machine.frozen() else Power.ON
        boot = machine.boot()
        return Machine(
            name=spec.name,
            power=power,
            address=spec.address,
            host_key=machine.host_key(),
            arch=ARCHITECTURES.get(platform.machine(), platform.machine()),
            boot_id=boot.boot_id if boot and power is not Power.OFF else "",
            proxy_command=shlex.join(command("dial", str(self._lab().alive), spec.address, "22")),
        )

    def _changed(self) -> None:
        for watcher in list(self._watchers):
            watcher.wake()


def _listen(lab: LabInit, port: int) -> socket.socket:
    lab.enter()
    return uplinks.listen(lab.gateway, port)


def _in_a_thread(work: Callable[[], socket.socket]) -> socket.socket:
    """Run `work` in a thread made for it, because it changes the thread's network namespace for good."""
    result: list[socket.socket] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="namespace-uplink")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
