"""The runner: every repetition from one state, in time, and whatever breaks: healed, kept, gone on with by the same command."""

import msgspec
import pytest

from labctl.errors import LabctlError, UsageError
from labctl.experiments import folder
from labctl.experiments.file import read
from labctl.experiments.repetition import BrokenOff
from labctl.experiments.run import run
from labctl.experiments.stage import StageGone, StageRefuses
from tests.experiments.files import FAULTS, GOOD, written
from tests.experiments.stages import FakeStage, FakeStages, Progress


class Play:
    """One experiment, played as often as a test wants on stages of its own."""

    def __init__(self, tmp_path, text=GOOD):
        self.out = tmp_path / "out"
        self.path = written(tmp_path, text)
        self.progress = Progress()

    def __call__(self, stage, **options):
        self.stages = FakeStages(stage, options.pop("refused", ""))
        now = iter(range(1_700_000_000, 1_800_000_000))
        return run(read(self.path, FAULTS), self.out, self.stages, self.progress, lambda: float(next(now)), **options)

    def kept(self):
        return folder.read(self.out)


@pytest.fixture
def play(tmp_path):
    return Play(tmp_path)


def test_every_repetition_begins_from_one_state_and_gives_figures(play):
    stage = FakeStage([0.2, 0.3, 0.4])
    result = play(stage)
    assert [run.figures["outage"] for run in result.runs] == [0.2, 0.3, 0.4]
    assert [round(run.figures["failed"]) for run in result.runs] == pytest.approx([20, 30, 40], abs=1)
    assert [(v.text, v.measured, v.holds) for v in result.verdicts] == [("outage < 0.5 s", 0.3, True)]
    assert len(stage.restored) == 4 and len(set(stage.restored)) == 1
    assert sum(line.startswith("deploy") for line in stage.said) == 3
    assert not stage.states and not stage.active and not stage.loads and play.stages.closed == 1
    assert result.holds and result.ended_at and result.facts["versions"] == {"labctl": "test"} and result.facts["seed"] == 1
    assert play.kept().runs[2].measurement.requests
    assert msgspec.json.encode(folder.read(play.out, requests=False)) == msgspec.json.encode(result)


def test_steps_come_in_their_time(play):
    stage = FakeStage()
    result = play(stage, repetitions=1)
    timeline, measurement = result.runs[0].timelines[0], play.kept().runs[0].measurement
    assert timeline.fault.injected_s - measurement.began_s == pytest.approx(1.0)
    assert measurement.ended_s - measurement.began_s == pytest.approx(4.0)


def test_the_hypothesis_does_not_hold(play):
    assert not play(FakeStage([0.9, 0.9, 0.1])).holds


def test_one_bad_repetition_spoils_no_other_and_is_played_again_by_the_same_command(play):
    result = play(FakeStage([0.2, 0.3], fail={"inject": [None, LabctlError("the machine is off"), None]}))
    assert [run.broken for run in result.runs] == ["", "the machine is off", ""]
    assert result.values({}, "outage") == [0.2, 0.3] and result.holds
    stage = FakeStage([0.1])
    again = play(stage)
    assert [run.broken for run in again.runs] == ["", "", ""] and sum("inject" in line for line in stage.said) == 1


def test_when_none_counts_it_stops(play):
    with pytest.raises(LabctlError, match="3 repetitions in a row did not count; the last one: it is off"):
        play(FakeStage(fail={"inject": [LabctlError("it is off")] * 9}), repetitions=9)
    assert len(play.kept().runs) == 3 and not play.kept().holds


@pytest.mark.parametrize("where", ["load", "inject", "timelines", "restore", "unmet"])
def test_ctrl_c_heals_keeps_and_goes_on_where_it_was(play, where):
    calls = {"load": 1, "inject": 1, "timelines": 1, "restore": 1, "unmet": 1}[where]
    stage = FakeStage([0.2], fail={where: [None] * calls + [KeyboardInterrupt()]})
    with pytest.raises(KeyboardInterrupt):
        play(stage)
    assert not stage.active and not stage.states and not stage.loads and play.stages.closed == 1
    assert play.kept().runs[0].figures["outage"] == 0.2 and play.kept().runs[1].broken == "it was broken off"
    next_ = FakeStage([0.3, 0.4])
    result = play(next_)
    assert [run.figures["outage"] for run in result.runs] == [0.2, 0.3, 0.4] and result.ended_at


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LabctlError("the disk is full")])
def test_a_way_back_that_is_broken_off_keeps_what_finishes_it(play, error):
    """The lab is in the middle of a restore: without the snapshot no `labctl up` could finish it."""
    stage = FakeStage([0.2], fail={"restore": [None, error]})
    with pytest.raises(type(error)):
        play(stage, repetitions=1)
    assert len(stage.states) == 1 and play.stages.closed == 1
    next_ = FakeStage([0.3])
    next_.states = stage.states
    play(next_, repetitions=2)
    assert len(next_.restored) == 3 and not next_.states


