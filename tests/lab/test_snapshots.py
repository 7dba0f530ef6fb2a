"""Snapshots of labs without machines: they need no root. With machines: tests/e2e/test_snapshots.py."""

import json
import os

import msgspec
import pytest

from labctl.errors import LabctlError, UsageError
from labctl.lab import Lab, snapshots
from labctl.providers.protocol import MachineSpec, Power
from labctl.sim.machines import FakeProvider
from labctl.store.file import rewind

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def make(tmp_path):
    """Labs by name, all destroyed at the end."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LABCTL_STATE_HOME": str(tmp_path / "s"),
        "LABCTL_CACHE_HOME": str(tmp_path / "c"),
    }
    labs = []

    def make(name="lab", **flags):
        labs.append(Lab(tmp_path / name, environment=environment, **{"minions": 0, **flags}))
        return labs[-1]

    yield make
    for lab in labs:
        if lab.paths.lab.exists():
            lab.destroy()


def put(lab, name):
    return int(lab.api.post(CONFIGMAPS, {"metadata": {"name": name}})["metadata"]["resourceVersion"])


def names(lab):
    """Those that somebody made: each namespace has one of the master's."""
    return [name for item in lab.api.get(CONFIGMAPS)["items"] if (name := item["metadata"]["name"]) != "kube-root-ca.crt"]


def revision(lab):
    return int(lab.api.get(CONFIGMAPS)["metadata"]["resourceVersion"])


@pytest.fixture
def saved(make):
    """A lab with a configmap, saved as `one`."""
    lab = make()
    lab.up()
    put(lab, "kept")
    snapshots.save(lab, "one")
    return lab


def token_keys(lab):
    return {file.name: file.read_bytes() for file in lab.paths.token_keys.iterdir()}


def test_tokens_are_signed_with_the_snapshots_keys(make, saved):
    keys = token_keys(saved)
    assert keys
    (saved.paths.token_keys / "000002-later.key").write_bytes(b"of a lab that never was")
    saved.up("one")
    assert token_keys(saved) == keys
    new = make("new")
    new.up("one")
    assert token_keys(new) == keys


def test_what_came_later_is_gone_and_revisions_go_on(saved):
    later = put(saved, "later")
    saved.up("one")
    assert names(saved) == ["kept"] and revision(saved) > later
    told = next(saved.api.watch(f"{CONFIGMAPS}?watch=1&resourceVersion={later}", timeout_s=5))
    assert (told["type"], told["object"]["code"]) == ("ERROR", 410)


def test_the_same_revision_is_never_given_twice_however_often_it_is_restored(saved):
    given = [put(saved, "later")]
    for _ in range(3):
        saved.up("one")
        given.append(put(saved, "later"))
    assert given == sorted(set(given))


def test_it_outlives_its_lab_and_keeps_its_identity(saved, make):
    ca, port, identity = (saved.paths.certificates / "ca.crt").read_bytes(), saved.status()["master"]["url"], saved.record["id"]
    highest = put(saved, "later")
    keys = saved.api.get("/openid/v1/jwks")
    saved.destroy()
    other = make("elsewhere")
    other.up("one")
    assert names(other) == ["kept"]
    assert other.api.get("/openid/v1/jwks") == keys, "tokens that pods hold are still good"
    assert (other.paths.certificates / "ca.crt").read_bytes() == ca and other.status()["master"]["url"] == port
    assert other.record["id"] != identity and revision(other) > highest


def test_a_restore_that_was_broken_off_lets_no_master_start_until_it_is_finished(saved):
    later = put(saved, "later")
    saved.record["restoring"] = {"name": "one", "above": later}
    saved.save()
    saved.paths.store.unlink()
    again = Lab(saved.folder, environment=saved.environment, minions=0)
    with pytest.raises(LabctlError, match="this lab is being restored from snapshot one, and can't do without it: labctl up finishes it"):
        snapshots.delete(again, "one")
    with pytest.raises(LabctlError, match="snapshot one is being restored, or its restore was interrupted: `labctl up` finishes it"):
        _ = again.api
    again.up()
    assert names(again) == ["kept"] and revision(again) > later
    assert "restoring" not in json.loads(again.paths.settings.read_text())


def test_a_save_that_finds_no_room_leaves_nothing(saved, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots.shutil, "copytree", full)
    with pytest.raises(LabctlError, match="snapshot two can't be saved: .*No space left on device: free space below"):
        snapshots.save(saved, "two")
    monkeypatch.undo()
    assert [each.name for each in snapshots.listed(saved)] == ["one"]
    assert sorted(path.name for path in saved.paths.snapshots.iterdir()) == [".lock", "one"]
    snapshots.save(saved, "two")


def test_keys_are_for_their_owner_alone(saved):
    assert saved.paths.snapshots.stat().st_mode & 0o777 == 0o700
    assert (saved.paths.snapshots / "one").stat().st_mode & 0o777 == 0o700
    saved.up("one")
    for key in (saved.paths.certificates / "ca.key", *saved.paths.token_keys.iterdir()):
        assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", ".x", "x" * 64, "a b"])
