"""Changes what a running pod's control groups allow, and the records that say so. Used by CrunRuntime; it blocks for a few writes."""

from __future__ import annotations

import dataclasses
import os
from typing import Callable, Mapping

from ..cgroups import CPU_PERIOD_US, Cgroups
from .interface import Container, Limits, NoSuchContainer, RuntimeFailure, State
from .records import Records, read_json, write_json


def resize(
    records: Records, cgroups: Cgroups, group_of: Callable[[Container], str], uid: str, pod: Limits, containers: Mapping[str, Limits]
) -> None:
    """The pod's own bound is away while its containers' change, so that no order of them can break it. A record is written after its group.

    Raises NoSuchContainer, RuntimeFailure.
    """
    found = {identity: records.find(identity) for identity in containers}
    for identity, (container, _) in found.items():
        if container is None or container.state is not State.RUNNING:
            raise NoSuchContainer(f"container {identity[:12]} does not run")
        wanted, used = containers[identity].memory_limit_bytes, cgroups.memory_used(group_of(container))
        if wanted and used > wanted:
            raise RuntimeFailure(f"attempting to set container memory limit ({wanted}) below current usage ({used}): {container.name}")
    try:
        cgroups.limit(cgroups.pod(uid), dataclasses.replace(pod, memory_limit_bytes=0, cpu_quota_us=0))
        for identity, (container, bundle) in found.items():
            assert container is not None
            limits = containers[identity]
            quota_us = cgroups.quota_within(limits.cpu_quota_us, CPU_PERIOD_US)
            cgroups.limit(group_of(container), dataclasses.replace(limits, cpu_quota_us=quota_us))
            path = os.path.join(bundle, "container.json")
            write_json(path, {**(read_json(path) or {}), **dataclasses.asdict(limits)})
        quota_us = cgroups.quota_within(pod.cpu_quota_us, CPU_PERIOD_US)
        cgroups.limit(cgroups.pod(uid), dataclasses.replace(pod, cpu_quota_us=quota_us))
    except OSError as error:
        raise RuntimeFailure(f"changing the pod's limits: {error}") from error
