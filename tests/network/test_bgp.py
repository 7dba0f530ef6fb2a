"""BIRD's configuration, as the BGP plug-in writes it; BIRD itself judges it where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from labctl.network.bgp import HOLD_S, BgpPlugin
from labctl.network.plugin import Place, Route
from labctl.network.settings import NetworkSettings

PLACES = [Place(f"minion-{n}", f"10.245.1.{10 + n}", f"10.246.{n}.0/24") for n in (1, 2, 3)]
YOUNG = Place("minion-4", "10.245.1.14", "")


def bird(me: Place, *places: Place) -> str:
    return BgpPlugin().plan(me, places, NetworkSettings()).bird


def test_every_minion_speaks_to_every_other_and_announces_its_own_range():
    text = bird(PLACES[0], *PLACES, YOUNG)
    assert re.findall(r"neighbor (\S+) as 64512", text) == ["10.245.1.12", "10.245.1.13"]
    assert re.findall(r"route (\S+) blackhole", text) == ["10.246.1.0/24"]
    assert f"hold time {HOLD_S};" in text


def test_pod_routes_are_birds_affair_alone():
    assert BgpPlugin().plan(PLACES[0], PLACES, NetworkSettings()).routes == (Route("10.247.0.0/16", link=True),)


@pytest.mark.skipif(not shutil.which("bird"), reason="needs BIRD")
@pytest.mark.parametrize("me", [PLACES[0], YOUNG], ids=["with pods", "without a range yet"])
@pytest.mark.parametrize("places", [PLACES[:1], PLACES], ids=["alone", "three"])
def test_bird_understands_it(tmp_path, me, places):
    (tmp_path / "bird.conf").write_text(bird(me, *places))
    done = subprocess.run(["bird", "-p", "-c", str(tmp_path / "bird.conf")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
