"""Experiments on real machines: a hypothesis that holds and one that does not; a kill -9, Ctrl-C and a destroyed lab in the middle; the lab is as it was before."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.cluster import PATIENCE, wait

EXAMPLES = Path(__file__).parents[2] / "examples" / "experiments"


@pytest.fixture(scope="module")
def lab(cluster):
    """The lab of this file, with something of the person's in it, and the node-death example beside it, shortened, with thresholds that a busy host keeps."""
    cluster.kubectl("create", "configmap", "mine", "--from-literal=a=b")
    shutil.copytree(EXAMPLES / "manifests", cluster.folder / "manifests")
    text = (EXAMPLES / "node-death.yaml").read_text()
    text = (
        text.replace("duration: 5s", "duration: 4s")
        .replace("rate: 200/s", "rate: 50/s")
        .replace("{without_failures: 1s}", "{without_failures: 500ms}")
    )
    good = text.replace("- outage < 0.5 s", f"- reaction < {5 * PATIENCE:g} s\n  - max of failed < 100")
    assert good != text
    (cluster.folder / "holds.yaml").write_text(good)
    (cluster.folder / "never.yaml").write_text(good.replace("max of failed < 100", "max of reaction < 1 us"))
    return cluster


def result(lab, name):
    return json.loads((lab.folder / name / "result.json").read_text())


def as_before(lab):
    """Nothing of an experiment is left: its pods, faults and snapshots are gone, the person's things are there, and both nodes are Ready."""
    assert lab.get("configmap", "mine")["data"] == {"a": "b"}
    assert not lab.items("pods") and not lab.items("deployments") and not lab.items("faults.labctl.internal")
    kept = json.loads(lab.labctl("snapshot", "list", "-o", "json").stdout)
    assert not [each for each in kept if each["name"].startswith("experiment-") and each["lab"] == lab.status()["lab"]]
    wait(lambda: [node["ready"] for node in lab.status()["nodes"]] == ["True", "True"], "both nodes are Ready")


def begun(lab, *words):
    """An experiment that runs beside the test, in a process group of its own; what it says is in the file `said`."""
    said = lab.folder / "said"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [*lab.inside, sys.executable, "-m", "labctl", "experiment", "run", *words],
            cwd=lab.folder, env=lab.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    return process, said.read_text


def in_the_second(lab, process, said, name):
    """Return when the first repetition is kept and the fault of the second one is at work."""
    wait(lambda: process.poll() is not None or len(result(lab, name)["runs"]) == 1 if (lab.folder / name / "result.json").exists() else False,
         f"one repetition is kept; it said {said()[-500:]}", 90)  # fmt: skip
    assert process.poll() is None, said()

    def at_work():
        assert process.poll() is None, said()
        done = lab.kubectl("get", "faults.labctl.internal", "-o", "json", check=False)
        return done.returncode == 0 and [f for f in json.loads(done.stdout)["items"] if f.get("status", {}).get("phase") == "Active"]

    wait(at_work, "the second fault is at work", 60)


def test_kill_9_then_the_same_command_goes_on_and_the_hypothesis_holds(lab):
    process, said = begun(lab, "holds.yaml", "--repetitions", "2", "--out", "out")
    in_the_second(lab, process, said, "out")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = result(lab, "out")["runs"][0]
    done = lab.labctl("experiment", "run", "holds.yaml", "--repetitions", "2", "--out", "out", "--junit", "junit.xml")
    assert "reaction" in done.stdout and "holds: reaction <" in done.stdout
    kept = result(lab, "out")
    assert [run["number"] for run in kept["runs"]] == [1, 2] and kept["runs"][0] == first and kept["ended_at"]
    assert all(not run["broken"] and run["figures"]["requests"] > 100 and run["figures"]["outage"] is not None for run in kept["runs"])
    marks = {mark["what"] for run in kept["runs"] for mark in run["timelines"][0]["marks"]}
    assert {"injected", "known", "endpoint-removed", "rules", "decided", "ready", "first-answer"} <= marks
    assert kept["facts"]["host"]["kernel"] == os.uname().release and kept["facts"]["labs"]["minions=2"]["minions"] == 2
    assert ElementTree.parse(lab.folder / "junit.xml").getroot().get("failures") == "0"
    assert "<svg" in (lab.folder / "out" / "report.html").read_text() and (lab.folder / "out" / "figure.pdf").read_bytes().startswith(
        b"%PDF"
    )
    as_before(lab)


def test_a_hypothesis_that_does_not_hold_ends_with_1_and_ctrl_c_heals_and_keeps(lab):
    process, said = begun(lab, "never.yaml", "--repetitions", "2", "--out", "never")
    in_the_second(lab, process, said, "never")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(90 * PATIENCE) == 130, said()
    runs = result(lab, "never")["runs"]
    assert not runs[0]["broken"] and runs[1]["broken"] == "it was broken off" and runs[1]["requests"]
    assert "1 repetition kept in never: the same command goes on from there" in said()
    as_before(lab)
    done = lab.labctl("experiment", "run", "never.yaml", "--repetitions", "1", "--out", "never", check=False)
    assert done.returncode == 1 and "does not hold: max of reaction < 1 us (measured " in done.stdout, done.stdout + done.stderr


def test_bad_input_and_a_fault_that_is_refused_end_with_2(lab):
    text = (lab.folder / "holds.yaml").read_text()
    (lab.folder / "wrong.yaml").write_text(text.replace("target: minion-1", "target: minion-9"))
    done = lab.labctl("experiment", "run", "wrong.yaml", check=False)
    assert done.returncode == 2 and "timeline[0].target: there is no minion-9" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_lab_that_is_destroyed_meanwhile_is_one_line(lab):
    process, said = begun(lab, "holds.yaml", "--out", "gone")
    in_the_second(lab, process, said, "gone")
    lab.labctl("destroy", "--yes")
    assert process.wait(60 * PATIENCE) == 1
    assert "was destroyed meanwhile: labctl up, and the same command goes on" in said() and "Traceback" not in said()
    assert len(result(lab, "gone")["runs"]) >= 1
