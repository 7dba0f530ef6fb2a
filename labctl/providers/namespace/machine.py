"""One machine: its folder, its boot, its end. Everything is read from the folder and the kernel; nothing is kept in memory.

STATE/machines/NAME/
  spec.json     what was asked for
  boot.json     the plan of the latest boot, with its boot id
  ended.json    which boot was ended on purpose, why, and whether that was intended
  alive         the lock that the running init holds
  host_key(.pub), boot_id, upper/ work/ root/ storage/ console.log
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from labctl import logfiles
from labctl.decoding import from_json
from labctl.errors import ProviderError
from labctl.paths import remove_tree
from labctl.providers import hostkey, linkrules, locks
from labctl.providers.namespace import apart, cgroup, network
from labctl.providers.namespace.cgroup import Cgroups
from labctl.providers.namespace.inside import places, plan
from labctl.providers.namespace.lab import LabInit, ended, open_init, run_inside
from labctl.providers.protocol import LinkRule, MachineSpec
from labctl.providers.settings import NamespaceSettings

_T = TypeVar("_T")
_FOLDERS = {"": 0o700, "work": 0o700, "root": 0o700, "storage": 0o700, "upper": 0o755}
_RELEASE_AGAIN_S = 0.5
_LINE_MAX = 300
"""Bytes of its console's last line that are told. The machine's root can write there."""
_FOLDERS_OF_ITS_ROOT = {"etc": 0o755, "etc/labctl": 0o755, "etc/ssh": 0o755, "root": 0o700, "root/.ssh": 0o700}
"""Below upper/, where the machine's root may have left anything: only the module `places` goes there."""


class Ended(msgspec.Struct, frozen=True):
    """A boot that was ended on purpose."""

    boot_id: str
    reason: str
    intended: bool


