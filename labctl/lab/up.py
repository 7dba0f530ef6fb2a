"""`up`: from a folder to Ready nodes, as a list of named steps. Run again, it finishes what was half done."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labctl.errors import LabctlError, UsageError
from labctl.lab import machines, process, providers
from labctl.lab.privilege import give_back
from labctl.lab.progress import step
from labctl.lab.ssh import write_config
from labctl.providers.protocol import Listed, MayEmulate, Power, Prepares, ability

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder
    from labctl.providers.protocol import Machine, Provider

READY_S, EMULATED_READY_S = 180.0, 600.0
"""How long a node may take where nobody says: on an emulated and busy host a boot alone takes minutes."""


def up(lab: LabFolder, snapshot: str = "") -> None:
    """`snapshot` is the name of one that takes the place of what the lab is."""
    if not snapshot:
        _ = lab.settings  # what is wrong in flags, environment or lab.yml is said before anything is touched
    with process.working_on(lab.paths, "up"):
        if snapshot or "restoring" in lab.record:
            _restored(lab, snapshot)
        else:
            _made(lab)
        give_back(lab)


def _made(lab: LabFolder) -> None:
    """Until the lab is what was asked for, whatever there was of it."""
    with process.beginning(lab.paths) as begun:
        count = lab.settings["minions"]
        provider = _prepare(lab) if count else None
        if provider is None:
            lab.save(minions=0, provider=lab.record["kept"].get("provider", ""))
        _master(lab, begun)
        _machines(lab, provider, count)


def _restored(lab: LabFolder, name: str) -> None:
    """Until the lab is what the snapshot was, and what was asked for besides. Without a name: the one whose restore was begun and not finished."""
    with process.beginning(lab.paths, machines_first=True) as begun:
        from labctl.lab import snapshots

        if name:
            snapshots.adopt(lab, name)
        count = lab.settings["minions"]
        _stop_master(lab)
        provider = _known_provider(lab, name) if count else None
        if provider is None:
            lab.save(minions=0, provider=lab.record["kept"].get("provider", ""))
        snapshot = snapshots.restore(lab, provider, name, begun)
        _master(lab, begun)
        _machines(lab, provider, count, restored=True)
        snapshots.wait_for_pods(lab, snapshot)


def _known_provider(lab: LabFolder, name: str) -> Provider:
    """The provider that a snapshot's machines are of. That it works here is not tried before: if it does not, the first machine says so."""
    from labctl.lab import snapshots

    wanted = lab.record["kept"].get("provider", "")
    if not wanted:  # of a snapshot without machines: the lab has none yet either
        return _prepare(lab)
    provider = providers.make(lab, wanted)
    lab.save(provider=wanted, minions=lab.settings["minions"])
    if not snapshots.suffices(lab, name):
        _make_ready(lab, provider)
    return provider


def _stop_master(lab: LabFolder) -> None:
    process.stop_master(lab.paths)
    lab.__dict__.pop("api", None)


def _prepare(lab: LabFolder) -> Provider:
    """Choose the provider and make what its machines start from."""
    said: list[Callable[[str], None]] = [lambda _line: None]
    with step(lab.progress, "provider") as note:
        provider, why = providers.choose(lab, lambda line: said[0](line))
        note(f"{provider.name}: {why}")
    lab.save(provider=provider.name, minions=lab.settings["minions"])
    _make_ready(lab, provider, said)
    return provider


def _make_ready(lab: LabFolder, provider: Provider, said: list[Callable[[str], None]] | None = None) -> None:
    """What new machines start from: a root file system, a box. `said[0]` is where the provider's lines go."""
    if maker := ability(provider, Prepares):
        with step(lab.progress, maker.prepares) as note:
            if said:
                said[0] = note
            settled = maker.prepare()
        if settled:
            lab.save(**settled)


def _master(lab: LabFolder, begun: process.Beginning | None) -> None:
    """Running, and with the settings of now: changing some of them takes a new process, which no pod notices."""
    with step(lab.progress, "master") as note:
        was_running = process.master_pid(lab.paths)
        process.ensure_master(lab.paths, begun=begun, note=note)
        if _runs_with(lab) != lab.record["settings"]:
            note("started anew, as its settings changed")
            _stop_master(lab)
            process.ensure_master(lab.paths, note=note)
            return
        note("already running" if was_running else process.master_run(lab.paths).get("url", ""))


def _runs_with(lab: LabFolder) -> dict[str, Any]:
    """The lab's settings with those in place that the running master was started with."""
    return {**lab.record["settings"], **process.master_run(lab.paths).get("settings", {})}


