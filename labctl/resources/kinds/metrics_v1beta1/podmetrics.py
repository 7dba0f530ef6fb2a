"""PodMetrics as older clients ask for it: the same as in v1."""

from __future__ import annotations

from labctl.resources.kind import Viewed
from labctl.resources.kinds import metrics
from labctl.resources.kinds.metrics_v1 import podmetrics as v1


class PodMetrics(Viewed, frozen=True, rename="camel", gc=False):
    pass


KIND = metrics.of_pods("v1beta1", PodMetrics, v1.KIND)