def test_what_was_measured_until_it_was_broken_off_is_kept(play):
    stage = FakeStage(fail={"wait": [None, KeyboardInterrupt()]})
    with pytest.raises(KeyboardInterrupt):
        play(stage)
    kept = play.kept().runs[0]
    assert kept.broken and kept.measurement.requests and kept.timelines[0].fault.type == "power-off" and not kept.figures


def test_after_a_kill_the_lab_is_put_back_before_it_goes_on(play):
    play(FakeStage([0.2]), repetitions=1)
    first = FakeStage()
    play(first, again=True, repetitions=1)
    start = first.restored[-1]
    killed = FakeStage()
    killed.states.add(start)  # what a killed run left
    play(killed, repetitions=2)
    assert killed.restored[0] == start and not any(line == f"save {start}" for line in killed.said)


def test_a_steady_state_that_never_comes_says_what_was_missing_and_stops(play):
    stage = FakeStage()
    stage.missing = ["service default/web has 1 of 2 endpoints"]
    with pytest.raises(BrokenOff, match="did not come within 60 s: service default/web has 1 of 2 endpoints"):
        play(stage)
    assert not stage.states and stage.now_s < 1062 and not any("inject" in line for line in stage.said)


def test_nothing_is_deployed_before_the_nodes_are_there(tmp_path):
    """Pods that are made while a machine is still silent after a restore would all be placed on the other, and the outage would be another."""
    play, stage = Play(tmp_path, GOOD.replace("steady:", "steady:\n  - {nodes: 2}")), FakeStage()
    deploy, deployed_at = stage.deploy, []
    stage.unmet = lambda condition: "1 of 2 nodes are Ready" if condition.nodes and stage.now_s < 1005 else ""
    stage.deploy = lambda manifests: (deployed_at.append(stage.now_s), deploy(manifests))
    play(stage, repetitions=1)
    assert len(deployed_at) == 1 and deployed_at[0] == pytest.approx(1005, abs=0.2)


def test_a_repetition_without_an_end_of_the_outage_says_so(play):
    result = play(FakeStage([None]), repetitions=1)
    assert not result.holds and "was not seen to recover within the load" in result.verdicts[0].why
    assert "the service was not seen to recover within the load" in play.progress.lines[-3]


def test_requests_that_fail_before_anything_is_broken_stop_it(tmp_path):
    play = Play(tmp_path, GOOD.replace("  - {service: web, endpoints: 2}", "  - {service: web, endpoints: 2}\n  - without_failures: 1s"))
    stage = FakeStage()
    stage.out = [(0, 1e9)]
    with pytest.raises(BrokenOff, match="requests did not stop failing within 60 s: 100 of 100 failed, the last: refused"):
        play(stage)
    assert not stage.loads and not any("inject" in line for line in stage.said)


def test_a_fault_that_the_lab_refuses_stops_it_before_anything_is_kept_or_deployed(tmp_path):
    play = Play(tmp_path, GOOD.replace("power-off", "kill-container"))
    stage = FakeStage()
    with pytest.raises(StageRefuses, match="kill-container can't be done here"):
        play(stage)
    assert not any(line.startswith(("save", "restore", "deploy", "inject", "load")) for line in stage.said) and not stage.states


def test_a_fault_of_a_pod_that_the_lab_refuses_stops_it_before_the_load(tmp_path):
    play = Play(tmp_path, GOOD.replace("power-off", "kill-container").replace("target: minion-1", "target: pod of web"))
    stage = FakeStage()
    with pytest.raises(StageRefuses, match="kill-container can't be done here"):
        play(stage)
    assert "deploy 2" in stage.said and not any(line.startswith(("inject", "load")) for line in stage.said) and not stage.states


def test_a_pod_that_an_action_makes_is_not_asked_about_before_it_is_there(tmp_path):
    step = "{at: 1s, fault: kill-container, target: pod/default/late}"
    made = "{at: 0.5s, action: scale, target: deployment/web, replicas: 3}"
    play = Play(tmp_path, GOOD.replace("{at: 1s, fault: power-off, target: minion-1}", made + "\n  - " + step))
    stage = FakeStage()
    play(stage)
    assert "inject kill-container pod/default/late" in stage.said


def test_a_lab_that_is_gone_ends_it_in_one_line_and_what_was_measured_stays(play):
    gone = StageGone("the lab was destroyed meanwhile")
    stage = FakeStage([0.2], fail={"inject": [None, gone], "heal": [None, gone, gone], "restore": [None, None, gone]})
    with pytest.raises(StageGone, match="destroyed meanwhile"):
        play(stage)
    assert [bool(run.broken) for run in play.kept().runs] == [False, True] and play.stages.closed == 1


