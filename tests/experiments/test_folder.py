"""A result comes back as it was written; a folder from anybody costs nothing and reaches nothing outside."""

import json
import os
import resource
import subprocess
import sys

import pytest

from labctl.errors import LabctlError, UsageError
from labctl.experiments import folder
from tests.experiments.results import result


def written(path, value):
    kept = tuple(folder.write_run(path, each) for each in value.runs)
    folder.write(path, type(value)(**{**{f: getattr(value, f) for f in value.__struct_fields__}, "runs": kept}))


def test_it_comes_back_with_every_request(tmp_path):
    value = result(cells=({"replicas": "1"}, {"replicas": "2"}))
    written(tmp_path, value)
    again = folder.read(tmp_path)
    assert [run.measurement for run in again.runs] == [run.measurement for run in value.runs]
    assert again.good_runs({"replicas": "2"})[2].figures["outage"] == 0.3
    assert again.values({"replicas": "1"}, "outage") == [0.1, 0.2, 0.3]
    assert {run.requests for run in again.runs} >= {"runs/replicas=1-1.jsonl.gz", "runs/replicas=2-3.jsonl.gz"}
    assert folder.read(tmp_path, requests=False).runs[0].measurement is None


def test_values_of_a_cell_can_name_no_file_outside(tmp_path):
    value = result(cells=({"path": "../../etc/passwd"}, {"path": "a b\0c"}, {"path": "a-b-c"}, {"path": "x" * 5000}), outages=(0.1,))
    written(tmp_path / "out", value)
    assert sorted(path.name for path in tmp_path.rglob("*.gz")) == sorted(os.listdir(tmp_path / "out" / "runs"))
    assert len(folder.read(tmp_path / "out").runs) == 4


@pytest.mark.parametrize("name", ["/etc/passwd", "runs/../../x.jsonl", "../x.jsonl.gz", "runs/a/b.jsonl", "runs/.jsonl"])
def test_a_result_that_names_another_file_is_refused(tmp_path, name):
    written(tmp_path, result(outages=(0.1,)))
    data = json.loads((tmp_path / "result.json").read_text())
    data["runs"][0]["requests"] = name
    (tmp_path / "result.json").write_text(json.dumps(data))
    with pytest.raises(LabctlError, match="no file of this folder"):
        folder.read(tmp_path)


def test_a_link_to_a_file_outside_is_refused(tmp_path):
    written(tmp_path / "out", result(outages=(0.1,)))
    real = tmp_path / "out" / "runs" / "run-1.jsonl.gz"
    real.rename(tmp_path / "elsewhere.gz")
    real.symlink_to(tmp_path / "elsewhere.gz")
    with pytest.raises(LabctlError, match="no file of this folder"):
        folder.read(tmp_path / "out")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": "labctl experiment result 2", "name": "x", "experiment": ""}', "[" * 100_000, '{"name": "\\ud800"}']
)
def test_damage_is_one_line(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(LabctlError) as raised:
        folder.read(tmp_path)
    assert "\n" not in str(raised.value)


def test_no_result_is_said(tmp_path):
    with pytest.raises(UsageError, match="has no result"):
        folder.read(tmp_path / "nothing")


def test_a_full_disk_is_one_line_and_what_was_there_stays(tmp_path):
    written(tmp_path, result(outages=(0.1,)))
    before = (tmp_path / "result.json").read_bytes()
    program = """
import resource, signal, sys
from pathlib import Path
from labctl.errors import LabctlError
from labctl.experiments import folder
from tests.experiments.results import result
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    folder.write(Path(sys.argv[1]), result(outages=(0.5,) * 50))
except LabctlError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert "can't be written: File too large" in done.stdout
    assert (tmp_path / "result.json").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["result.json", "runs"]


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "result.json").open("wb") as file:
        file.truncate(2 << 30)

    def bounded():
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    program = "import sys; from pathlib import Path; from labctl.experiments import folder; folder.read(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, preexec_fn=bounded)
    assert "larger than 256 MiB" in done.stderr