def _machines(lab: LabFolder, provider: Provider | None, count: int, *, restored: bool = False) -> None:
    """`restored`: what their objects say is of the moment of the snapshot, and a machine that was paused then stays so."""
    if provider is None:
        return
    existing = {machine["spec"]["number"]: machine for machine in machines.list_machines(lab)}
    listed = ability(provider, Listed)
    numbers = _numbers(sorted(existing), count, listed.numbers if listed else ())
    surplus = [existing[number]["metadata"]["name"] for number in sorted(existing.keys() - numbers)]
    if surplus:
        raise UsageError(
            f"{lab.settings.source('minions')}: this lab has {len(existing)} minions, more than {count}",
            mend=f"labctl destroy {' '.join(surplus)}",
        )
    real = provider.machines()  # after a host's reboot the objects still say what was before, until the master has looked
    requests: dict[str, str] = {}
    boots = {name: machine.boot_id for name, machine in real.items() if machine.boot_id} if restored else {}
    paused = {name for name, machine in real.items() if machine.power is Power.PAUSED} if restored else set()
    for number in numbers:
        if f"minion-{number}" in paused:
            continue
        if number not in existing:
            lab.api.post(machines.PATH, machines.wanted(lab, number, provider.name))
        elif not _is_up(existing[number], real.get(f"minion-{number}")):
            requests[f"minion-{number}"] = _request_boot(lab, f"minion-{number}")
    names = [name for number in numbers if (name := f"minion-{number}") not in paused]
    timeout_s = _patience_s(lab, provider)
    longer = f"if it is only slow, LABCTL_READY_S={2 * timeout_s:.0f} labctl up (nodes.ready_s in lab.yml); else "
    machines.wait(lab, names, lambda machine: _not_ready(lab, machine, requests, boots), timeout_s=timeout_s, longer=longer)
    write_config(lab, provider.machines().values())


def _numbers(existing: Sequence[int], count: int, listed: Sequence[int]) -> list[int]:
    """Of `count` machines: those that there are, the first of them if they are too many, and the lowest that are free; of those `listed` before any other."""
    kept = existing[:count]
    numbers = dict.fromkeys(itertools.chain(listed, range(1, len(existing) + len(listed) + count + 1)))
    free = (number for number in numbers if number not in existing)
    return sorted([*kept, *itertools.islice(free, count - len(kept))])


def _patience_s(lab: LabFolder, provider: Provider) -> float:
    """How long a node may take: as the settings say, else what is enough for machines of this kind."""
    machines_of = ability(provider, MayEmulate)
    return lab.settings["nodes.ready_s"] or (EMULATED_READY_S if machines_of and machines_of.emulated else READY_S)


def _is_up(machine: dict[str, Any], real: Machine | None) -> bool:
    ready = machine.get("status", {}).get("phase") == "Ready" and machine["spec"].get("power") == "On"
    return ready and real is not None and real.power is Power.ON


def _request_boot(lab: LabFolder, name: str) -> str:
    """A machine that went off by itself stays off until somebody asks: this is asking. Answers the request's token."""
    token = secrets.token_hex(4)
    from labctl.resources.kinds.labctl_internal_v1.machine import BOOT_REQUEST

    lab.api.patch(f"{machines.PATH}/{name}", {"metadata": {"annotations": {BOOT_REQUEST: token}}, "spec": {"power": "On"}})
    return token


def _not_ready(lab: LabFolder, machine: dict[str, Any] | None, requests: dict[str, str], boots: Mapping[str, str]) -> str:
    """What a machine is at, or "" when its node is Ready."""
    if machine is None:
        raise LabctlError("a machine was deleted while it was being started", mend="labctl up")
    name, status = machine["metadata"]["name"], machine.get("status", {})
    if requests.get(name) not in (None, status.get("observedBootRequest")):
        return "asking for a boot"  # what its status says is from before
    if boots.get(name) not in (None, status.get("bootID")):
        return "booted anew"  # and so is this
    if status.get("phase") == "Failed":
        raise LabctlError(f"{name}: {status.get('message', 'failed')}", mend="labctl doctor, then labctl up")
    if status.get("phase") != "Ready":
        return _at(status.get("phase") or "waiting", status.get("message", ""))
    node = lab.api.find(f"/api/v1/nodes/{name}")
    conditions = {c["type"]: c["status"] for c in (node or {}).get("status", {}).get("conditions", [])}
    same_boot = node and node["status"].get("nodeInfo", {}).get("bootID") == status.get("bootID")
    return "" if conditions.get("Ready") == "True" and same_boot else "joining"


def _at(phase: str, message: str) -> str:
    """`joining (its sshd does not answer)`."""
    return phase.lower() + (f" ({message})" if message else "")