class NamespaceMachine:
    """The machine `name` of the lab in `state`. It is cheap to make, because it keeps nothing."""

    def __init__(self, state: Path, name: str, lab: LabInit, cgroups: Cgroups, settings: NamespaceSettings) -> None:
        self.name = name
        self.folder = state / "machines" / name
        self.alive = self.folder / "alive"
        self._trash = state / "trash"
        self._lock = state / "locks" / f"machine-{name}"
        self._lab = lab
        self._cgroups = cgroups
        self._settings = settings

    # -- reading

    def spec(self) -> MachineSpec | None:
        """Return what was asked for, or None if there is no such machine."""
        return self._read("spec.json", lambda raw: from_json(raw, MachineSpec))

    def boot(self) -> plan.BootPlan | None:
        """Return the plan of the latest boot, or None if there never was one."""
        return self._read("boot.json", lambda raw: plan.load_boot(raw.decode()))

    def ended(self) -> Ended | None:
        return self._read("ended.json", lambda raw: from_json(raw, Ended))

    def host_key(self) -> str:
        return (self.folder / "host_key.pub").read_text().strip()

    def running(self) -> bool:
        return locks.holder(self.alive) != 0

    def busy(self) -> bool:
        """Tell whether an operation on it is under way. What is read now may then be half done."""
        return locks.busy(self._lock)

    def frozen(self) -> bool:
        return self._cgroups.frozen(self.name)

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """Allow no other operation on it inside the block."""
        with locks.exclusive(self._lock):
            yield

    # -- operations; each excludes others, also of other processes

    def up(self, spec: MachineSpec, lower: Path, *, resume: bool = False) -> None:
        """Boot the machine if it is off. With `resume` it comes out of a snapshot, and starts at once what ran on it."""
        with locks.exclusive(self._lock) as lock:
            if self.running() and self._below_the_lab():
                if self.frozen():
                    self._cgroups.freeze(self.name, False)
                return
            self._clear_last_boot()
            self._prepare(spec)
            boot = self._plan_boot(spec, lower, resume)
            _write(self.folder / "boot_id", boot.boot_id.encode() + b"\n")
            _write(self.folder / "boot.json", plan.dump(boot).encode())
            try:
                run_inside("boot", str(self.folder / "boot.json"), keep=[lock])
            except ProviderError as error:
                self._end(Ended(boot.boot_id, "its boot failed", intended=False), told=True)
                raise ProviderError(f"{error.message}{self._console_tail()}", mend=error.mend) from error

    def power_off(self, reason: str, *, intended: bool) -> None:
        """Kill the init with everything below it, without warning."""
        with self._existing():
            boot = self.boot()
            if boot:
                self._end(Ended(boot.boot_id, reason, intended))

    def halt(self, grace_s: float) -> None:
        """Stop in order: SIGTERM to everything but the init and sshd, then the end."""
        with self._existing():
            boot = self.boot()
            if not boot or not self.running():
                return
            self._cgroups.freeze(self.name, False)
            self._terminate(grace_s)
            self._end(Ended(boot.boot_id, "halted", intended=True))

    def freeze(self, frozen: bool) -> None:
        with self._existing():
            if not self.running():
                return
            if not frozen:
                self._cgroups.freeze(self.name, False)
            elif not self._cgroups.freeze_all(self.name, self._settings.kill_deadline_s):
                self._cgroups.freeze(self.name, False)
                raise ProviderError(f"{self.name} can't be paused: a process of it does not stop")

    def set_links(self, state: str) -> None:
        """Set the machine's link on the lab's bridge `up` or `down`."""
        with self._existing():
            spec = self.spec()
            names = self._lab.links(spec.number) if spec else []
            if names:
                self._lab.ip(*(f"link set {name} {state}" for name in names))

    def link_rules(self) -> Mapping[str, LinkRule]:
        """Return the rules that act on the machine's link now, by tag."""
        kept, boot = linkrules.read(self.folder), self.boot()
        return kept.rules if kept and boot and self.running() and kept.link == boot.boot_id else {}

    def change_rule(self, tag: str, rule: LinkRule | None) -> None:
        """Give the machine's link this rule, or take it off (None)."""
        with self._existing():
            boot = self.boot()
            if boot and self.running():
                linkrules.change(self.folder, boot.boot_id, boot.link, self._lab.inside(), tag, rule)
            elif rule:
                raise ProviderError(f"{self.name} is off")

    def destroy(self) -> None:
        with locks.exclusive(self._lock):
            boot = self.boot()
            if boot:
                self._end(Ended(boot.boot_id, "destroyed", intended=True))
            self._remove()
            self._lock.unlink(missing_ok=True)

    def replace(self, folder: Path) -> Path | None:
        """Be the machine in `folder` (on the same file system) from now on: off, with that disk, specification and host key.

        Answers what is to be removed: what it was before.
        """
        with locks.exclusive(self._lock):
            boot = self.boot()
            if boot:
                self._end(Ended(boot.boot_id, "it was restored", intended=True))
            gone = self._put_away()
            apart.make(self.folder.parent)
            os.rename(folder, self.folder)
            return gone

    # -- steps

    def _remove(self) -> None:
        """Remove the machine's folder: its name at once, and then its content."""
        if gone := self._put_away():
            remove_tree(gone)

    def _put_away(self) -> Path | None:
        """Give its folder another name, out of everybody's way; None if it has no folder."""
        if not self.folder.exists():
            return None
        self._trash.mkdir(parents=True, exist_ok=True)
        gone = self._trash / f"{self.name}-{uuid.uuid4().hex}"
        os.rename(self.folder, gone)
        return gone

    def _read(self, name: str, decode: Callable[[bytes], _T]) -> _T | None:
        """Read a file, or return None if it is missing or damaged, as files may be after the host lost power."""
        try:
            return decode((self.folder / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, msgspec.MsgspecError):
            return None

    @contextlib.contextmanager
    def _existing(self) -> Iterator[None]:
        """Hold the operation's lock, if there is such a machine. An unknown name leaves no lock file behind."""
        with locks.exclusive(self._lock):
            yield
            if not self.folder.exists():
                self._lock.unlink(missing_ok=True)

    def _below_the_lab(self) -> bool:
        """Tell whether the running boot belongs to the lab's present init.

        A machine whose lab's init was killed dies, but a frozen one only after it is thawed.
        """
        boot = self.boot()
        return boot is not None and boot.lab_init == self._lab.pid()

    def _prepare(self, spec: MachineSpec) -> None:
        """Make the folder complete, also after an earlier attempt was killed in the middle."""
        apart.make(self.folder.parent)
        for part, mode in _FOLDERS.items():  # set explicitly, whatever the caller's umask is
            (self.folder / part).mkdir(parents=True, exist_ok=True)
            (self.folder / part).chmod(mode)
        hostkey.ensure(self.folder / "host_key")
        upper = str(self.folder / "upper")
        for part, mode in _FOLDERS_OF_ITS_ROOT.items():
            os.close(places.folder(upper, part, mode))
        places.write(upper, "etc/ssh/labctl_host_ed25519_key", (self.folder / "host_key").read_bytes(), 0o600)
        places.write(upper, "etc/hostname", f"{spec.name}\n".encode(), 0o644)
        places.write(upper, "etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{spec.address} {spec.name}\n".encode(), 0o644)
        places.write(upper, "etc/machine-id", uuid.uuid5(uuid.NAMESPACE_OID, str(self.folder)).hex.encode() + b"\n", 0o444)
        places.write(upper, "root/.ssh/authorized_keys", spec.authorized_key.strip().encode() + b"\n", 0o600)
        _write(self.folder / "spec.json", msgspec.json.encode(spec))

    def _plan_boot(self, spec: MachineSpec, lower: Path, resume: bool) -> plan.BootPlan:
        boot_id = str(uuid.uuid4())
        upper = str(self.folder / "upper")
        places.write(upper, "etc/labctl/boot_id", boot_id.encode() + b"\n", 0o644)
        kernels = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        places.write(upper, "etc/labctl/kernel_boot_id", kernels, 0o644)  # files outlive a boot unless this changed
        lab_init = self._lab.start()
        return plan.BootPlan(
            name=spec.name,
            boot_id=boot_id,
            lab_init=lab_init,
            folder=str(self.folder),
            lower=str(lower),
            link=network.link_name(spec.number, boot_id),
            address=spec.address,
            prefix_length=spec.prefix_length,
            gateway=self._lab.gateway,
            mtu=self._settings.mtu_bytes,
            deadline_s=self._settings.boot_deadline_s,
            cgroup=self._cgroups.make(spec.name, spec.memory_bytes, spec.cpus),
            resume=resume,
        )

    def _clear_last_boot(self) -> None:
        """Make sure that nothing of the last boot still runs, whoever killed what."""
        self._cgroups.freeze(self.name, False)
        cgroup.clear(self._cgroups, self.name, self._settings.kill_deadline_s)
        spec = self.spec()
        for link in self._lab.links(spec.number) if spec else ():
            self._lab.ip(f"link delete {link}", force=True)
        if inside := self._lab.inside():
            linkrules.clear(self.folder, inside)

    def _end(self, how: Ended, *, told: bool = False) -> None:
        """Kill the running boot, if it runs. The reason is written first, so that every watcher can report it."""
        found = open_init(self.alive)
        if found or told:
            _write(self.folder / "ended.json", msgspec.json.encode(how))
        if found:
            self._kill(found[1])
        self._clear_last_boot()

    def _kill(self, pidfd: int) -> None:
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            if not self._ends(pidfd, self._settings.kill_deadline_s):
                raise ProviderError(f"{self.name}: its init does not end {self._settings.kill_deadline_s:g} s after SIGKILL")
        finally:
            os.close(pidfd)

    def _ends(self, pidfd: int, deadline_s: float) -> bool:
        """Wait for the killed init's end. Frozen processes die only after they are thawed, and one that is not dead yet may freeze others."""
        deadline = time.monotonic() + deadline_s
        while True:
            cgroup.release(self._cgroups, self.name)
            if ended(pidfd, min(_RELEASE_AGAIN_S, max(0.0, deadline - time.monotonic()))):
                return True
            if time.monotonic() >= deadline:
                return False

    def _terminate(self, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        told: set[int] = set()
        while time.monotonic() < deadline:
            waiting = self._to_terminate()
            if not waiting:
                return
            for pid in waiting - told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            told |= waiting
            time.sleep(0.02)

    def _to_terminate(self) -> set[int]:
        """Return all processes but the init, the shell that keeps sshd running, and sshd: without that shell the machine ends."""
        init = locks.holder(self.alive)
        pids = self._cgroups.pids(self.name)
        keeper = next((pid for pid in pids if _parent(pid)[1] == init and _is_keeper(pid)), 0)
        return {pid for pid in pids if pid not in (init, keeper) and _parent(pid) != ("sshd", keeper)}

    def _console_tail(self) -> str:
        try:
            lines = logfiles.end(self.folder / "console.log", _LINE_MAX).decode(errors="replace").splitlines()
        except OSError:
            return ""
        return f"; it last said: {lines[-1]}" if lines else ""


def _parent(pid: int) -> tuple[str, int]:
    """Return (the process's name, its parent's process id), or ("", 0) if it has ended."""
    try:
        head, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")
    except OSError:
        return "", 0
    return head.partition(" (")[2], int(rest.split()[1])


def _is_keeper(pid: int) -> bool:
    try:
        return plan.SSHD_KEEPER.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write the file completely or not at all, with its mode from the start."""
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(content)
    os.replace(temporary, path)
