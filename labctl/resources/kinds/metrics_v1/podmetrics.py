"""PodMetrics: how much each container of a pod uses, for `kubectl top pods`. Minions are asked when somebody asks; nothing is stored."""

from __future__ import annotations

from labctl.resources.kind import Viewed
from labctl.resources.kinds import metrics


class PodMetrics(Viewed, frozen=True, rename="camel", gc=False):
    pass


KIND = metrics.of_pods("v1", PodMetrics)
