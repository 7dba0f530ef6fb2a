"""NodeMetrics: how much a minion uses, for `kubectl top nodes`. Minions are asked when somebody asks; nothing is stored."""

from __future__ import annotations

from labctl.resources.kind import Viewed
from labctl.resources.kinds import metrics


class NodeMetrics(Viewed, frozen=True, rename="camel", gc=False):
    pass


KIND = metrics.of_nodes("v1", NodeMetrics)
