"""Snapshots: a lab at one moment, from which it, or a new lab anywhere on this machine, goes on.

    CACHE/snapshots/NAME/
      snapshot.json      what it is: lab, provider, settings, revision, when
      store.db           the master's store at that revision
      machines/          the provider's: disks, and memory where it can (providers.protocol.Snapshots)
      pki/ ssh/          the CA and the SSH key: what the machines trust, and what people's kubeconfigs hold

Saving: machines paused ─► store copied by the master ─► machines copied ─► they go on ─► one rename makes it a snapshot.
Restoring: lab.json says so ─► master stopped ─► keys, store, machines in place ─► lab.json says it is done ─► the rest of `up`.
What is killed half-way is no snapshot, or is a restore that `labctl up` finishes; until then no command starts a master on it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from labctl.certificates import write_file
from labctl.clock import rfc3339
from labctl.errors import LabctlError, StoreError, UsageError
from labctl.lab import machines, process, providers
from labctl.lab.folder import FIXED
from labctl.lab.progress import step
from labctl.providers import locks
from labctl.providers.protocol import Snapshots, ability
from labctl.store.file import highest_revision, rewind

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder
    from labctl.providers.protocol import Provider

LEAP = 1_000_000
"""What a lab that is gone may have written after the snapshot: revisions of a lab made anew go on above that (as etcd's --bump-revision)."""
PODS_TIMEOUT_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Snapshot(msgspec.Struct, frozen=True):
    """snapshot.json. `ready` are the pods that were, as namespace/name."""

    name: str
    lab: str
    saved: str  # RFC 3339
    provider: str
    memory: bool  # machines go on where they were; else they boot
    machines: list[str]
    ready: list[str]
    revision: int
    port: int
    size: int  # bytes on disk
    paused_s: float
    kept: dict[str, Any]  # settings that lab.json keeps
    settings: dict[str, Any]


# -- looking -------------------------------------------------------------------------------------------------------------------


def listed(lab: LabFolder) -> list[Snapshot]:
    """All of this machine, oldest first."""
    folders = lab.paths.snapshots.glob("[!.]*/snapshot.json")
    return sorted((_read(path) for path in folders), key=lambda snapshot: (snapshot.saved, snapshot.name))


def find(lab: LabFolder, name: str) -> Snapshot:
    """LabctlError with the names that there are."""
    path = lab.paths.snapshots / name / "snapshot.json"
    if not _NAME.fullmatch(name) or not path.exists():
        there = ", ".join(snapshot.name for snapshot in listed(lab))
        raise LabctlError(f"there is no snapshot {name}", mend=f"there are {there}" if there else "labctl snapshot save NAME makes one")
    return _read(path)


def _ever_given(lab: LabFolder) -> int:
    """The highest revision that this lab's store ever gave; 0 where nobody knows, because it is gone or damaged."""
    try:
        return highest_revision(lab.paths.store)
    except StoreError:
        return 0


def _read(path: Path) -> Snapshot:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Snapshot)
    except (OSError, msgspec.DecodeError) as error:
        raise LabctlError(f"{path} can't be read: {error}", mend=f"labctl snapshot delete {path.parent.name}") from None


# -- saving --------------------------------------------------------------------------------------------------------------------


