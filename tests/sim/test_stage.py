"""Experiments on virtual time: the files of examples/, the same verdict each time, and one line for what a simulation knows nothing of."""

import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from labctl.errors import LabctlError
from labctl.experiments.file import read
from labctl.experiments.run import run
from labctl.experiments.stage import ActionRequest, FaultRequest, LoadRequest
from labctl.resources.faulttypes import TYPES
from labctl.sim.objects import deployment
from labctl.sim.stage import SimStage, SimStages

EXAMPLES = Path(__file__).parents[2] / "examples" / "experiments"


def play(name, folder):
    experiment = read(EXAMPLES / f"{name}.yaml", TYPES)
    return run(experiment, folder, SimStages(), lambda _name: nullcontext(lambda _text: None), time.time, repetitions=2)


@pytest.mark.parametrize("name", ["drain", "rolling-update", "master-death"])
def test_what_is_announced_costs_no_request(name, tmp_path):
    result = play(name, tmp_path)
    assert result.holds and not [each.broken for each in result.runs if each.broken]


def test_a_drain_empties_a_node_and_waits_for_a_disruption_budget():
    stage = SimStage(2, "kubernetes")
    labels = {"name": "web"}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}}
    stage.deploy([deployment("web", 2), {**budget, "spec": {"minAvailable": 2, "selector": {"matchLabels": labels}}}])
    stage.wait(stage.now() + 20)
    node = stage.pods("deployment/default/web")[0].node
    stage.act(ActionRequest(name="d", type="drain", target=node))
    stage.wait(stage.now() + 20)
    assert node in {pod.node for pod in stage.pods("deployment/default/web")}, "the budget wants both"
    stage.act(ActionRequest(name="s", type="scale", target="deployment/default/web", replicas=4))
    stage.wait(stage.now() + 30)
    pods = stage.pods("deployment/default/web")
    assert len(pods) == 4 and node not in {pod.node for pod in pods} and all(pod.ready for pod in pods)
    stage.close()


def test_a_rollout_restart_replaces_every_pod():
    stage = SimStage(2, "kubernetes")
    stage.deploy([deployment("web", 3)])
    stage.wait(stage.now() + 20)
    before = {pod.name for pod in stage.pods("deployment/default/web")}
    stage.act(ActionRequest(name="r", type="rollout-restart", target="deployment/default/web"))
    stage.wait(stage.now() + 30)
    after = {pod.name for pod in stage.pods("deployment/default/web") if pod.ready}
    assert len(before) == len(after) == 3 and not before & after
    stage.close()


@pytest.mark.parametrize("name", ["node-death", "partition", "pod-death", "slow-node"])
def test_an_example_is_played_and_its_hypothesis_judged(name, tmp_path):
    first, second = play(name, tmp_path / "a"), play(name, tmp_path / "b")
    assert first.holds and not [each.broken for each in first.runs if each.broken]
    assert [each.figures for each in first.runs] == [each.figures for each in second.runs], "virtual time: the same figures"
    assert all(each.figures["outage"] > 0 for each in first.runs)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_example_is_refused(path):
    for plan in read(path, TYPES).plans:
        assert not SimStages().refuse(plan.settings, plan.steps)


def test_what_a_simulation_knows_nothing_of_is_refused_in_one_line():
    stages = SimStages()
    assert "network" in stages.refuse({"network": "bgp"})
    assert "timing" in stages.refuse({"timing": "never"}) and not stages.refuse({"timing": "lab", "minions": "3"})
    stage = stages.open({"minions": 2})
    try:
        faults = [FaultRequest(name="a", type="slow-disk", target="minion-1"), FaultRequest(name="b", type="cut", target="minion-9")]
        assert len(stage.refuse(faults)) == 2 and not stage.refuse([FaultRequest(name="c", type="cut", target="minion-1")])
        with pytest.raises(LabctlError, match="has no dance"):
            stage.act(ActionRequest(name="d", type="dance", target="minion-1"))
        with pytest.raises(LabctlError, match="there is no machine minion-9"):
            stage.act(ActionRequest(name="e", type="drain", target="minion-9"))
        with pytest.raises(LabctlError, match="requests go to a Service"):
            stage.load(LoadRequest(target="http://10.0.0.1/"))
    finally:
        stages.close(stage)


def test_a_fault_with_a_duration_heals_itself():
    stage = SimStage(2, "kubernetes")
    stage.inject(FaultRequest(name="off", type="power-off", target="minion-1", duration="5s"))
    assert not stage._world.fleet.nodes["minion-1"].powered
    stage.wait(stage.now() + 20)
    assert stage._world.fleet.nodes["minion-1"].powered
    stage.close()
