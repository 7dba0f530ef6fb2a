"""A lab to measure: driven by its command, its API and ssh, in a folder that is gone afterwards, also after a failure."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar

from labctl.lab import Lab
from labctl.lab.client import LabClient

ROOT = Path(__file__).resolve().parent.parent
SEED = ROOT / "examples" / "seed"
PROGRAMS = Path(__file__).parent / "on_minion"
NGINX = "name=nginx"
SLOW_S = 600.0
"""What a command on emulated machines may take."""
T = TypeVar("T")


class BenchError(Exception):
    """Something that is measured did not happen."""


class BenchLab:
    """`labctl` in a folder of its own, with a state of its own; root file system and images are this machine's cached ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lab"
        self.folder.mkdir()
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        unwanted = (
            "NUM_MINIONS",
            "KUBECONFIG",
            "MINION_MEMORY",
            "MINION_CPUS",
            "PYTHONDONTWRITEBYTECODE",
        )  # each start would compile labctl
        kept = {name: value for name, value in os.environ.items() if name not in unwanted and not name.startswith("LABCTL_")}
        cache = {name: os.environ[name] for name in ("LABCTL_CACHE_HOME",) if name in os.environ}
        self.environment = {**kept, **cache, "PATH": path, "LABCTL_STATE_HOME": str(folder / "s")}

    # -- commands ----------------------------------------------------------------------------------------------------

    def labctl(self, *arguments: str, timeout_s: float = 240) -> float:
        """Seconds that a labctl command took, its start included."""
        return self._timed([sys.executable, "-m", "labctl", *arguments], self.environment, timeout_s)

    def destroy(self) -> None:
        """The lab is gone, and the next one in this folder is another."""
        self.labctl("destroy", "--yes", timeout_s=SLOW_S)
        self.__dict__.pop("api", None)

    def kubectl(self, *arguments: str, timeout_s: float = 90) -> float:
        return self._timed(
            ["kubectl", *arguments], {**self.environment, "KUBECONFIG": str(self.folder / ".labctl" / "kubeconfig")}, timeout_s
        )

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A labctl command in the background; the caller waits for it."""
        argv = [sys.executable, "-m", "labctl", *arguments]
        return subprocess.Popen(argv, cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _timed(self, argv: list[str], environment: dict[str, str], timeout_s: float) -> float:
        begun = time.monotonic()
        done = subprocess.run(
            argv, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
        )
        if done.returncode:
            raise BenchError(f"{' '.join(argv[1:])} exited {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}")
        return time.monotonic() - begun

    # -- the API -----------------------------------------------------------------------------------------------------

    @property
    def lab(self) -> Lab:
        return Lab(self.folder, environment=self.environment)

    @cached_property
    def api(self) -> LabClient:
        return self.lab.api

    @property
    def master(self) -> dict[str, Any]:
        return self.lab.status()["master"]

    def pods(self, selector: str = NGINX) -> list[dict[str, Any]]:
        """Pods that stay."""
        listed = self.api.get(f"/api/v1/namespaces/default/pods?labelSelector={selector}")["items"]
        return [pod for pod in listed if "deletionTimestamp" not in pod["metadata"]]

    def ready(self, selector: str = NGINX) -> list[dict[str, Any]]:
        return [pod for pod in self.pods(selector) if is_ready(pod)]

    def wait_ready(self, count: int, selector: str = NGINX, timeout_s: float = 60) -> list[dict[str, Any]]:
        """Until so many are Ready and nobody else is there."""
        return wait(lambda: self._exactly(count, selector), f"{count} pods with {selector} are Ready", timeout_s)

    def _exactly(self, count: int, selector: str) -> list[dict[str, Any]]:
        pods = self.pods(selector)
        return pods if len(pods) == count and all(map(is_ready, pods)) else []

    def scale(self, replicas: int, name: str = "nginx-controller") -> None:
        self.api.patch(f"/api/v1/namespaces/default/replicationcontrollers/{name}", {"spec": {"replicas": replicas}})

    def create_seed(self, timeout_s: float = 60) -> str:
        """nginx twice and its Service, as in the README. Answers the VIP."""
        self.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
        self.wait_ready(2, timeout_s=timeout_s)
        return self.api.get("/api/v1/namespaces/default/services/web-service")["spec"]["clusterIP"]

    # -- minions -----------------------------------------------------------------------------------------------------

    def on(self, minion: str, command: str) -> str:
        """What a shell command on a minion prints; its own failure is not ours."""
        argv = ["ssh", "-F", str(self.folder / ".labctl" / "ssh_config"), minion, command]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60).stdout

    def program(self, minion: str, name: str, *arguments: str) -> Program:
        """One of bench/on_minion, running on a minion until its input ends."""
        command = shlex.join(["python3", "-u", "-c", (PROGRAMS / f"{name}.py").read_text(), *arguments])
        return Program(["ssh", "-F", str(self.folder / ".labctl" / "ssh_config"), minion, command])


class Program:
    """A probe on a minion: lines in, lines out. Its times are the machine's CLOCK_MONOTONIC, which namespace minions share with us."""

    def __init__(self, argv: list[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, bufsize=1)
        self.line()  # it says when it has begun

    @property
    def _out(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def line(self) -> str:
        """The next line. BenchError if the program ended; the programs themselves bound how long they are silent."""
        line = self._out.readline()
        if not line:
            raise BenchError("a probe on a minion ended")
        return line.strip()

    def finish(self) -> list[str]:
        """End its input; answers what it had still to say."""
        out, _ = self._process.communicate(timeout=60)
        return out.splitlines()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def programs(lab: BenchLab, minions: list[str], name: str, *arguments: str) -> Iterator[list[Program]]:
    """The same probe on several minions, gone afterwards."""
    with contextlib.ExitStack() as stack:
        running = []
        for minion in minions:
            running.append(lab.program(minion, name, *arguments))
            stack.callback(running[-1].close)
        yield running


@contextlib.contextmanager
def bench_lab(minions: int | None = None, *images: str) -> Iterator[BenchLab]:
    """A lab that is destroyed afterwards; with `minions`, up already and with these images in the store."""
    with tempfile.TemporaryDirectory(prefix="labctl-bench-", dir="/var/tmp") as folder:  # a real disk, and a short path for sockets
        lab = BenchLab(Path(folder))
        try:
            if minions is not None:
                lab.labctl("up", "--minions", str(minions), timeout_s=900)
            for image in images:
                _ensure_image(lab, image)
            yield lab
        finally:
            with contextlib.suppress(BenchError, subprocess.TimeoutExpired):
                lab.labctl("destroy", "--yes")


def _ensure_image(lab: BenchLab, name: str) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "labctl", "image", "list"], cwd=lab.folder, env=lab.environment, capture_output=True, text=True, check=True
    ).stdout
    if name not in listed:
        lab.labctl("image", "build", name, timeout_s=900)


def is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def wait(look: Callable[[], T], what: str, timeout_s: float = 60.0, every_s: float = 0.005) -> T:
    """Until it is true. BenchError says what never was."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise BenchError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(every_s)
    return seen
