"""How long `up` waits, and what it says when that was not enough. The rest of `up` is in tests/e2e."""

from types import SimpleNamespace

import pytest

from labctl.errors import ApiError, LabctlError, UsageError
from labctl.lab import machines, up
from labctl.lab.folder import LabFolder
from labctl.lab.settings import KEPT, compose
from labctl.providers.factory import make_provider
from labctl.providers.protocol import Power
from labctl.resources.kinds.labctl_internal_v1.machine import BOOT_REQUEST


class Api:
    """One machine that stays as it is."""

    def __init__(self, **status):
        self.machine = {"metadata": {"name": "minion-1"}, "spec": {"number": 1, "power": "On"}, "status": status}

    def get(self, _path):
        return {"items": [self.machine]}

    def find(self, _path):
        return None

    def patch(self, _path, patch):
        self.machine["status"]["observedBootRequest"] = patch["metadata"]["annotations"][BOOT_REQUEST]


def lab(api, **environment):
    said = []
    settings = compose({"minions": "1"}, environment, None, {})
    return SimpleNamespace(api=api, settings=settings, progress=said.append, said=said, save=lambda **_: None)


@pytest.mark.parametrize(
    ("status", "seen"),
    [
        ({"phase": "Booting"}, "booting"),
        ({"phase": "Joining", "message": "minion-1: connection refused"}, "joining (minion-1: connection refused)"),
        ({"phase": "Ready"}, "joining"),
        ({}, "waiting"),
    ],
)
def test_a_node_that_is_not_ready_in_time_is_told_with_what_it_was_last_seen_at_and_how_to_give_it_longer(status, seen):
    waiting = lab(Api(**status), LABCTL_READY_S="0.2")
    provider = SimpleNamespace(name="namespace", machines=dict)
    with pytest.raises(LabctlError) as error:
        up._machines(waiting, provider, 1)
    assert error.value.message == f"minion-1: not done after 0 s; last seen {seen}, for 0 s"
    assert "if it is only slow, LABCTL_READY_S=0 labctl up (nodes.ready_s in lab.yml)" in error.value.mend
    assert [step.note for step in waiting.said if step.note] == [seen]


@pytest.mark.parametrize(
    ("provider", "status", "mends"),
    [
        ("namespace", {"phase": "Joining"}, ("`labctl fault reset minion-1`", "`labctl destroy minion-1` and `labctl up --minions 1`")),
        ("namespace", {"phase": "Failed", "message": "no"}, ("`labctl destroy minion-1` and `labctl up --minions 1`",)),
        ("ssh", {"phase": "Joining"}, ("labctl doctor",)),
    ],
)
def test_what_brings_a_machine_back_is_said_in_full(provider, status, mends):
    """A plain `labctl up` does not miss a machine that was destroyed, as its mend once promised."""

    class Powers:
        name, machines = "namespace", dict

        def power_off(self, name): ...
        def reset(self, name): ...
        def pause(self, name): ...
        def resume(self, name): ...

    with pytest.raises(LabctlError) as error:
        up._machines(
            lab(Api(**status), LABCTL_READY_S="0.2"),
            Powers() if provider == "namespace" else SimpleNamespace(name=provider, machines=dict),
            1,
        )
    assert all(mend in error.value.mend for mend in mends), error.value.mend
    assert provider == "namespace" or "destroy" not in error.value.mend


def test_a_machine_that_is_on_and_whose_node_is_not_ready_is_asked_for_again():
    """Its agent may have ended, with what starts it again: then nothing but a new join brings it back."""

    class Silent(Api):
        def get(self, path):
            return {"items": []} if path == "/api/v1/nodes" else super().get(path)

    api = Silent(phase="Ready")
    provider = SimpleNamespace(name="namespace", machines=lambda: {"minion-1": SimpleNamespace(power=Power.ON, boot_id="b")})
    with pytest.raises(LabctlError):
        up._machines(lab(api, LABCTL_READY_S="0.2"), provider, 1)
    assert api.machine["status"]["observedBootRequest"]


def test_who_waits_for_a_machine_is_told_that_the_store_takes_no_more(monkeypatch, tmp_path):
    class Full(Api):
        def get(self, path):
            if path == "/readyz/store":
                raise ApiError(500, "Unknown", "internal server error: [-]store failed: reason withheld")
            return super().get(path)

    monkeypatch.setattr(machines, "_LOOK_S", 0.01)
    waiting = lab(Full())
    waiting.paths = SimpleNamespace(state=tmp_path)
    with pytest.raises(LabctlError) as error:
        up._machines(waiting, SimpleNamespace(name="namespace", machines=dict), 1)
    assert error.value.message == f"the master can't write to its store in {tmp_path}"