def save(lab: LabFolder, name: str) -> Snapshot:
    """The lab as it is now. Its machines stand still for a moment; nothing else is disturbed."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a snapshot", mend="use letters, digits, '-', '_' and '.', and begin with a letter or digit"
        )
    if not lab.exists:
        raise LabctlError(f"there is no lab in {lab.folder} or above", mend="labctl up")
    with process.working_on(lab.paths, "snapshot save"), _new_folder(lab.paths.snapshots, name) as folder:
        _ = lab.api  # a master runs
        with step(lab.progress, f"snapshot {name}") as note:
            snapshot = _write(lab, name, folder)
            note(
                f"{snapshot.size / 1e6:.0f} MB, machines paused {snapshot.paused_s:.2f} s"
                if snapshot.machines
                else f"{snapshot.size / 1e6:.0f} MB"
            )
    return snapshot


def _write(lab: LabFolder, name: str, folder: Path) -> Snapshot:
    provider = _provider(lab)
    revision = 0
    began = ended = 0.0

    def meanwhile() -> None:
        nonlocal revision, began
        began = time.monotonic()
        revision = lab.api.post("/labctl/v1/snapshot", {})["revision"]

    if provider:
        (folder / "machines").mkdir(mode=0o700)
        provider.save_machines(folder / "machines", meanwhile)
        ended = time.monotonic()
    else:
        meanwhile()
    shutil.copyfile(lab.paths.store_snapshot, folder / "store.db")
    lab.paths.store_snapshot.unlink()
    for part in (lab.paths.certificates, lab.paths.ssh_key.parent):
        if part.exists():
            shutil.copytree(part, folder / part.name)
    snapshot = Snapshot(
        name=name,
        lab=lab.record["id"],
        saved=rfc3339(time.time()),
        provider=lab.record["kept"]["provider"] if provider else "",
        memory=bool(provider and provider.keeps_memory),
        machines=[machine["metadata"]["name"] for machine in machines.list_machines(lab)],
        ready=_ready_pods(lab),
        revision=revision,
        port=process.master_run(lab.paths).get("port", 0),
        size=_size(folder),
        paused_s=round(max(0.0, ended - began), 3),
        kept=lab.record["kept"],
        settings=lab.record["settings"],
    )
    write_file(folder / "snapshot.json", msgspec.json.format(msgspec.json.encode(snapshot), indent=1))
    return snapshot


def _provider(lab: LabFolder) -> Snapshots | None:
    """This lab's; None if it has no machines. LabctlError if it can't keep them."""
    name = lab.record["kept"].get("provider", "")
    if not name or not lab.record["settings"].get("minions"):
        return None
    provider = providers.make(lab, name)
    if (keeper := ability(provider, Snapshots)) is None:
        raise LabctlError(f"provider {name} can't keep its machines in a snapshot", mend="make the lab with provider namespace")
    return keeper


@contextlib.contextmanager
def _new_folder(snapshots: Path, name: str) -> Iterator[Path]:
    """A folder that gets its name when the block ends well, and is gone otherwise. One at a time, so that what is left of others is a killed one's."""
    try:
        snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locks.exclusive(snapshots / ".lock"):
            for stale in snapshots.glob(".new-*"):
                shutil.rmtree(stale, ignore_errors=True)
            if (snapshots / name).exists():
                raise LabctlError(f"there is a snapshot {name} already", mend=f"labctl snapshot delete {name}, or choose another name")
            folder = snapshots / f".new-{name}"
            folder.mkdir(mode=0o700)
            try:
                yield folder
                subprocess.run(["sync", "--file-system", str(folder)], check=False)
                os.rename(folder, snapshots / name)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise LabctlError(f"snapshot {name} can't be saved: {error}", mend=f"free space below {snapshots}") from error


def _ready_pods(lab: LabFolder) -> list[str]:
    return sorted(_key(pod) for pod in lab.api.get("/api/v1/pods")["items"] if _ready(pod))


