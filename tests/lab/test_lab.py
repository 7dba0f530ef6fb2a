"""`Lab` from Python: API and controllers only, so it runs anywhere and needs no root."""

import json
import os
import socket

import pytest

from labctl.errors import ApiError, LabctlError, UsageError
from labctl.lab import Lab, process


@pytest.fixture
def environment(tmp_path):
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LABCTL_STATE_HOME": str(tmp_path / "s"),
        "LABCTL_CACHE_HOME": str(tmp_path / "c"),
    }


def test_with_a_lab(tmp_path, environment):
    with Lab(tmp_path / "lab", environment=environment, minions=0) as lab:
        assert lab.kubectl("create", "configmap", "a", "--from-literal=k=v").stdout == "configmap/a created\n"
        status = lab.status()
        assert status["master"]["running"] and status["master"]["url"].startswith("https://127.0.0.1:")
        assert lab.why("svc/kubernetes")[0] == "Its virtual address is 10.247.0.1."
        folder = lab.folder / ".labctl"
        assert (folder / "kubeconfig").stat().st_mode & 0o777 == 0o600
    assert not folder.exists() and not lab.running
    assert not any((tmp_path / "s").iterdir())


def test_two_labs_in_one_process(tmp_path, environment):
    with Lab(tmp_path / "a", environment=environment, minions=0) as one, Lab(tmp_path / "b", environment=environment, minions=0) as two:
        one.kubectl("create", "namespace", "only-here")
        assert "only-here" not in two.kubectl("get", "ns").stdout
        assert one.record["id"] != two.record["id"]


def test_progress_names_the_steps(tmp_path, environment):
    steps = []
    lab = Lab(tmp_path / "lab", environment=environment, progress=steps.append, minions=0)
    lab.up()
    try:
        assert [(step.name, step.state) for step in steps if step.state != "note"] == [("master", "begun"), ("master", "done")]
    finally:
        lab.destroy()


def test_what_was_chosen_is_kept(tmp_path, environment):
    with Lab(tmp_path / "lab", environment=environment, minions=0, nodes__grace_s=7) as lab:
        again = Lab(tmp_path / "lab", environment=environment)
        assert (again.settings["minions"], again.settings["nodes.grace_s"]) == (0, 7.0)
        assert again.settings.source("nodes.grace_s") == "kept since this lab was made"
        with pytest.raises(
            UsageError, match="this lab was made with addresses.pods 10.246.0.0/16, not 10.9.0.0/16: labctl destroy, then up"
        ):
            _ = Lab(tmp_path / "lab", environment=environment, addresses__pods="10.9.0.0/16").settings
        port = lab.status()["master"]["port"]
        lab.halt()
        lab.up()
        assert lab.status()["master"]["port"] == port, "copied kubeconfigs stay good"


def test_export_keeps_secrets_back(tmp_path, environment):
    from labctl.lab.export import export

    with Lab(tmp_path / "lab", environment=environment, minions=0) as lab:
        lab.kubectl("create", "secret", "generic", "hush", "--from-literal=word=sesame")
        folder = export(lab, tmp_path / "out")
        secrets = json.loads((folder / "objects" / "secrets.json").read_text())
        assert secrets["items"][0]["data"] == {"word": "(left out)"}
        everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        assert b"c2VzYW1l" not in everything and b"PRIVATE KEY" not in everything
        with pytest.raises(LabctlError, match="is not empty"):
            export(lab, tmp_path / "out")


def test_why_of_what_is_no_kind(tmp_path, environment):
    with Lab(tmp_path / "lab", environment=environment, minions=0) as lab:
        with pytest.raises(ApiError, match='doesn\'t have a resource type "unicorn"'):
            lab.why("unicorn/x")
        with pytest.raises(UsageError, match="write pod/NAME"):
            lab.why("pod")


def test_a_lab_whose_up_fails_is_not_left_behind(tmp_path, environment):
    """Nobody is inside the block to destroy it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        lab = Lab(tmp_path / "lab", environment=environment, minions=0, api_port=port)
        with pytest.raises(LabctlError, match=f"port {port}"), lab:
            raise AssertionError("it is not up")
    assert not (tmp_path / "lab" / ".labctl").exists() and not any((tmp_path / "s").iterdir())


def test_a_lab_that_was_there_before_survives_an_up_that_fails(tmp_path, environment):
    first = Lab(tmp_path / "lab", environment=environment, minions=0)
    first.up()
    try:
        with pytest.raises(UsageError), Lab(tmp_path / "lab", environment=environment, addresses__pods="10.9.0.0/16"):
            raise AssertionError("it is not up")
        assert first.status()["master"]["running"]
    finally:
        first.destroy()


def test_what_another_command_makes_after_a_destroy_stays(tmp_path, environment):
    """The folder goes in one step, while the lock on it is held: an `up` that comes right after makes its own."""
    lab = Lab(tmp_path / "lab", environment=environment, minions=0)
    folder = lab.folder / ".labctl"

    def race(step):
        if step.name == "master" and step.state == "done" and not done:
            done.append(step)
            with pytest.raises(LabctlError, match="is working on this lab"):
                Lab(lab.folder, environment=environment, minions=0).destroy()

    lab.up()
    done = []
    waiting = open(folder / "command.lock", "a+")
    Lab(lab.folder, environment=environment, progress=race).destroy()
    assert done and not folder.exists() and not list(lab.folder.iterdir())
    with waiting, process.working_on(lab.paths, "up"):
        assert not os.path.samestat(os.fstat(waiting.fileno()), os.stat(folder / "command.lock"))
        (folder / "lab.json").write_text("{}")
    assert folder.exists()
