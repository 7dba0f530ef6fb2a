"""`machines:` of lab.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labctl.errors import UsageError
from labctl.lab.settings import compose


def settle(folder: Path, text: str, **environment: str) -> Any:
    (folder / "lab.yml").write_text(text)
    return compose({}, environment, folder / "lab.yml", {})


def test_an_address_is_enough_where_there_is_a_usual_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_rsa").touch()
    (only,) = settle(tmp_path, "machines: [{address: 192.168.1.21}]")["machines"]
    assert only == {
        "name": "minion-1",
        "address": "192.168.1.21",
        "port": 22,
        "user": "root",
        "key": f"{tmp_path}/.ssh/id_rsa",
        "host_key": "",
        "sudo": False,
    }


def test_machines_are_numbered_in_order_around_those_that_have_a_name(tmp_path: Path) -> None:
    text = (
        "machines: [{address: a, key: k}, {address: b, key: k, name: minion-1}, {address: c, key: k, name: minion-9}, {address: d, key: k}]"
    )
    named = [(machine["name"], machine["address"]) for machine in settle(tmp_path, text)["machines"]]
    assert named == [("minion-1", "b"), ("minion-2", "a"), ("minion-3", "d"), ("minion-9", "c")]


def test_a_relative_key_is_beside_lab_yml_and_a_user_has_sudo(tmp_path: Path) -> None:
    (only,) = settle(tmp_path, "machines: [{address: pi.local, user: pi, key: keys/pi}]")["machines"]
    assert (only["key"], only["sudo"]) == (f"{tmp_path}/keys/pi", True)


def test_there_are_as_many_minions_as_machines_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    text = "machines: [{address: a, key: k}, {address: b, key: k}, {address: c, key: k}]"
    assert settle(tmp_path, text)["minions"] == 3
    assert settle(tmp_path, text, NUM_MINIONS="1")["minions"] == 1


@pytest.mark.parametrize(
    ("machines", "mend"),
    [
        ("[10.0.0.1]", "write a list of machines"),
        ("[{user: pi, key: k}]", "machine 1: address: write the address"),
        ("[{address: a, key: k}, {address: -oProxyCommand=x, key: k}]", "machine 2: address: write an IPv4 address or a host's name"),
        ("[{address: a, key: k, user: -l}]", "machine 1: user: write a user's name"),
        ("[{address: a, key: k, name: web}]", "machine 1: name: write minion-1 to minion-200"),
        ("[{address: a, key: k, port: 0}]", "machine 1: port: write a port"),
        ("[{address: a, key: k, host_key: x}]", "machine 1: host_key: write it as in its ssh_host_ed25519_key.pub"),
        ("[{address: a, key: k, password: x}]", "machine 1: there is no 'password'"),
        ("[{address: a, key: k, user: pi, sudo: false}]", "machine 1: sudo is needed for every user but root"),
        ("[{address: a, key: k}, {address: a, key: k}]", "a is there twice"),
        ("[{address: a, key: k, name: minion-3}, {address: b, key: k, name: minion-3}]", "minion-3 is there twice"),
    ],
)
def test_what_is_wrong_is_said_with_the_machine_and_the_mend(tmp_path: Path, machines: str, mend: str) -> None:
    with pytest.raises(UsageError) as refused:
        settle(tmp_path, f"machines: {machines}")
    assert refused.value.message.startswith("lab.yml line 1: machines can't be")
    assert mend in refused.value.mend
