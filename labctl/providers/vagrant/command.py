"""Runs Vagrant, through python-vagrant, to make and remove machines. A call takes two seconds before it starts to work, so few are made.

Vagrant   runs one command at a time; an error has the end of its output
Starts    joins starts that are asked for at about the same time into one `vagrant up`, which boots them in parallel

A `vagrant up` whose machines all answer gets a moment to end, and is then killed: if a machine loses its power while Vagrant still talks to
it, Vagrant
would wait, and hold its lock on the machine, for as long as TCP tries (a quarter of an hour). A caller that waits for that lock has it
killed at once.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labctl.errors import ProviderError

GATHER_S = 0.3
LINGER_S = 30.0
"""How long Vagrant may still work on machines that answer; its own SSH connections to emulated ones take seconds each."""
_POLL_S = 0.1
_DRAWN = re.compile(r"^(==> \S+: |\s+\S+: )")
_MENDS = (
    ("could not be found, but was requested", "vagrant-libvirt is missing", "apt-get install vagrant-libvirt, or vagrant plugin install vagrant-libvirt"),
    ("The provider 'libvirt' could not be found", "vagrant-libvirt is missing", "apt-get install vagrant-libvirt, or vagrant plugin install vagrant-libvirt"),
    ("The box '", "its box is missing", "labctl box build"),
    ("Permission denied", "you may not use libvirt's socket", 'sudo usermod -aG libvirt "$USER", then log in again'),
    ("No space left", "no room is left on the disk", "free some space in /var/lib/libvirt/images"),
    ("already taken", "a machine of this name exists that Vagrant does not know", "labctl destroy --yes, then labctl up"),
    ("Failed to connect socket", "libvirtd is not running", "systemctl start libvirtd"),
)  # fmt: skip


class Vagrant:
    """Runs Vagrant in `folder`, which has the Vagrantfile."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def up(self, names: list[str], provision: bool, enough: Enough) -> None:
        """Start machines. `enough` becomes true when nothing that Vagrant still does for these machines is needed."""
        pattern = "/^(" + "|".join(re.escape(name) for name in names) + ")$/"
        with self._vagrant(f"vagrant up {' '.join(names)}", enough) as vagrant:
            vagrant.up(vm_name=pattern, provider="libvirt", provision=provision)

    def destroy(self, name: str) -> None:
        with self._vagrant(f"vagrant destroy {name}") as vagrant:
            vagrant.destroy(vm_name=name)

    def add_box(self, name: str, path: Path) -> None:
        """Give Vagrant a box that it does not have yet."""
        with self._vagrant(f"vagrant box add {name}") as vagrant:
            vagrant.box_add(name, str(path), provider="libvirt", force=True)

    def remove_box(self, name: str) -> None:
        with self._vagrant(f"vagrant box remove {name}") as vagrant:
            vagrant.box_remove(name, "libvirt")

    def boxes(self) -> set[str]:
        with self._vagrant("vagrant box list") as vagrant:
            return {box.name for box in vagrant.box_list()}

    def plugins(self) -> set[str]:
        with self._vagrant("vagrant plugin list") as vagrant:
            return {plugin.name for plugin in vagrant.plugin_list()}

    @contextmanager
    def _vagrant(self, what: str, enough: Enough | None = None) -> Iterator[Any]:
        """Yield python-vagrant, with the command's own output kept for the error."""
        import vagrant

        class Python(vagrant.Vagrant):
            def _call_vagrant_command(self, args: list[str | None]) -> None:
                """Run the command as the inherited method does, with two differences.

                It can be ended early. And `up` leaves alone what answers already, because it would destroy a machine that is paused or
                loses its power while it waits.
                """
                args = [*args, "--no-destroy-on-error"] if args[0] == "up" else args
                with self.out_cm() as out:
                    until_enough(self._make_vagrant_command(args), enough, cwd=self.root, env=self.env, stdout=out, stderr=out)

        with tempfile.TemporaryFile("w+") as said:

            @contextmanager
            def stream() -> Iterator[Any]:
                yield said

            folder = self._folder if self._folder.is_dir() else Path("/")
            try:
                yield Python(root=str(folder), out_cm=stream, err_cm=stream)
            except subprocess.CalledProcessError as error:
                said.seek(0)
                raise explain(what, said.read() + (error.output or "")) from error
            except RuntimeError as error:  # the program `vagrant` is missing
                raise ProviderError("vagrant is not installed", mend="apt-get install vagrant vagrant-libvirt") from error


class Enough:
    """Says when a command has done what is needed. Then it may continue for a while, unless somebody waits for its end."""

    def __init__(self, linger_s: float = LINGER_S) -> None:
        self._linger_s = linger_s
        self._reached = float("inf")

    def reached(self) -> None:
        self._reached = min(self._reached, time.monotonic())

    def hurry(self) -> None:
        self._linger_s = 0.0

    def over(self) -> bool:
        return time.monotonic() >= self._reached + self._linger_s


def until_enough(argv: list[str], enough: Enough | None, **options: Any) -> None:
    """Run a command to its end, or until there was `enough` of it. Raises CalledProcessError if it fails by itself."""
    process = subprocess.Popen(argv, **options)
    while process.poll() is None:
        if enough and enough.over():
            process.kill()  # killed, because on a signal to end it would stop its machines
            process.wait()
            return
        time.sleep(_POLL_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv)


def explain(what: str, said: str) -> ProviderError:
    """Turn Vagrant's output into one line that says how to mend it."""
    for sign, message, mend in _MENDS:
        if sign in said:
            return ProviderError(message, mend=mend)
    lines = [line.strip() for line in said.splitlines() if line.strip() and not _DRAWN.match(line)]
    return ProviderError(f"{what} failed: {' '.join(lines[-4:])[-400:] or 'it printed nothing'}", mend="labctl doctor")


class Starts:
    """Gathers starts.

    Each caller gets a future that is done when its machine's `vagrant up` has ended, and reports when its machine answers.
    """

    def __init__(self, vagrant: Vagrant) -> None:
        self._vagrant = vagrant
        self._lock = threading.Lock()
        self._wanted: dict[str, Future[None]] = {}
        self._running: list[tuple[set[str], Enough]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vagrant-up")

    def ask(self, name: str, provision: bool) -> Future[None]:
        with self._lock:
            first = not self._wanted
            future = self._wanted.setdefault(name, Future())
            if first:
                threading.Timer(GATHER_S, lambda: self._pool.submit(self._start, provision)).start()
            return future

    def answers(self, name: str) -> None:
        """Note that this machine needs nothing more from Vagrant."""
        with self._lock:
            for names, enough in self._running:
                names.discard(name)
                if not names:
                    enough.reached()

    def wait(self, deadline_s: float) -> None:
        """Wait until no command of ours runs, because Vagrant refuses to touch a machine that another of its commands works on."""
        with self._lock:
            for _, enough in self._running:
                enough.hurry()
        idle: Future[None] = self._pool.submit(lambda: None)
        idle.result(deadline_s)

    def _start(self, provision: bool) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, {}
            batch = (set(wanted), Enough())
            self._running.append(batch)
        try:
            self._vagrant.up(list(wanted), provision, batch[1])
        except Exception as error:
            for future in wanted.values():
                future.set_exception(error)
        else:
            for future in wanted.values():
                future.set_result(None)
        finally:
            with self._lock:
                self._running.remove(batch)
