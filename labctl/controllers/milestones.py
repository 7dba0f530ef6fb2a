"""Notes in the journal what clients do to pods, as far as it matters to who follows a fault: a pod became ready, is ready no longer, was asked to leave, a
container ended.

It is an Observer, and the journal is all that it writes. What controllers do to pods is noted by the runner, with its reason; what agents and others do is seen
here only, because they write as clients of the API. A line has the revision of that write, which later lines name as their cause.
"""

from __future__ import annotations

from collections.abc import Mapping

from labctl.controllers.indexes import PODS
from labctl.journal import Journal
from labctl.reconcile.plan import Index, Seen, View
from labctl.resources.kinds.core_v1.pod_view import ContainerStatus, Pod
from labctl.resources.kinds.shared import condition

BY_NODES = "NodeNotReady"  # the node controller wrote that, and the runner noted it
_TEXT_MAX = 200


class Milestones:
    """The observer that the module's docstring describes."""

    name = "milestones"
    follows = (PODS,)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def seen(self, view: View, change: Seen) -> None:
        old, new = change.old, change.new
        if old is None or new is None or old.metadata.uid != new.metadata.uid:
            return
        if new.metadata.deletion_timestamp and not old.metadata.deletion_timestamp:
            self._note(new, "leaving", f"asked to leave {new.spec.node_name or 'before it had a node'}")
        ended = _ended(old, new)
        if ended:
            self._note(new, "ended", ended)
        if new.ready and (ended or not old.ready):  # a container that was started again at once is one report
            self._note(new, "ready", f"ready on {new.spec.node_name}" + (f" at {new.status.pod_ip}" if new.status.pod_ip else ""))
        elif old.ready and not new.ready and not ended:
            told = condition(new.status.conditions, "Ready")
            if told is None or told.reason != BY_NODES:
                self._note(new, "unready", f"ready no longer: {told.message if told and told.message else 'its agent says so'}")

    def _note(self, pod: Pod, did: str, text: str) -> None:
        rev, where = pod.metadata.revision, pod.spec.node_name
        self._journal.note("agent", f"{PODS}/{pod.metadata.key}", text[:_TEXT_MAX], rev=rev, did=did, where=where)


def _ended(old: Pod, new: Pod) -> str:
    """Return a sentence about the containers that ran and run no longer, or have been restarted; empty if there are none."""
    if old.status.container_statuses == new.status.container_statuses:
        return ""
    before = {status.name: status for status in old.status.container_statuses}
    return "; ".join(said for status in new.status.container_statuses if (said := _end(before.get(status.name), status)))


def _end(old: ContainerStatus | None, new: ContainerStatus) -> str:
    if old is None or old.state.running is None:
        return ""
    how = new.state.terminated or (new.last_state.terminated if new.restart_count > old.restart_count else None)
    return f"container {new.name} ended: {how.reason or 'exit'} (exit code {how.exit_code})" if how is not None else ""
