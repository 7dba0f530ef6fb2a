"""Snapshots: a lab's state at one moment. The same lab, or a new one anywhere on this machine, can continue from it.

    CACHE/snapshots/NAME/
      snapshot.json      lab, provider, settings, revision, time
      store.db           the master's store at that revision
      machines/          the provider's files: disks, and memory if it can save it (providers.protocol.Snapshots)
      pki/ ssh/          the CA and the SSH key: what the machines trust, and what people's kubeconfigs hold

Saving: machines paused ─► store copied by the master ─► machines copied ─► machines resumed ─► one rename makes it a snapshot.
Restoring: lab.json says so ─► master stopped ─► keys, store, machines in place ─► lab.json says it is done ─► the rest of `up`.
An interrupted save leaves no snapshot. An interrupted restore is finished by `labctl up`; until then no command starts a master on it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from labctl.certificates import write_file
from labctl.clock import rfc3339
from labctl.decoding import from_json
from labctl.errors import LabctlError, StoreError, UsageError
from labctl.lab import machines, process, providers
from labctl.lab.folder import FIXED
from labctl.lab.progress import step
from labctl.paths import read_file
from labctl.providers import locks
from labctl.providers.protocol import MACHINE_NAME, Snapshots, ability
from labctl.store.file import highest_revision, rewind

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder
    from labctl.providers.protocol import Provider

REVISION_GAP = 1_000_000
"""How many revisions the old lab may have written after the snapshot, if that is not known. The restored lab's revisions continue above it, so that none
is given twice (as with etcd's --bump-revision)."""
PODS_TIMEOUT_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


_SNAPSHOT_BYTES_MAX = 16 << 20  # of snapshot.json, which names each pod
_KEY_BYTES_MAX = 64 << 10
_KEYS_MAX = 1000  # files and folders of keys and certificates

_Text = Annotated[str, msgspec.Meta(max_length=1000)]
_MachineName = Annotated[str, msgspec.Meta(pattern=rf"\A{MACHINE_NAME}\Z")]


class Snapshot(msgspec.Struct, frozen=True):
    """The content of snapshot.json. `ready` are the pods that were Ready, as namespace/name."""

    name: _Text
    lab: _Text
    saved: _Text  # RFC 3339
    provider: Annotated[str, msgspec.Meta(pattern=r"\A[a-z]{0,20}\Z")]
    memory: bool  # whether machines continue where they were; otherwise they boot
    machines: Annotated[list[_MachineName], msgspec.Meta(max_length=10_000)]
    ready: list[_Text]
    revision: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    port: Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
    size: Annotated[int, msgspec.Meta(ge=0)]  # bytes on disk
    paused_s: float
    kept: dict[str, Any]  # settings that are fixed for the lab, from lab.json
    settings: dict[str, Any]


# -- looking -------------------------------------------------------------------------------------------------------------------


def listed(lab: LabFolder) -> list[Snapshot]:
    """Return all snapshots of this machine, the oldest first."""
    folders = lab.paths.snapshots.glob("[!.]*/snapshot.json")
    return sorted((_read(path) for path in folders), key=lambda snapshot: (snapshot.saved, snapshot.name))


def find(lab: LabFolder, name: str) -> Snapshot:
    """Return the snapshot of that name. LabctlError lists the names that exist."""
    path = lab.paths.snapshots / name / "snapshot.json"
    if not _NAME.fullmatch(name) or not path.exists():
        there = ", ".join(snapshot.name for snapshot in listed(lab))
        raise LabctlError(f"there is no snapshot {name}", mend=f"there are {there}" if there else "labctl snapshot save NAME makes one")
    return _read(path)


def _highest_revision(lab: LabFolder) -> int:
    """Return the highest revision that this lab's store ever gave, or 0 if the store is gone or damaged."""
    try:
        return highest_revision(lab.paths.store)
    except StoreError:
        return 0


def _read(path: Path) -> Snapshot:
    try:
        snapshot = from_json(read_file(path, _SNAPSHOT_BYTES_MAX), Snapshot)
        if not isinstance(snapshot.kept.get("provider", ""), str):
            raise ValueError("its provider is no name")
        return snapshot
    except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise LabctlError(f"{path} can't be read: {str(error)[:300]}", mend=f"labctl snapshot delete {path.parent.name}") from None


# -- saving --------------------------------------------------------------------------------------------------------------------


def save(lab: LabFolder, name: str) -> Snapshot:
    """Save the lab's present state. Its machines are paused for a moment; nothing else is disturbed."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a snapshot", mend="use letters, digits, '-', '_' and '.', and begin with a letter or digit"
        )
    if not lab.exists:
        raise LabctlError(f"there is no lab in {lab.folder} or above", mend="labctl up")
    with process.working_on(lab.paths, "snapshot save"), _new_folder(lab.paths.snapshots, name) as folder:
        _ = lab.api  # this starts a master if none runs
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
    """Return this lab's provider, or None if the lab has no machines. Raises LabctlError if the provider can't save machines."""
    name = lab.record["kept"].get("provider", "")
    if not name or not lab.record["settings"].get("minions"):
        return None
    provider = providers.make(lab, name)
    if (keeper := ability(provider, Snapshots)) is None:
        raise LabctlError(f"provider {name} can't save its machines in a snapshot", mend="make the lab with provider namespace")
    return keeper


@contextlib.contextmanager
def _new_folder(snapshots: Path, name: str) -> Iterator[Path]:
    """Yield a folder that gets its final name when the block succeeds, and is removed when it fails.

    Only one save runs at a time, so any other unfinished folder was left by a killed process and is removed.
    """
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
    """Delete a snapshot. Raises LabctlError if this lab is in the middle of a restore from it, as nothing else could finish that."""
    if lab.exists and lab.record.get("restoring", {}).get("name") == name:
        raise LabctlError(f"this lab is being restored from snapshot {name}, and can't do without it", mend="labctl up finishes it")
    folder = lab.paths.snapshots / name
    if not _NAME.fullmatch(name) or not folder.exists():
        find(lab, name)
    with step(lab.progress, f"delete {name}"), locks.exclusive(lab.paths.snapshots / ".lock"):
        gone = lab.paths.snapshots / f".new-{name}.gone"  # if this process is killed, the next save removes the rest
        os.rename(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


# -- restoring: two steps of `up` ----------------------------------------------------------------------------------------------


def adopt_settings(lab: LabFolder, name: str) -> None:
    """Check the snapshot against this lab, and take its settings where the person gave none. Nothing is changed on machines yet."""
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
    _refuse_strangers(lab.paths.snapshots / name)
    if snapshot.machines:
        providers.make(lab, snapshot.provider).check_machines(lab.paths.snapshots / name / "machines")  # type: ignore[attr-defined]


def has_all_machines(lab: LabFolder, name: str) -> bool:
    """Tell whether all wanted machines come out of this snapshot with their memory.

    Then nothing else must be prepared to make machines from.
    """
    snapshot = find(lab, name or lab.record["restoring"]["name"])
    return snapshot.memory and len(snapshot.machines) == lab.settings["minions"]


def restore(lab: LabFolder, provider: Provider | None, name: str, prepared: process.PreparedMaster | None) -> Snapshot:
    """Replace the lab's present state by the snapshot. Without a name, finish the restore that was interrupted.

    No master but `prepared` can be started before it is done.
    """
    pending = lab.record.get("restoring", {})
    name = name or pending["name"]
    snapshot, folder = find(lab, name), lab.paths.snapshots / name
    with step(lab.progress, f"snapshot {name}") as note:
        ever = _highest_revision(lab) or pending.get("above") or snapshot.revision + REVISION_GAP
        lab.record["restoring"] = {"name": name, "above": max(ever, pending.get("above", 0))}
        lab.save()
        process.stop_master(lab.paths)  # another command may have started one a moment ago; from now on none can
        keeper = ability(provider, Snapshots) if provider and snapshot.machines else None
        _put_keys(lab, folder)  # before the machines: a provider may reach them with the lab's key
        with _loading(keeper, folder / "machines"):
            rewind(folder / "store.db", lab.paths.store, lab.record["restoring"]["above"])
            if not (lab.paths.state / "port").exists():
                write_file(lab.paths.state / "port", str(snapshot.port), 0o644)
            if keeper and prepared:
                prepared.go(hold=True)  # it opens its store, and looks at no machine before all are in place
        del lab.record["restoring"]
        lab.save()
        if prepared and prepared.held:
            prepared.release()
        note("machines continue where they were" if snapshot.memory else "machines booted" if snapshot.machines else "")
    return snapshot


@contextlib.contextmanager
def _loading(keeper: Snapshots | None, folder: Path) -> Iterator[None]:
    """Put the machines in place beside what the block does. Both have come to an end afterwards, also when one failed."""
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(keeper.load_machines, folder) if keeper else None
        try:
            yield
        finally:
            if loading:
                loading.result()


def _put_keys(lab: LabFolder, folder: Path) -> None:
    """Copy the snapshot's keys and certificates, and delete all others: a token that was signed with a later key must not be valid."""
    _refuse_strangers(folder)
    for part in (lab.paths.certificates, lab.paths.ssh_key.parent):
        kept = folder / part.name
        names = {file.relative_to(kept) for file in kept.rglob("[!.]*") if file.is_file()}
        for name in sorted(names):
            write_file(part / name, read_file(kept / name, _KEY_BYTES_MAX), (kept / name).stat().st_mode & 0o777)
        for file in part.glob("*/*"):
            if file.relative_to(part) not in names:
                file.unlink()


def _refuse_strangers(snapshot: Path) -> None:
    """Raise LabctlError if a key, or the store, is a link: a copy of it would be a copy of any file of this machine. So for a pipe, and for what has no bound."""
    mend = f"labctl snapshot delete {snapshot.name}"
    keys = (path for part in ("pki", "ssh") for path in (snapshot / part, *(snapshot / part).rglob("*")))
    for number, path in enumerate(itertools.chain((snapshot / "store.db",), keys)):
        if path.is_symlink():
            raise LabctlError(f"{path} is a link, which no snapshot has", mend=mend)
        if number and path.exists() and not path.is_dir() and (not path.is_file() or path.stat().st_size > _KEY_BYTES_MAX):
            raise LabctlError(f"{path} is no key", mend=mend)
        if number > _KEYS_MAX:
            raise LabctlError(f"snapshot {snapshot.name} has more than {_KEYS_MAX} keys", mend=mend)


def wait_for_pods(lab: LabFolder, snapshot: Snapshot) -> None:
    """Wait until the pods that were Ready are Ready again or have ended; a pod that is never restarted ends with its machine's boot.

    A late pod is no error: its Events say why.
    """
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
        note(_ready_text(len(snapshot.ready), len(left), sorted(ended)))


def _ready_text(count: int, left: int, ended: list[str]) -> str:
    """Return a text such as `3 of 4 Ready, ended: default/job`."""
    ready = f"{count - left - len(ended)} of {count} Ready"
    return f"{ready}, ended: {', '.join(ended)}" if ended else ready
