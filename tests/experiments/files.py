"""Experiment files for tests."""

from pathlib import Path

from labctl.resources.faulttypes import TYPES

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: serve-hostname}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 9376}]}
"""
GOOD = """
name: node-death
lab: {minions: 2}
manifests: [web.yaml]
steady:
  - {service: web, endpoints: 2}
load: {service: web, rate: 100/s, sources: [minion-2]}
duration: 4s
timeline:
  - {at: 1s, fault: power-off, target: minion-1}
hypothesis:
  - outage < 0.5 s
repetitions: 3
"""
FAULTS = TYPES


def written(folder: Path, text: str = GOOD, web: str = WEB) -> Path:
    (folder / "web.yaml").write_text(web)
    path = folder / "experiment.yaml"
    path.write_text(text)
    return path
