"""`make demo`: the whole tour on this machine, each command with what it printed, on a lab of its own that is destroyed at the end.

The article that started this project, step by step with an unmodified kubectl; then faults under load, measured; then an experiment with a report. Nothing is
prepared: every line below a `$` is what that command printed just now.  --svg FILE keeps the tour as a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from labctl.errors import LabctlError
from labctl.lab import Lab
from labctl.lab.load import Load
from labctl.lab.waiting import wait_until
from tools import today

ROOT = Path(__file__).resolve().parent.parent
SEED = ROOT / "examples" / "seed"
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # rich's picture would fetch fonts from elsewhere; any monospace will do
BIN = Path(sys.executable).parent


class Tour:
    """Runs commands in the demo's folder and shows them."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "KUBECONFIG": str(folder / ".labctl" / "kubeconfig")}
        self.environment.pop("NUM_MINIONS", None)

    def say(self, text: str) -> None:
        self.console.print(f"\n[bold yellow]# {text}[/]")

    def run(self, command: str, *, show: bool = True, show_output: bool = True, check: bool = True) -> str:
        """Type and run a command line; its output is shown as it is. Of one that says much, `show_output=False` shows that it was run."""
        if show:
            self.console.print(f"[bold cyan]$[/] [bold]{command}[/]")
        done = subprocess.run(
            shlex.split(command),
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if show and show_output and done.stdout:
            self.console.print(done.stdout.rstrip("\n"), markup=False, highlight=False)
        if check and done.returncode:
            raise SystemExit(f"demo: `{command}` exited {done.returncode}: {done.stdout[-800:]}")
        return done.stdout

    def get(self, what: str) -> Any:
        return json.loads(self.run(f"kubectl get {what} -o json", show=False))

    def ready(self) -> list[dict[str, Any]]:
        """Return the nginx pods that are Ready and not being deleted."""
        pods = self.get("pods -l name=nginx")["items"]
        return [
            pod
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        ]

    def wait(self, what: str, look: Callable[[], bool], timeout_s: float = 60.0) -> float:
        begun = time.monotonic()
        try:
            wait_until(look, what, timeout_s, seen=lambda: self.run("kubectl get pods -o wide", show=False, check=False))
        except LabctlError as error:
            raise SystemExit(f"demo: {error}") from None
        took = time.monotonic() - begun
        self.console.print(f"  [green]✓[/] {what} [cyan]({took:.2f} s)[/]")
        return took

    @contextmanager
    def load(self, vip: str) -> Iterator[None]:
        """Let a client on minion-2 send requests to the virtual IP inside the block, and show its result."""
        with Load(Lab(self.folder), "minion-2", vip) as load:
            yield
        colour = "yellow" if load.outcome.failed else "green"
        self.console.print(f"  [bold {colour}]{load.outcome}[/]")


def play(tour: Tour) -> None:
    bring_up(tour)
    vip = seed(tour)
    pods_and_scale(tour, vip)
    power_off(tour, vip)
    today.play(tour)
    experiment(tour)


def bring_up(tour: Tour) -> None:
    tour.say("Images for the tour, built from Debian packages; no registry")
    for name in ("nginx", "busybox", "serve-hostname", *today.IMAGES):
        tour.run(f"labctl image build {name}")
    today.prepare(tour)
    tour.say("1. Two minions")
    tour.run("labctl up --minions 2")
    tour.say("2. Both nodes are Ready, and this is an unmodified kubectl")
    tour.run("kubectl get nodes --show-labels")


def seed(tour: Tour) -> str:
    tour.say("3. The article's replication controller")
    tour.run("kubectl create -f nginx-rc.yml")
    tour.wait("two nginx pods are Ready", lambda: len(tour.ready()) == 2)
    tour.say("4, 5. It keeps two pods, each with an address of its own")
    tour.run("kubectl get rc -o wide")
    tour.run("kubectl get pods -o wide")
    tour.say("6. A container that fails is started again where it is")
    name = tour.ready()[0]["metadata"]["name"]
    tour.run(f"kubectl exec {name} -- nginx -s stop", check=False)
    tour.wait("it was restarted", lambda: tour.get(f"pod {name}")["status"]["containerStatuses"][0]["restartCount"] == 1)
    tour.wait("two pods are Ready", lambda: len(tour.ready()) == 2)
    tour.say("7, 8. A Service has one fixed virtual IP")
    tour.run("kubectl create -f nginx-service.yml")
    tour.run("kubectl get se -o wide")
    vip = tour.get("service web-service")["spec"]["clusterIP"]
    tour.say("9. Any minion reaches it, and both pods answer")
    page = tour.run(f"labctl ssh minion-1 -- curl -q -s {vip}", show=False)
    tour.console.print(f"[bold cyan]$[/] [bold]labctl ssh minion-1 -- curl -q -s {vip}[/]")
    tour.console.print("\n".join(page.splitlines()[:4]) + "\n...", markup=False, highlight=False)
    for _ in range(20):
        tour.run(f"labctl ssh minion-1 -- curl -q -s -o /dev/null {vip}", show=False)
    for pod in tour.ready():
        log = tour.run(f"kubectl logs {pod['metadata']['name']}", show=False)
        tour.console.print(f"  {pod['metadata']['name']} on {pod['spec']['nodeName']} answered {log.count('GET / ')} requests")
    return vip


def pods_and_scale(tour: Tour, vip: str) -> None:
    tour.say("A client on minion-2 keeps asking the virtual IP while a pod is killed, and while we scale")
    with tour.load(vip):
        name = tour.ready()[0]["metadata"]["name"]
        tour.run(f"kubectl delete pod {name} --wait=false")
        tour.wait("it was replaced", lambda: len(tour.ready()) == 2 and name not in {p["metadata"]["name"] for p in tour.ready()})
        for replicas in (1, 4):
            tour.run(f"kubectl scale rc nginx-controller --replicas={replicas}")
            tour.wait(f"{replicas} Ready", lambda n=replicas: len(tour.ready()) == n)  # type: ignore[misc]


def power_off(tour: Tour, vip: str) -> None:
    tour.say("Now the plug of minion-1 is pulled, under the same load")
    tour.run("kubectl get pods -o wide")
    with tour.load(vip):
        begun = time.monotonic()
        tour.run("labctl fault power-off minion-1")
        tour.wait("all four pods run on minion-2", lambda: [p["spec"]["nodeName"] for p in tour.ready()] == ["minion-2"] * 4)
        tour.console.print(f"  healed {time.monotonic() - begun:.2f} s after the command was typed")
    tour.run("kubectl get nodes")
    tour.run("labctl why node/minion-1")
    tour.say("labctl up boots it again")
    tour.run("labctl up")
    tour.run("kubectl get nodes")


def experiment(tour: Tour) -> None:
    """The power cut once more, as an experiment; its report outlives the lab."""
    tour.run("kubectl delete backups --all", show=False)
    tour.run("kubectl delete rc,deployments,statefulsets,jobs,services,pods,pvc -l component!=apiserver --wait=false", show=False)
    tour.wait("the tour's pods are gone", lambda: not tour.get("pods")["items"])
    tour.say("Pulling a plug once proves little. An experiment does it again from the same snapshot, under load, and judges a hypothesis")
    tour.run("labctl experiment run node-death --repetitions 2", check=False)
    for name in ("report.html", "figure.pdf"):
        drawn = tour.folder / "experiments" / "node-death" / name
        if drawn.exists():
            kept = Path(tempfile.gettempdir()) / f"labctl-demo-{name}"
            shutil.copyfile(drawn, kept)
            tour.console.print(f"  {kept}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Play the tour.")
    parser.add_argument("--svg", type=Path, help="keep the tour as a picture")
    parser.add_argument("--keep", action="store_true", help="do not destroy the lab at the end; says where it is")
    arguments = parser.parse_args()
    console = Console(record=arguments.svg is not None, width=130, highlight=False, soft_wrap=arguments.svg is None)
    folder = Path(tempfile.mkdtemp(prefix="labctl-demo-"))
    for name in ("nginx-rc.yml", "nginx-service.yml"):
        shutil.copy(SEED / name, folder)
    tour = Tour(folder, console)
    try:
        play(tour)
    finally:
        if arguments.keep:
            console.print(f"\nThe lab is still there: cd {folder}")
        else:
            tour.say("labctl destroy leaves nothing behind")
            tour.run("labctl destroy --yes", check=False)
            shutil.rmtree(folder)
    if arguments.svg:
        arguments.svg.write_text(FONTS.sub("", console.export_svg(title="labctl")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
