"""Settings: the order of sources, and one clear line for each thing that can be written wrongly."""

import os
from pathlib import Path

import pytest

from labctl.errors import UsageError
from labctl.lab.settings import OPTIONS, compose, homes, size


def settled(tmp_path, text="", flags=None, environment=None, kept=None):
    file = tmp_path / "lab.yml"
    file.write_text(text)
    return compose(flags or {}, environment or {}, file, kept or {})


def test_a_flag_beats_the_environment_beats_the_file_beats_what_was_kept(tmp_path):
    layers = {"flags": {"minions": "4"}, "environment": {"NUM_MINIONS": "3"}, "text": "minions: 2\n", "kept": {"minions": 1}}
    for expected, source in (
        (4, "flag --minions"),
        (3, "environment NUM_MINIONS"),
        (2, "lab.yml line 1"),
        (1, "kept since this lab was made"),
    ):
        settings = settled(tmp_path, **layers)
        assert (settings["minions"], settings.source("minions")) == (expected, source)
        layers.pop({"flag": "flags", "envi": "environment", "lab.": "text", "kept": "kept"}[source[:4]])
    assert (settled(tmp_path)["minions"], settled(tmp_path).source("minions")) == (2, "default")


def test_groups_nest_in_the_file(tmp_path):
    settings = settled(
        tmp_path, "nodes:\n  grace_s: 4\naddresses:\n  services: 10.9.0.0/16\nmirrors:\n  docker.io: http://127.0.0.1:5000\n"
    )
    assert settings["nodes.grace_s"] == 4.0 and settings.source("nodes.grace_s") == "lab.yml line 2"
    assert settings["addresses.services"] == "10.9.0.0/16"
    assert settings["mirrors"] == {"docker.io": ["http://127.0.0.1:5000"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("minion: 2\n", "lab.yml line 1: unknown setting `minion`: did you mean `minions`?"),
        ("memory: 1G\nnodes:\n  lease: 3\n", "lab.yml line 3: unknown setting `nodes.lease`: did you mean `nodes.lease_s`?"),
        ("minions: many\n", "lab.yml line 1: minions can't be 'many': write a whole number from 0 to 200"),
        ("minions: -1\n", "lab.yml line 1: minions can't be '-1': write a whole number from 0 to 200"),
        ("memory: lots\n", "lab.yml line 1: memory can't be 'lots': write a size such as 1G or 512M"),
        ("memory: 1M\n", "lab.yml line 1: memory can't be '1M': a minion needs at least 128M"),
        ("cpus: 0\n", "lab.yml line 1: cpus can't be '0': write a number of CPUs from 0.1 to 64"),
        ("network: carrier-pigeon\n", "lab.yml line 1: network can't be 'carrier-pigeon': write one of route, vxlan, ovs, bgp"),
        (
            "addresses:\n  pods: 10.1.2.3/16\n",
            "lab.yml line 2: addresses.pods can't be '10.1.2.3/16': write an IPv4 range such as 10.247.0.0/16",
        ),
        ("memory: 99999999T\n", "lab.yml line 1: memory can't be '99999999T': a minion can't have more than 16T"),
        (f"memory: {'9' * 400}T\n", "lab.yml line 1: memory can't be '9999"),
        ("nodes:\n  grace_s: .nan\n", "lab.yml line 2: nodes.grace_s can't be 'nan': write a number of seconds"),
        ("nodes: {grace_s: .inf}\n", "lab.yml line 1: nodes.grace_s can't be 'inf': write a number of seconds"),
        ("minions: 2\ncpus: 1\nminions: 3\n", "lab.yml line 3: `minions` stands in lab.yml line 1 already: remove one of them"),
        ("- a\n- b\n", "lab.yml line 1: write settings as `name: value`"),
        ("a: [1\n", "lab.yml line 2: this is no YAML"),
    ],
)
def test_what_is_wrong_where_and_the_mend(tmp_path, text, said):
    with pytest.raises(UsageError) as error:
        settled(tmp_path, text)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    "text",
    [
        "minions: " + "[" * 5000,
        "- " * 5000,
        "minions: \0",
        "minions: !!int ''",
        "minions: !!bool x",
        "minions: !!timestamp x",
        "minions: 1" + ":59" * 300_000,
        "minions: " + "9" * 900_000,
        "&a {minions: *a}",
        "minions: " + "x" * 900_000,
        "x" * 900_000 + ": 1",
        "[a]: 1",
        "minions: 1\n---\nminions: 2\n",
        "minions: 1\n" + "#" * (1 << 20),
    ],
)
def test_a_hostile_file_is_one_line(tmp_path, text):
    with pytest.raises(UsageError) as error:
        settled(tmp_path, text)
    assert "lab.yml" in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 600


