"""NodeMetrics as older clients ask for it: the same as in v1."""

from __future__ import annotations

from labctl.resources.kind import Viewed
from labctl.resources.kinds import metrics
from labctl.resources.kinds.metrics_v1 import nodemetrics as v1


class NodeMetrics(Viewed, frozen=True, rename="camel", gc=False):
    pass


KIND = metrics.of_nodes("v1beta1", NodeMetrics, v1.KIND)
