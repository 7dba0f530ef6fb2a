"""`labctl doctor --store`: a lab whose store has flipped bytes says so, and goes on with what is whole or with a snapshot of before."""

import os

import pytest

from labctl.errors import LabctlError
from labctl.lab import Lab, snapshots
from labctl.lab.doctor_store import doctor_store, keep_undamaged_rows
from tests.cli.test_cli import labctl


@pytest.fixture
def lab(tmp_path):
    """A halted lab with the configmaps `early` and `late`, saved as `one` between them."""
    folder = tmp_path / "lab"
    folder.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LABCTL_STATE_HOME": str(tmp_path / "state")}
    lab = Lab(folder, environment={**environment, "LABCTL_CACHE_HOME": str(tmp_path / "cache")}, minions=0)
    lab.up()
    put(lab, "early")
    snapshots.save(lab, "one")
    put(lab, "late")
    lab.halt()
    yield lab
    lab.destroy()


def put(lab, name):
    lab.api.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": name}, "data": {"text": f"of {name}"}})


def has(lab, name):
    return lab.api.find(f"/api/v1/namespaces/default/configmaps/{name}") is not None


def damage(lab):
    data = lab.paths.store.read_bytes()
    lab.paths.store.write_bytes(data.replace(b'"text":"of late"', b'"text":"of lane"'))


def test_a_store_that_is_whole_says_so(lab):
    assert [check.level for check in doctor_store(lab)] == ["ok"]
    assert [check.level for check in keep_undamaged_rows(lab)] == ["ok"], "and there is nothing to mend"


def test_a_damaged_store_says_what_can_be_kept_and_goes_on_with_the_whole_rows(lab):
    damage(lab)
    with pytest.raises(LabctlError, match=r"store\.db is damaged: row \d+ .*configmaps/default/late"):
        lab.up()
    checks = doctor_store(lab)
    assert [check.level for check in checks] == ["error", "warning", "warning"]
    assert [check.mend for check in checks[1:]] == ["labctl doctor --store --keep-whole-rows", "labctl up --from one"]
    assert keep_undamaged_rows(lab)[0].level == "ok"
    lab.up()
    assert has(lab, "early") and not has(lab, "late")
    with pytest.raises(LabctlError, match="has the store open"):
        doctor_store(lab)


def test_a_damaged_store_goes_on_from_a_snapshot(lab):
    damage(lab)
    lab.up(snapshot="one")
    assert has(lab, "early") and not has(lab, "late")


def test_keeping_whole_rows_goes_with_the_store(tmp_path):
    answer = labctl("doctor", "--keep-whole-rows", cwd=tmp_path)
    assert answer.returncode == 2 and "goes with --store" in answer.stderr