@pytest.mark.parametrize(("said", "emulated", "expected"), [("", False, 180), ("", True, 600), ("900", True, 900), ("30", False, 30)])
def test_who_says_nothing_waits_longer_for_machines_that_are_emulated(said, emulated, expected):
    provider = SimpleNamespace(emulated=True) if emulated else SimpleNamespace()
    assert up._patience_s(lab(Api(), LABCTL_READY_S=said), provider) == expected


@pytest.mark.parametrize("name", ["namespace", "vagrant"])
def test_the_provider_has_as_much_patience(name, tmp_path):
    def deadline_s(said):
        settings = compose({}, {"LABCTL_READY_S": said}, None, {}).values()
        return make_provider(name, "lab-1", tmp_path, tmp_path, folder=tmp_path, settings=settings)._settings.boot_deadline_s

    assert deadline_s("900") == 900
    assert deadline_s("5") == deadline_s("") < 900, "never less than its own"


@pytest.mark.parametrize(
    ("existing", "count", "listed", "expected"),
    [
        ([], 2, [], [1, 2]),
        ([1, 2], 2, [], [1, 2]),
        ([1], 3, [], [1, 2, 3]),
        ([2], 1, [], [2]),  # the other was destroyed, and nobody asks for more
        ([2], 2, [], [1, 2]),
        ([2, 4], 4, [], [1, 2, 3, 4]),
        ([3, 4], 3, [], [1, 3, 4]),
        ([1, 3], 1, [], [1]),
        ([], 2, [3, 5], [3, 5]),  # a rack's, by their names in lab.yml
        ([5], 2, [3, 5], [3, 5]),
        ([5], 3, [3, 5], [1, 3, 5]),  # the provider says that nobody is called minion-1
        ([4], 1, [3, 5], [4]),
    ],
)
def test_a_lab_keeps_its_machines_and_new_ones_get_the_lowest_free_numbers(existing, count, listed, expected):
    assert up._numbers(existing, count, listed) == expected


def test_a_number_that_is_refused_is_not_kept(tmp_path, monkeypatch):
    class Two(Api):
        def get(self, _path):
            second = {**self.machine, "metadata": {"name": "minion-2"}, "spec": {"number": 2, "power": "On"}}
            return {"items": [self.machine, second]}

    begun = []
    monkeypatch.setattr(up.machines, "wait", lambda _lab, names, *_, **__: begun.append(list(names)))
    monkeypatch.setattr(up, "write_config", lambda *_: None)
    provider, folder = SimpleNamespace(name="namespace", machines=dict), LabFolder(tmp_path, environment={}, minions="1")
    folder.__dict__["api"] = Two(phase="Ready")
    with pytest.raises(UsageError, match="flag --minions: this lab has 2 minions, more than 1"):
        up._machines(folder, provider, 1)
    again = LabFolder(tmp_path, environment={})
    assert (again.settings["minions"], again.settings.source("minions")) == (2, KEPT)
    again.save(minions=1)  # an interrupted command left this
    again.__dict__["api"] = Two(phase="Ready")
    up._machines(again, provider, again.settings["minions"])
    assert begun == [["minion-1", "minion-2"]]


def test_a_lab_without_its_first_machine_goes_on_without_it():
    api = Api(phase="Ready", power="On")
    api.machine = {"metadata": {"name": "minion-2"}, "spec": {"number": 2, "power": "Off"}, "status": {"phase": "Failed", "message": "no"}}
    with pytest.raises(LabctlError, match="minion-2: no"):  # it is minion-2 that is waited for
        up._machines(lab(api), SimpleNamespace(name="namespace", machines=dict), 1)


def test_too_many_machines_are_told_by_name():
    api = Api()
    api.get = lambda _path: {"items": [{"metadata": {"name": f"minion-{n}"}, "spec": {"number": n}, "status": {}} for n in (1, 3, 4)]}
    with pytest.raises(UsageError) as error:
        up._machines(lab(api), SimpleNamespace(name="namespace", machines=dict), 1)
    assert (error.value.message, error.value.mend) == (
        "flag --minions: this lab has 3 minions, more than 1",
        "labctl destroy minion-3 minion-4",
    )


@pytest.mark.parametrize(("restored", "power", "asked"), [(True, "On", False), (True, "Off", True), (False, "On", True)])
def test_a_machine_that_a_restore_has_booted_is_not_asked_to_boot_again(restored, power, asked, monkeypatch):
    """The request cost one more round of the machine's worker, for which `up` waited. One that was off in the snapshot needs it."""
    api = Api(phase="Joining")
    api.machine["spec"]["power"] = power
    monkeypatch.setattr(up.machines, "wait", lambda *_arguments, **_more: None)
    monkeypatch.setattr(up, "write_config", lambda *_arguments: None)
    real = {"minion-1": SimpleNamespace(power=Power.ON, boot_id="b")}
    up._machines(lab(api), SimpleNamespace(name="namespace", machines=lambda: real), 1, restored=restored)
    assert ("observedBootRequest" in api.machine["status"]) is asked
