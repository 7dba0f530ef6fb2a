"""`up` leads from a folder to Ready nodes, as a list of named steps. If a run was interrupted, the next one finishes it."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labctl.errors import LabctlError, UsageError
from labctl.lab import machines, process, providers, record, takeover
from labctl.lab.privilege import return_ownership
from labctl.lab.progress import step
from labctl.lab.settings import KEPT
from labctl.lab.ssh import write_config
from labctl.providers.protocol import Listed, MayEmulate, Power, PowerControl, Prepares, ability

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder
    from labctl.providers.protocol import Machine, Provider

READY_S, EMULATED_READY_S = 180.0, 600.0
"""How long a node may take if the settings don't say. On a busy host that emulates the processor, a boot alone takes minutes."""


def up(lab: LabFolder, snapshot: str = "") -> None:
    """Bring the lab up. `snapshot` is the name of one that replaces what the lab is."""
    record.check_place(lab.folder)
    if not snapshot:
        _ = lab.settings  # what is wrong in flags, environment or lab.yml is said before anything is touched
    with process.working_on(lab.paths, "up"):
        if lab.moved_from:  # the master writes its log and journal where the lab was
            process.stop_master(lab.paths)
        if snapshot or "restoring" in lab.record:
            _restored(lab, snapshot)
        else:
            _made(lab)
        return_ownership(lab)


def _made(lab: LabFolder) -> None:
    """Go on until the lab is what was asked for, whatever existed of it."""
    with process.prepare_master(lab.paths) as prepared:
        count = lab.settings["minions"]
        provider = _prepare(lab) if count else None
        if provider is None:
            lab.save(minions=0, provider=lab.record["kept"].get("provider", ""))
        _master(lab, prepared)
        _machines(lab, provider, count)


def _restored(lab: LabFolder, name: str) -> None:
    """Restore the snapshot, and then do what was asked for besides. Without a name: the one whose restore was prepared and not finished."""
    with takeover.prepare_master(lab.paths) as prepared:
        from labctl.lab import snapshots

        if name:
            snapshots.adopt_settings(lab, name)
        count = lab.settings["minions"]
        prepared.replace_running()
        lab.__dict__.pop("api", None)
        provider = _known_provider(lab, name) if count else None
        if provider is None:
            lab.save(minions=0, provider=lab.record["kept"].get("provider", ""))
        snapshot = snapshots.restore(lab, provider, name, prepared)
        _master(lab, prepared)
        _machines(lab, provider, count, restored=True)
        snapshots.wait_for_pods(lab, snapshot)


def _known_provider(lab: LabFolder, name: str) -> Provider:
    """Return the provider of a snapshot's machines. Whether it works here is not tried before; the first machine would tell."""
    from labctl.lab import snapshots

    wanted = lab.record["kept"].get("provider", "")
    if not wanted:  # of a snapshot without machines: the lab has none yet either
        return _prepare(lab)
    provider = providers.make(lab, wanted)
    lab.save(provider=wanted, minions=lab.settings["minions"])
    if not snapshots.has_all_machines(lab, name):
        _make_ready(lab, provider)
    return provider


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
    """Prepare what new machines start from: a root file system, a box. `said[0]` gets the provider's lines."""
    if maker := ability(provider, Prepares):
        with step(lab.progress, maker.prepares) as note:
            if said:
                said[0] = note
            settled = maker.prepare()
        if settled:
            lab.save(**settled)


def _master(lab: LabFolder, prepared: process.PreparedMaster | None) -> None:
    """Make a master run with the present settings. Some changes need a new process; pods don't notice it."""
    with step(lab.progress, "master") as note:
        was_running = process.master_pid(lab.paths)
        process.ensure_master(lab.paths, prepared=prepared, note=note)
        if _runs_with(lab) != lab.record["settings"]:
            note("restarted, because its settings changed")
            with takeover.prepare_master(lab.paths) as again:
                again.replace_running()
                lab.__dict__.pop("api", None)
                process.ensure_master(lab.paths, prepared=again, note=note)
            return
        note("already running" if was_running else process.master_run(lab.paths).get("url", ""))


def _runs_with(lab: LabFolder) -> dict[str, Any]:
    """Return the lab's settings, but with the values that the running master was started with."""
    return {**lab.record["settings"], **process.master_run(lab.paths).get("settings", {})}


