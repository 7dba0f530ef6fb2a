"""PodMetrics: how much each container of a pod uses, for `kubectl top pods`. Minions are asked when somebody asks; nothing is stored."""

from __future__ import annotations

from labctl.resources.kind import Kind, Viewed
from labctl.resources.kinds import own
from labctl.resources.kinds.metrics_v1beta1.nodemetrics import DEFINITIONS, GROUP, USAGE, VERSION


class PodMetrics(Viewed, frozen=True, rename="camel", gc=False):
    pass


_CONTAINERS: own.Definition = {"type": "array", "items": own.reference(DEFINITIONS + "ContainerMetrics")}

KIND = Kind(
    group=GROUP,
    version=VERSION,
    kind="PodMetrics",
    plural="pods",
    singular="",
    namespaced=True,
    view=PodMetrics,
    verbs=("get", "list"),
    persisted=False,
    definitions={
        **own.top_level(DEFINITIONS + "PodMetrics", GROUP, VERSION, timestamp=own.TIME, window=own.STRING, containers=_CONTAINERS),
        DEFINITIONS + "ContainerMetrics": own.struct(name=own.STRING, usage=USAGE),
    },
)
