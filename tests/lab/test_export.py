"""What `export` collects on a machine: run here, as it is run there, with the oldest words of Python that it may use."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from labctl.errors import ApiError, LabctlError
from labctl.lab import collect, ssh
from labctl.lab.export import COLLECT, _machine, _objects, export
from labctl.paths import Paths


def test_one_file_per_question_and_one_that_fails_costs_only_itself(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        collect,
        "COMMANDS",
        {
            "a.txt": ["echo", "fine"],
            "b.txt": ["sh", "-c", "echo half; echo why >&2; exit 3"],
            "c.txt": ["no-such-program"],
            "d.txt": ["birdc-no"],
        },
    )
    monkeypatch.setattr(collect, "OPTIONAL", ("birdc-no",))
    collect.main()
    found = json.loads(capsys.readouterr().out)
    assert found["a.txt"] == "fine\n"
    assert found["b.txt"] == "half\n\n(exit 3) why\n"
    assert found["c.txt"].startswith("could not be read:")
    assert "d.txt" not in found, "what this lab's network does not use is not missed"


def test_the_end_of_a_long_log_is_kept(monkeypatch, tmp_path):
    log = tmp_path / "0.log"
    log.write_text("x" * 100 + "the end")
    monkeypatch.setattr(collect, "FILE_BYTES_MAX", 7)
    assert collect._end_of(str(log)) == "the end"


def test_it_runs_alone_as_it_is_sent():
    answer = subprocess.run([sys.executable, "-I", "-S", "-c", COLLECT.read_text()], capture_output=True, text=True, timeout=60)
    assert "mounts.txt" in json.loads(answer.stdout), answer.stderr
    ast.parse(COLLECT.read_text(), feature_version=(3, 9))


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Exports a machine that says this instead of its files, and returns what is in its folder then."""
    paths = Paths(tmp_path / "lab", tmp_path / "state", tmp_path / "cache")
    paths.ssh_config.parent.mkdir(parents=True)
    paths.ssh_config.write_text("Host minion-1\n")
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    def export(script):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        folder = tmp_path / "out/machines/minion-1"
        _machine(SimpleNamespace(moved_from="", paths=paths), "minion-1", folder)
        return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}

    return export


def test_what_a_machine_sends_is_written_below_its_own_folder(said):
    files = {"a.txt": "1", "pods/default_web_1-2/c/0.log": "2"}
    assert said(f"echo '{json.dumps(files)}'") == files


@pytest.mark.parametrize(
    "files",
    [
        {"/tmp/labctl-test-escaped": "x"},
        {"../../escaped": "x"},
        {"a/../../../escaped": "x"},
        {"a/./b": "x"},
        {"": "x"},
        {"..": "x"},
        {"a\n": "x"},
        {"a\\b": "x"},
        {"a" * 5000: "x"},
        {"/".join("a" * 50): "x"},
        {"a": "x", "a/b": "x"},
        {f"{number}": "x" for number in range(1001)},
        {"a": 5},
        ["a"],
        "x",
        None,
    ],
)
def test_a_machines_files_lead_nowhere_else(said, tmp_path, files):
    """Who is root on a machine chooses what it says: it could write any file of whoever exports."""
    (tmp_path / "said").write_text(json.dumps(files))
    before = {path for path in tmp_path.rglob("*") if "out" not in path.parts}
    assert [*said(f"cat {tmp_path}/said")] == ["unreachable.txt"]
    assert {path for path in tmp_path.rglob("*") if "out" not in path.parts} - before <= {tmp_path / "bin/ssh"}
    assert not Path("/tmp/labctl-test-escaped").exists()


@pytest.mark.parametrize("where", ["", " >&2"])
def test_a_machine_that_says_too_much_is_not_heard_any_longer(said, monkeypatch, where):
    monkeypatch.setattr(ssh.run, "__kwdefaults__", {**ssh.run.__kwdefaults__, "most_bytes": 100_000})
    assert said(f"exec yes{where}") == {"unreachable.txt": "minion-1 said more than 100000 bytes\n"}


def test_a_machine_that_says_nothing_is_not_waited_for_for_ever(said, monkeypatch):
    monkeypatch.setattr("labctl.lab.export._MACHINE_S", 0.2)
    assert "timed out" in said("exec sleep 1000")["unreachable.txt"]


class Api:
    def __init__(self, **answers):
        self.answers = answers

    def get(self, path):
        answer = self.answers[path.rpartition("/")[2]]
        if isinstance(answer, Exception):
            raise answer
        return answer


def group(name):
    return {"preferredVersion": {"groupVersion": f"x.example.com/{name}"}}


def listed(*names):
    return {"resources": [{"name": name, "verbs": ["list"]} for name in names]}


@pytest.mark.parametrize(
    "hostile",
    [
        ApiError(503, "ServiceUnavailable", "service unavailable"),
        "no JSON",
        None,
        {"resources": "many"},
        {"resources": [{"name": 1}]},
        listed("../../etc/x", "..", "a\0b", "", "x" * 5000, "a/b"),
        listed("pods"),
    ],
)
def test_another_api_server_costs_its_own_files_alone(tmp_path, hostile):
    """It may be the one that is broken, and its discovery names files."""
    secret = {"metadata": {"name": "s", "annotations": {}}, "data": {"word": "c2VzYW1l"}}
    api = Api(
        apis={"groups": [group("evil"), group("fine")]},
        v1=listed("pods", "secrets"),
        pods={"items": ["ours"]},
        secrets={"kind": "SecretList", "items": [secret]},
        evil=hostile,
        fine=listed("things"),
        things={"kind": "SecretList", "items": "nothing of ours"},
    )
    _objects(SimpleNamespace(api=api), tmp_path / "objects")
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert json.loads(found["objects/pods.json"]) == {"items": ["ours"]} and "things" in "".join(found)
    assert "c2VzYW1l" not in found["objects/secrets.json"] and "(left out)" in found["objects/secrets.json"]
    assert all(name.startswith("objects/") for name in found)
    if hostile not in (listed("pods"), listed("../../etc/x", "..", "a\0b", "", "x" * 5000, "a/b")):
        assert "/apis/x.example.com/evil: " in found["objects/unreachable.txt"]


@pytest.mark.parametrize("folder", ["file/below", "file", "/proc/below"])
def test_a_folder_that_can_not_be_made_is_one_line(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(LabctlError, match="can't be made"):
        export(SimpleNamespace(), tmp_path / folder)
