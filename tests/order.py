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
    "tests/e2e/test_networks.py": 270,
    "tests/e2e/test_faults.py": 230,
    "tests/e2e/test_fault_victims.py": 135,
    "tests/e2e/test_snapshots.py": 130,
    "tests/e2e/test_experiments.py": 120,
    "tests/e2e/test_pods.py": 100,
    "tests/e2e/test_hostile.py": 90,
    "tests/e2e/test_fault_objects.py": 70,
    "tests/client/test_kubectl_versions.py": 60,
    "tests/e2e/test_seed.py": 60,
    "tests/e2e/test_vandal.py": 60,
    "tests/lab/test_snapshots.py": 60,
    "tests/pages/test_dash.py": 60,
    "tests/agent/test_agent.py": 50,
    "tests/contract/test_provider.py": 50,
    "tests/e2e/test_workloads.py": 50,
    "tests/agent/test_kills.py": 45,
    "tests/e2e/test_timeline.py": 45,
    "tests/pages/test_report.py": 45,
    "tests/sim/test_scenarios.py": 45,
    "tests/experiments/report/test_html.py": 35,
    "tests/remote/test_hostile.py": 35,
    "tests/contract/test_remote.py": 30,
    "tests/test_recipes.py": 30,
    "tests/api/test_protobuf.py": 25,
    "tests/cli/test_cli.py": 25,
    "tests/contract/test_runtime.py": 25,
    "tests/contract/test_container_faults.py": 20,
    "tests/agent/test_faults.py": 20,
    "tests/client/test_custom_kinds.py": 20,
    "tests/client/test_kubectl.py": 20,
    "tests/remote/test_process.py": 20,
    "tests/sim/test_detector.py": 20,
    "tests/api/test_hostile_bodies.py": 15,
    "tests/client/test_aggregation.py": 15,
    "tests/client/test_kopf_custom.py": 15,
    "tests/lab/test_process.py": 15,
    "tests/client/test_kopf_handlers.py": 12,
    "tests/experiments/report/test_pdf.py": 12,
    "tests/lab/test_lab.py": 12,
    "tests/machines/test_storm.py": 12,
}
"""About how long the longest files take; those above 100 as a run on two quiet processors gave them.

Only the order counts: another scenario is thought to take half a minute, any other test 0.05 s."""


class ByLab(LoadScopeScheduling):
    """Whole files, and together those that share a lab."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return SHARED_LABS.get(Path(file).stem, file)


class LongestFirst(LoadFileScheduling):
    """Whole files, the longest first: then no process has a long one left when the others are done. xdist itself goes by a file's number of tests.

    One process of four, the second, begins with what computes; the others begin with scenarios on real machines, which wait a lot: so they
    disturb each other least, and the processors have something to do all the time.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        scenarios = self.nodes.index(node) % 4 != 1
        self.workqueue.move_to_end(max(self.workqueue, key=lambda file: (_is_scenario(file) == scenarios, self._seconds(file))), last=False)
        super()._assign_work_unit(node)

    def _seconds(self, file: str) -> float:
        return SECONDS.get(file, 30 if _is_scenario(file) else len(self.workqueue[file]) / 20)


def _is_scenario(file: str) -> bool:
    return file.startswith("tests/e2e/")
