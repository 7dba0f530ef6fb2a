"""A Scale is the subresource of workloads and custom kinds that says their number of pods. It is no kind that a registry holds: this is how a Table shows it."""

from __future__ import annotations

from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, Kind

SCALE = Kind(
    group="autoscaling",
    version="v1",
    kind="Scale",
    plural="scales",
    singular="scale",
    namespaced=True,
    view=GenericObject,
    columns=(
        NAME,
        Column("Desired", lambda view, _now_s: view.at("spec.replicas", 0), "integer"),
        Column("Available", lambda view, _now_s: view.at("status.replicas", 0), "integer"),
        AGE,
    ),
    persisted=False,
)
