"""`labctl experiment` without a lab: what is wrong is said with exit status 2 before anything begins; results are compared and reported."""

import json

import pytest
from click.testing import CliRunner

from labctl.cli import experiment as module
from labctl.cli.experiment import experiment
from labctl.cli.main import main
from labctl.experiments import folder
from tests.experiments.files import GOOD, written
from tests.experiments.test_folder import written as kept
from tests.experiments.test_tables import judged, noisy


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def labctl(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize(
    "old, new, said",
    [
        ("outage < 0.5 s", "outtage < 0.5 s", "experiment.yaml: hypothesis[0]: unknown figure outtage: did you mean outage?"),
        ("outage < 0.5 s", "outage < 0.5", "outage < 0.5 has no unit"),
        ("power-off", "power-of", "timeline[0].fault: unknown fault power-of: did you mean power-off?"),
        ("web.yaml", "wob.yaml", "there is no file 'wob.yaml' beside the experiment"),
        ("minions: 2", "minons: 2", "lab.minons: unknown setting: did you mean minions?"),
        ("minions: 2", "network: ring", "lab.network can't be 'ring': write one of route"),
    ],
)
def test_a_wrong_file_ends_with_2_and_touches_nothing(tmp_path, capsys, monkeypatch, verb, old, new, said):
    monkeypatch.setattr(module, "become_root", lambda lab: None)
    path = written(tmp_path, GOOD.replace(old, new))
    status, out, err = labctl(capsys, "experiment", verb, path)
    assert status == 2 and said in err and len(err.splitlines()) == 1 and not out
    assert sorted(each.name for each in tmp_path.iterdir()) == ["experiment.yaml", "web.yaml"]


@pytest.mark.parametrize("words", [("nothing.yaml",), ("no-such-example",), ("/",), ("\u0001.yaml",)])
def test_a_file_that_is_not_there_is_one_line(capsys, words):
    for verb in ("check", "run"):
        status, _, err = labctl(capsys, "experiment", verb, *words)
        assert status == 2 and len(err.splitlines()) == 1


def test_compare_ends_with_1_if_b_is_slower(tmp_path, capsys):
    kept(tmp_path / "a", noisy(0.2, 1))
    kept(tmp_path / "b", noisy(0.3, 2))
    status, out, _ = labctl(capsys, "experiment", "compare", "a", "b", "--figure", "outage")
    assert status == 1 and "B is worse by" in out
    assert labctl(capsys, "experiment", "compare", "b", "a", "--figure", "outage")[0] == 0
    assert labctl(capsys, "experiment", "compare", "a", "b", "--figure", "outage", "--threshold", "90%")[0] == 0
    status, out, _ = labctl(capsys, "experiment", "compare", "a", "b", "-o", "json")
    assert json.loads(out)[0]["comparison"]["count_a"] == 10
    for wrong in (("a", "nowhere"), ("a", "b", "--figure", "speed"), ("a", "b", "--threshold", "10")):
        status, _, err = labctl(capsys, "experiment", "compare", *wrong)
        assert status == 2 and err


def test_the_exit_status_follows_the_verdict_and_junit_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "become_root", lambda lab: None)
    path = written(tmp_path)
    for text, status in (("outage < 0.5 s", 0), ("outage < 0.1 s", 1)):
        result = judged(noisy(0.2, 1), text)

        def play(read, where, *_args, result=result, **_options):
            folder.write(where, result)
            return result

        monkeypatch.setattr("labctl.experiments.run.run", play)
        done = CliRunner().invoke(experiment, ["run", str(path), "--out", "out", "--junit", "x/junit.xml"])
        assert done.exit_code == status, done.output
        assert ("does not hold" if status else "holds") in done.output and "MEDIAN" in done.output
        assert ("<failure" in (tmp_path / "x" / "junit.xml").read_text()) == bool(status)
