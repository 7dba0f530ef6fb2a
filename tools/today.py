"""The second tour of `make demo`: today's manifests on the lab of the first one. Nothing here is staged either."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.demo import Tour

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "today"


def play(tour: Tour) -> None:
    """Under a minute. Leaves its objects: the lab is destroyed afterwards."""
    for example in EXAMPLES.glob("*.yml"):
        shutil.copy(example, tour.folder)
    tour.say("And what a tutorial of today types: a Deployment, its Service by name, a rollout")
    tour.run("kubectl create deployment web --image=nginx --replicas=3")
    tour.run("kubectl expose deployment web --port=80")
    tour.run("kubectl rollout status deployment/web --timeout=60s")
    page = tour.run("kubectl exec deploy/web -- wget -qO- http://web.default.svc.cluster.local", show=False)
    tour.console.print("[bold cyan]$[/] [bold]kubectl exec deploy/web -- wget -qO- http://web.default.svc.cluster.local[/]")
    tour.console.print("\n".join(page.splitlines()[:4]) + "\n...", markup=False, highlight=False)
    rollout(tour)
    workloads(tour)
    own_kind(tour)


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