def test_names_are_plain(saved, name):
    with pytest.raises(UsageError, match="is no name for a snapshot"):
        snapshots.save(saved, name)
    for verb in (snapshots.find, snapshots.delete):
        with pytest.raises(LabctlError, match="there is no snapshot"):
            verb(saved, name)


def test_a_name_is_taken_once_and_free_again_when_deleted(saved):
    with pytest.raises(LabctlError, match="there is a snapshot one already: labctl snapshot delete one, or choose another name"):
        snapshots.save(saved, "one")
    snapshots.delete(saved, "one")
    assert snapshots.listed(saved) == []
    put(saved, "more")
    snapshots.save(saved, "one")
    saved.up("one")
    assert names(saved) == ["kept", "more"]


def test_a_damaged_snapshot_is_one_line_and_can_be_deleted(saved):
    before = saved.status()["master"]["pid"]
    (saved.paths.snapshots / "one" / "snapshot.json").write_text("{")
    with pytest.raises(LabctlError, match="can't be read: .*: labctl snapshot delete one"):
        saved.up("one")
    assert saved.status()["master"]["pid"] == before
    snapshots.delete(saved, "one")


def test_settings_come_with_it_and_those_that_are_said_win(make):
    lab = make(nodes__grace_s=7, proxy_mode="userspace")
    lab.up()
    snapshots.save(lab, "one")
    lab.destroy()
    other = make("elsewhere", proxy_mode="iptables")
    other.up("one")
    assert (other.settings["nodes.grace_s"], other.settings["proxy_mode"]) == (7, "iptables")


def with_machines(lab, count):
    """The snapshot `one`, as if its lab had had machines."""
    snapshot, made = snapshots.find(lab, "one"), {"provider": "fake"}
    changed = msgspec.structs.replace(
        snapshot,
        machines=[f"minion-{number + 1}" for number in range(count)],
        kept={**snapshot.kept, **made},
        settings={**snapshot.settings, **made},
    )
    (lab.paths.snapshots / "one" / "snapshot.json").write_bytes(msgspec.json.encode(changed))


def test_what_can_not_be_changed_is_said_before_anything_is_touched(saved, make):
    with_machines(saved, 3)
    before = saved.status()["master"]["pid"]
    with pytest.raises(UsageError, match="flag --minions: snapshot one has 3 minions, more than that"):
        saved.up("one")
    with pytest.raises(UsageError, match="flag --network: snapshot one was saved with network route, not vxlan"):
        make("elsewhere", minions=3, network="vxlan").up("one")
    saved.record["settings"]["addresses.pods"] = "10.99.0.0/16"
    with pytest.raises(UsageError, match="was saved with addresses.pods 10.246.0.0/16, and this lab was made with 10.99.0.0/16"):
        snapshots.adopt_settings(saved, "one")
    del saved.record
    assert saved.status()["master"]["pid"] == before


def test_a_snapshot_without_machines_does_not_take_a_labs_machines_away(saved):
    saved.record["settings"]["minions"] = 2
    with pytest.raises(UsageError, match="snapshot one has no machines, and this lab has"):
        snapshots.adopt_settings(saved, "one")


@pytest.fixture
def fake(saved, monkeypatch):
    """The lab thinks that it has a machine, of this provider."""
    provider = FakeProvider()
    provider.up(MachineSpec("minion-1", 1, 1 << 30, 1.0, "10.245.1.11", 24, "ssh-ed25519 A"))
    monkeypatch.setattr(snapshots.providers, "make", lambda *_: provider)
    saved.record["kept"]["provider"], saved.record["settings"]["minions"] = "fake", 1
    yield provider
    del saved.record  # what it really is


def test_a_provider_that_keeps_no_machines_is_said_so(saved, fake, monkeypatch):
    monkeypatch.delattr(FakeProvider, "save_machines")
    with pytest.raises(LabctlError, match="provider fake can't save its machines in a snapshot"):
        snapshots.save(saved, "two")


def test_the_store_is_copied_while_the_machines_stand_still(saved, fake, tmp_path, monkeypatch):
    powers, ask = [], saved.api.post

    def post(path, body):
        powers.append(fake.machines()["minion-1"].power)
        return ask(path, body)

    monkeypatch.setattr(saved.api, "post", post)
    two = snapshots.save(saved, "two")
    assert powers == [Power.PAUSED] and fake.machines()["minion-1"].power is Power.ON
    assert rewind(saved.paths.snapshots / "two" / "store.db", tmp_path / "store.db", 0) == two.revision + 1
    fake.destroy("minion-1")
    fake.load_machines(saved.paths.snapshots / "two" / "machines")
    assert fake.machines()["minion-1"].power is Power.ON


def test_the_labs_keys_are_there_before_its_machines_are(saved, monkeypatch):
    """A provider reaches machines that go on with the lab's SSH key, while the store is still put in place."""
    with_machines(saved, 1)
    key, provider, seen = saved.paths.certificates / "ca.key", FakeProvider(), []
    kept = key.read_bytes()
    key.write_bytes(b"of another lab")
    monkeypatch.setattr(provider, "load_machines", lambda _folder: seen.append(key.read_bytes()))
    snapshots.restore(saved, provider, "one", None)
    assert seen == [kept]