def test_settings_that_no_lab_can_have_are_refused_before_anything(play):
    with pytest.raises(UsageError, match="network bgp: not here"):
        play(FakeStage(), refused="network bgp: not here")
    assert not play.stages.opened and not play.out.exists()


def test_another_experiments_folder_is_not_touched(play, tmp_path):
    play(FakeStage())
    before = (play.out / "result.json").read_bytes()
    written(tmp_path, GOOD + "seed: 5\n")
    with pytest.raises(UsageError, match="has the result of another experiment"):
        play(FakeStage())
    assert (play.out / "result.json").read_bytes() == before
    assert play(FakeStage([0.1] * 3), again=True).runs[0].seed == 5_000_016


def test_a_finished_experiment_is_not_played_twice_and_more_repetitions_are_added(play):
    play(FakeStage())
    stage = FakeStage()
    play(stage)
    assert not stage.said and not play.stages.opened
    assert len(play(FakeStage([0.3]), repetitions=4).runs) == 4


def test_each_lab_is_made_once_and_each_cell_begins_from_a_clean_lab(tmp_path):
    text = GOOD.replace("minions: 2", "minions: 2, network: '${network}'").replace("rate: 100/s", "rate: '${rate}'")
    play = Play(tmp_path, text + "matrix: {rate: [100/s, 200/s], network: [route, bgp]}\n")
    stage = FakeStage()
    result = play(stage, repetitions=1)
    assert [opened["network"] for opened in play.stages.opened] == ["route", "bgp"] and play.stages.closed == 2
    assert [tuple(run.cell.values()) for run in result.runs] == [("100/s", "route"), ("100/s", "bgp"), ("200/s", "route"), ("200/s", "bgp")]
    assert len(result.verdicts) == 4 and set(result.facts["labs"]) == {"minions=2 network=route", "minions=2 network=bgp"}
    assert len(stage.restored) == 6  # each cell begins from the lab's state, and each lab returns to it


def test_chosen_targets_follow_the_seed_and_their_minion_does_not_ask(tmp_path):
    text = GOOD.replace("target: minion-1", "target: minion of pod of web").replace("[minion-2]", "[other minions]")

    def targets(seed):
        play = Play(tmp_path, text + f"seed: {seed}\n")
        stage = FakeStage(minions=4)
        play(stage, repetitions=6, again=True)
        for before, line in zip(stage.said, stage.said[1:]):
            if line.startswith("inject"):
                assert before == "wait"
        asked = [line for line in stage.said if line.startswith("load")]
        hit = [line.split()[-1] for line in stage.said if line.startswith("inject")]
        assert all(name not in line and line.count("minion-") == 3 for name, line in zip(hit, asked))
        return hit

    assert targets(1) == targets(1) != targets(2)
    assert len(set(targets(1))) > 1


def test_manifests_that_are_refused_stop_it_at_once(play):
    stage = FakeStage(fail={"deploy": [LabctlError("kubectl apply: no such kind")] * 3})
    with pytest.raises(BrokenOff, match="no such kind"):
        play(stage)
    assert sum(line.startswith("deploy") for line in stage.said) == 1 and not stage.states


def test_a_disk_that_refuses_is_said_and_everything_is_healed(play, monkeypatch):
    stage = FakeStage([0.2, 0.2])
    real = folder.write
    count = iter(range(100))

    def full(path, result):
        if next(count) == 2:
            raise LabctlError(f"{path}: the result can't be written: No space left on device", mend="free space there")
        real(path, result)

    monkeypatch.setattr(folder, "write", full)
    with pytest.raises(LabctlError, match="No space left"):
        play(stage)
    assert not stage.active and not stage.states and play.stages.closed == 1
    monkeypatch.undo()
    assert [run.number for run in play.kept().runs] == [1]


def test_actions_are_taken_with_what_they_need(tmp_path):
    text = GOOD.replace(
        "  - {at: 1s, fault: power-off, target: minion-1}",
        "  - {at: 2s, action: rollout-restart, target: web}\n  - {at: 1s, action: drain, target: minion of pod of web}\n"
        "  - {at: 3s, action: scale, target: deployment/web, replicas: 5}",
    )
    play = Play(tmp_path, text)
    stage = FakeStage()
    result = play(stage, repetitions=1)
    acts = [line.split()[1:] for line in stage.said if line.startswith("act")]
    assert [act[0] for act in acts] == ["drain", "rollout-restart", "scale"]
    assert acts[0][1].startswith("minion-") and acts[1][1] == acts[2][1] == "deployment/default/web"
    assert [timeline.fault.type for timeline in result.runs[0].timelines] == ["drain", "rollout-restart", "scale"]
