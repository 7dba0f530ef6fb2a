"""What one minion used at a moment, with its pods: a value that the forms of an answer (node_summary.py, node_samples.py) are made from."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.clock import parse_rfc3339
from labctl.resources.kinds.core_v1.pod_view import ContainerStatus, Pod
from labctl.resources.usage import ContainerUse, NodeUse


class Reading(msgspec.Struct, frozen=True):
    """`pods` are those of the node that `use` tells of."""

    node: str
    use: NodeUse
    pods: tuple[Pod, ...]

    def containers(self, pod: Pod) -> Iterator[tuple[ContainerStatus, ContainerUse]]:
        """Yield the running containers of a pod, in the order of their statuses, with what they use."""
        used = self.use.pods[pod.metadata.uid]
        status = pod.status
        for each in (*status.init_container_statuses, *status.container_statuses, *status.ephemeral_container_statuses):
            if each.state.running and each.name in used:
                yield each, used[each.name]

    def total(self, pod: Pod) -> ContainerUse:
        """Return what the containers of a pod use together."""
        all_ = [use for _, use in self.containers(pod)]
        return ContainerUse(sum(u.nanocores for u in all_), sum(u.memory_bytes for u in all_), sum(u.cpu_ns for u in all_))


def started_s(status: ContainerStatus) -> float:
    """Return when a running container started, in seconds since the epoch. A status is an agent's word: 0 if it says no time."""
    try:
        return parse_rfc3339(status.state.running.started_at) if status.state.running else 0.0
    except ValueError:
        return 0.0