def _key(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


# -- deleting ------------------------------------------------------------------------------------------------------------------


def delete(lab: LabFolder, name: str) -> None:
    folder = lab.paths.snapshots / name
    if not _NAME.fullmatch(name) or not folder.exists():
        find(lab, name)
    with step(lab.progress, f"delete {name}"), locks.exclusive(lab.paths.snapshots / ".lock"):
        gone = lab.paths.snapshots / f".new-{name}.gone"  # if this is killed, the next save removes it
        os.rename(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


# -- restoring: two steps of `up` ----------------------------------------------------------------------------------------------


def adopt(lab: LabFolder, name: str) -> None:
    """Before anything is touched: the lab's settings become the snapshot's, where nobody says otherwise; what can't be otherwise is checked."""
    snapshot = find(lab, name)
    had = lab.record.get("settings", {}) if lab.exists else {}
    if had.get("minions") and not snapshot.machines:
        raise UsageError(
            f"snapshot {name} has no machines, and this lab has", mend=f"labctl destroy, then labctl up --minions 0 --from {name}"
        )
    fixed = {setting: snapshot.settings.get(setting) for setting in FIXED if snapshot.machines}
    for setting, saved in fixed.items():
        if had.get(setting) not in (None, "", "auto", saved):
            raise UsageError(
                f"snapshot {name} was saved with {setting} {saved}, and this lab was made with {had[setting]}",
                mend=f"labctl destroy, then labctl up --from {name}",
            )
    lab.record["kept"] = {**lab.record["kept"], **snapshot.kept, "minions": len(snapshot.machines)}
    lab.__dict__.pop("settings", None)
    for setting, saved in fixed.items():
        if lab.settings[setting] not in ("auto", saved):
            raise UsageError(
                f"{lab.settings.source(setting)}: snapshot {name} was saved with {setting} {saved}, not {lab.settings[setting]}",
                mend="leave that setting out, or begin without a snapshot",
            )
    if lab.settings["minions"] < len(snapshot.machines):
        raise UsageError(
            f"{lab.settings.source('minions')}: snapshot {name} has {len(snapshot.machines)} minions, more than that",
            mend="`labctl destroy MINION` takes away those that are too many, afterwards",
        )
    if snapshot.machines:
        providers.make(lab, snapshot.provider).check_machines(lab.paths.snapshots / name / "machines")  # type: ignore[attr-defined]


def suffices(lab: LabFolder, name: str) -> bool:
    """Whether all machines that are wanted come out of this snapshot as they stood: what others are made from is not needed then."""
    snapshot = find(lab, name or lab.record["restoring"]["name"])
    return snapshot.memory and len(snapshot.machines) == lab.settings["minions"]


def restore(lab: LabFolder, provider: Provider | None, name: str, begun: process.Beginning | None) -> Snapshot:
    """Put the snapshot in the place of what the lab is; without a name, finish what was begun. No master but `begun` can be started before it is done."""
    pending = lab.record.get("restoring", {})
    name = name or pending["name"]
    snapshot, folder = find(lab, name), lab.paths.snapshots / name
    with step(lab.progress, f"snapshot {name}") as note:
        ever = _ever_given(lab) or pending.get("above") or snapshot.revision + LEAP
        lab.record["restoring"] = {"name": name, "above": max(ever, pending.get("above", 0))}
        lab.save()
        process.stop_master(lab.paths)  # one that a command started a moment ago; from now on none can
        _put_keys(lab, folder)
        rewind(folder / "store.db", lab.paths.store, lab.record["restoring"]["above"])
        if not (lab.paths.state / "port").exists():
            write_file(lab.paths.state / "port", str(snapshot.port), 0o644)
        if provider and snapshot.machines and (keeper := ability(provider, Snapshots)):
            _load(keeper, folder / "machines", begun)
        del lab.record["restoring"]
        lab.save()
        if begun and begun.held:
            begun.release()
        note("machines go on where they were" if snapshot.memory else "machines booted" if snapshot.machines else "")
    return snapshot


def _load(keeper: Snapshots, folder: Path, begun: process.Beginning | None) -> None:
    """The machines are put in place while the master opens its store; it looks at no machine before they are all there."""
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(keeper.load_machines, folder)
        try:
            if begun:
                begun.go(hold=True)
        finally:
            loading.result()


def _put_keys(lab: LabFolder, folder: Path) -> None:
    """The snapshot's keys and certificates, and in their folders' folders no other: a token that was signed with a later key is of a lab that never was."""
    for part in (lab.paths.certificates, lab.paths.ssh_key.parent):
        kept = folder / part.name
        names = {file.relative_to(kept) for file in kept.rglob("[!.]*") if file.is_file()}
        for name in sorted(names):
            write_file(part / name, (kept / name).read_bytes(), (kept / name).stat().st_mode & 0o777)
        for file in part.glob("*/*"):
            if file.relative_to(part) not in names:
                file.unlink()


def wait_for_pods(lab: LabFolder, snapshot: Snapshot) -> None:
    """Until the pods that were Ready are so again or have ended, as one that is never restarted has after a boot. One that is late is no error: its events say why."""
    if not snapshot.ready:
        return
    with step(lab.progress, "pods") as note:
        deadline, left = time.monotonic() + PODS_TIMEOUT_S, set(snapshot.ready)
        ended: set[str] = set()
        while left and time.monotonic() < deadline:
            pods = {_key(pod): pod for pod in lab.api.get("/api/v1/pods")["items"]}
            ended = {key for key in snapshot.ready if key in pods and pods[key].get("status", {}).get("phase") in ("Succeeded", "Failed")}
            left = {key for key in left - ended if key in pods and not _ready(pods[key])}
            time.sleep(0.02)
        note(_told(len(snapshot.ready), len(left), sorted(ended)))


def _told(count: int, left: int, ended: list[str]) -> str:
    """`3 of 4 Ready, ended: default/job`."""
    ready = f"{count - left - len(ended)} of {count} Ready"
    return f"{ready}, ended: {', '.join(ended)}" if ended else ready