def _machines(lab: LabFolder, provider: Provider | None, count: int, *, restored: bool = False) -> None:
    """Write the Machine objects and wait until their nodes are Ready.

    With `restored`, the objects' status is that of the snapshot's moment, and a machine that was paused then stays paused.
    """
    if provider is None:
        return
    existing = {machine["spec"]["number"]: machine for machine in machines.list_machines(lab)}
    if lab.settings.source("minions") == KEPT:
        count = max(count, len(existing))  # a `destroy minion-2` that was interrupted, or the like: nobody asks for fewer now
    listed = ability(provider, Listed)
    numbers = _numbers(sorted(existing), count, listed.numbers if listed else ())
    surplus = [existing[number]["metadata"]["name"] for number in sorted(existing.keys() - numbers)]
    if surplus:
        lab.save(minions=len(existing))  # what is refused is not kept
        raise UsageError(
            f"{lab.settings.source('minions')}: this lab has {len(existing)} minions, more than {count}",
            mend=f"labctl destroy {' '.join(surplus)}",
        )
    ready = _ready_nodes(lab)
    real = provider.machines()  # after a reboot of the host the objects are out of date until the master has looked
    requests: dict[str, str] = {}
    boots = {name: machine.boot_id for name, machine in real.items() if machine.boot_id} if restored else {}
    paused = {name for name, machine in real.items() if machine.power is Power.PAUSED} if restored else set()
    for number in numbers:
        if f"minion-{number}" in paused:
            continue
        if number not in existing:
            lab.api.post(machines.PATH, machines.wanted(lab, number, provider.name))
        elif f"minion-{number}" in boots and existing[number]["spec"].get("power") == "On":
            continue  # the restore has booted it: the master joins it, and whoever asks for another boot waits for one more round of its work
        elif f"minion-{number}" not in ready or not _is_up(existing[number], real.get(f"minion-{number}")):
            requests[f"minion-{number}"] = _request_boot(lab, f"minion-{number}")
    names = [name for number in numbers if (name := f"minion-{number}") not in paused]
    timeout_s = _patience_s(lab, provider)
    machines.wait(
        lab,
        names,
        lambda machine: _not_ready(lab, machine, requests, boots, len(numbers)),
        timeout_s=timeout_s,
        mend=lambda name: _mend(name, provider, len(numbers), timeout_s),
    )
    write_config(lab, provider.machines().values())


def _numbers(existing: Sequence[int], count: int, listed: Sequence[int]) -> list[int]:
    """Choose the numbers of `count` machines: the existing ones first (the lowest, if there are too many), then free ones, `listed` before
    others.
    """
    kept = existing[:count]
    numbers = dict.fromkeys(itertools.chain(listed, range(1, len(existing) + len(listed) + count + 1)))
    free = (number for number in numbers if number not in existing)
    return sorted([*kept, *itertools.islice(free, count - len(kept))])


def _patience_s(lab: LabFolder, provider: Provider) -> float:
    """Return how long a node may take: what the settings say, else what suffices for this kind of machine."""
    machines_of = ability(provider, MayEmulate)
    return lab.settings["nodes.ready_s"] or (EMULATED_READY_S if machines_of and machines_of.emulated else READY_S)


def _ready_nodes(lab: LabFolder) -> set[str]:
    return {node["metadata"]["name"] for node in lab.api.get("/api/v1/nodes")["items"] if _is_ready(node)}


def _is_ready(node: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", []))


def _is_up(machine: dict[str, Any], real: Machine | None) -> bool:
    ready = machine.get("status", {}).get("phase") == "Ready" and machine["spec"].get("power") == "On"
    return ready and real is not None and real.power is Power.ON


def _request_boot(lab: LabFolder, name: str) -> str:
    """Ask for a boot, and return the request's token. A machine that went off by itself stays off until it is asked for."""
    token = secrets.token_hex(4)
    from labctl.resources.kinds.labctl_internal_v1.machine import BOOT_REQUEST

    lab.api.patch(f"{machines.PATH}/{name}", {"metadata": {"annotations": {BOOT_REQUEST: token}}, "spec": {"power": "On"}})
    return token


def _not_ready(lab: LabFolder, machine: dict[str, Any] | None, requests: dict[str, str], boots: Mapping[str, str], count: int) -> str:
    """Return what a machine is doing, or "" when its node is Ready."""
    if machine is None:
        raise LabctlError("a machine was deleted while it was being started", mend="labctl up")
    name, status = machine["metadata"]["name"], machine.get("status", {})
    if requests.get(name) not in (None, status.get("observedBootRequest")):
        return "asking for a boot"  # its status is older than the request
    if boots.get(name) not in (None, status.get("bootID")):
        return "booted again"  # its status is that of the boot before
    if status.get("phase") == "Failed":
        said = status.get("message") or "failed"
        raise LabctlError(
            said if said.startswith(f"{name}: ") else f"{name}: {said}",
            mend=f"labctl doctor, then labctl up{_anew(name, machine['spec'].get('provider'), count)}",
        )
    if status.get("phase") != "Ready":
        return _at(status.get("phase") or "waiting", status.get("message", ""))
    node = lab.api.find(f"/api/v1/nodes/{name}")
    same_boot = node and node["status"].get("nodeInfo", {}).get("bootID") == status.get("bootID")
    return "" if same_boot and _is_ready(node or {}) else "joining"


def _mend(name: str, provider: Provider, count: int, timeout_s: float) -> str:
    """Return what may bring a machine to Ready that is not there after `timeout_s`, the mildest first."""
    slow = f"if it is only slow, LABCTL_READY_S={2 * timeout_s:.0f} labctl up (nodes.ready_s in lab.yml)"
    boot = f"`labctl fault reset {name}`, then labctl up" if ability(provider, PowerControl) else "labctl doctor"
    return f"{slow}; else {boot}{_anew(name, provider.name, count)}; .labctl/log/master.log says more"


def _anew(name: str, provider: str, count: int) -> str:
    """Return how a machine is made anew. A plain `labctl up` does not miss one that was destroyed, so its number is said."""
    return "" if provider == "ssh" else f"; or `labctl destroy {name}` and `labctl up --minions {count}`, which makes it anew"


def _at(phase: str, message: str) -> str:
    """Return a text such as `joining (its sshd does not answer)`."""
    return phase.lower() + (f" ({message})" if message else "")