def test_a_wrong_flag_and_a_wrong_variable_are_named(tmp_path):
    with pytest.raises(UsageError, match="^flag --proxy-mode: proxy_mode can't be 'x': write one of iptables, userspace$"):
        settled(tmp_path, flags={"proxy_mode": "x"})
    with pytest.raises(UsageError, match="^environment MINION_CPUS: "):
        settled(tmp_path, environment={"MINION_CPUS": "zero"})


@pytest.mark.parametrize(
    ("text", "value"), [("1G", 1 << 30), ("512M", 512 << 20), ("1Gi", 1 << 30), ("2048MB", 2 << 30), ("1.5g", 3 << 29)]
)
def test_sizes(text, value):
    assert size(text) == value


def test_every_default_would_be_accepted_as_written():
    for option in OPTIONS:
        if option.default not in ("", {}):
            assert option.parse(option.default) == option.default, option.name


def test_homes_follow_the_environment():
    state, cache = homes({"LABCTL_STATE_HOME": "/a", "LABCTL_CACHE_HOME": "/b", "HOME": "/h"})
    assert (str(state), str(cache)) == ("/a", "/b")
    assert homes({"LABCTL_STATE_HOME": "a", "LABCTL_CACHE_HOME": "../b"}) == (Path.cwd() / "a", Path.cwd() / "../b")
    nothing_said = homes({"HOME": "/h"})
    assert (
        homes({"HOME": "/h", "LABCTL_STATE_HOME": "", "LABCTL_CACHE_HOME": "", "XDG_STATE_HOME": "x", "XDG_CACHE_HOME": ""}) == nothing_said
    )


def test_homes_of_a_user_follow_xdg(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert homes({"HOME": "/h"}) == (Path("/h/.local/state/labctl"), Path("/h/.cache/labctl"))
    assert homes({"HOME": "/h", "XDG_STATE_HOME": "/x", "XDG_CACHE_HOME": "no"}) == (Path("/x/labctl"), Path("/h/.cache/labctl"))


def test_the_timing_brings_its_seconds_and_what_is_said_beside_it_counts_more(tmp_path):
    plain = settled(tmp_path)
    assert (plain["timing"], plain["nodes.grace_s"], plain["nodes.evict_s"]) == ("kubernetes", 40.0, 300.0)
    lab = settled(tmp_path, flags={"timing": "lab"})
    assert (lab["nodes.lease_s"], lab["nodes.grace_s"], lab["nodes.evict_s"]) == (0.5, 2.0, 0.0)
    assert lab.source("nodes.grace_s") == "timing lab"
    mixed = settled(tmp_path, flags={"timing": "lab"}, text="nodes: {evict_s: 7}\n")
    assert (mixed["nodes.grace_s"], mixed["nodes.evict_s"]) == (2.0, 7.0)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_lab_yml_that_is_no_file_is_not_waited_for(tmp_path, make):
    make(tmp_path / "lab.yml")
    with pytest.raises(UsageError, match=r"lab\.yml is no file"):
        compose({}, {}, tmp_path / "lab.yml", {})
