"""In which order, and together with what, pytest-xdist hands out files of tests to its processes."""

from __future__ import annotations

from pathlib import Path

from xdist.scheduler.loadfile import LoadFileScheduling
from xdist.scheduler.loadscope import LoadScopeScheduling
from xdist.workermanage import WorkerController

SHARED_LABS = {
    "test_survives": "enduring",
    "test_vagrant_victims": "enduring",
    "test_core": "enduring",
    "test_vagrant": "enduring",
    "test_provider": "virtual",
    "test_links": "virtual",
    "test_machines": "virtual",
    "test_snapshots": "virtual",
}
"""Files whose tests share one lab (a fixture of the session): they run in one process."""

SECONDS: dict[str, float] = {
    # SECONDS
}
"""About how long the longest files take, on two quiet processors. What is not in it is thought to be short; only the order counts."""


class ByLab(LoadScopeScheduling):
    """Whole files, and together those that share a lab."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return SHARED_LABS.get(Path(file).stem, file)


class LongestFirst(LoadFileScheduling):
    """Whole files, the longest first: then no process has a long one left when the others are done. xdist itself goes by a file's number of tests.

    Every second process begins with the scenarios on real machines, which wait a lot, and the others with the rest, which compute: so they
    disturb each other least.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        scenarios = self.nodes.index(node) % 2 == 0
        self.workqueue.move_to_end(max(self.workqueue, key=lambda file: (_is_scenario(file) == scenarios, self._seconds(file))), last=False)
        super()._assign_work_unit(node)

    def _seconds(self, file: str) -> float:
        return SECONDS.get(file, len(self.workqueue[file]) / 20)


def _is_scenario(file: str) -> bool:
    return file.startswith("tests/e2e/")
