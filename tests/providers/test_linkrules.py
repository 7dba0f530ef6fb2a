"""Rules of a link as a script: what is in it, what the real programs take, and what a kill between file and script leaves behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.errors import ProviderError
from labctl.providers import linkrules
from labctl.providers.protocol import LinkRule

DEVICE = "m1-abcdef"
REAL = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
PEER = ("10.245.1.12", "10.246.2.0/24")


def test_rules_for_the_same_packets_act_together() -> None:
    rules = {
        "a": LinkRule("delay", "in", PEER, delay_s=0.05),
        "b": LinkRule("rate", "in", rate_bits=1e6),
        "c": LinkRule("delay", "in", delay_s=0.01),
    }
    text = linkrules.script(DEVICE, rules)
    assert "parent 1:1 handle 11: tbf rate 1000000bit" in text and "parent 11:1 handle 1001: netem delay 60000us" in text, (
        "to the peer: all three"
    )
    assert "parent 1:2 handle 12: tbf rate 1000000bit" in text and "parent 12:1 handle 1002: netem delay 10000us" in text, "to others: two"
    assert text.index("match ip src 10.245.1.12") < text.index("match u32 0 0"), "the peer's class is asked first"
    assert "ifb" not in text.split("tc qdisc replace")[1], "nothing is done to what the machine sends"


def test_without_rules_everything_of_ours_is_taken_off() -> None:
    text = linkrules.script(DEVICE, {})
    assert " add " not in text and f"nft delete table netdev labctl-{DEVICE}" in text


def test_duplicates_of_several_rules_are_of_the_packets_that_are_left() -> None:
    rules = {"a": LinkRule("duplicate", "in", share=0.5), "b": LinkRule("duplicate", "in", share=0.5)}
    assert "duplicate 75.0000%" in linkrules.script(DEVICE, rules)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("+ tc qdisc add dev p parent 1:1 netem delay 1us\nError: Specified qdisc kind is unknown.", "this host's kernel has no netem"),
        ("+ nft -f -\nsh: 3: nft: not found", "nft is not installed on this host"),
        ("+ ip link add a\nRTNETLINK answers: Operation not permitted", "`ip link add a` says: RTNETLINK answers: Operation not permitted"),
        ("", "`sh` says: it failed"),
    ],
)
def test_a_refusal_says_what_the_host_lacks(said: str, error: str) -> None:
    assert error in str(linkrules._explained(said))


@pytest.fixture
def namespace() -> Iterator[list[str]]:
    """A network namespace with a link, as the command that enters it."""
    holder = subprocess.Popen(["unshare", "--net", "--", "sh", "-c", "echo ready; exec sleep 60"], stdout=subprocess.PIPE, text=True)
    inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"]
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "ready\n"
        subprocess.run([*inside, "ip", "link", "add", DEVICE, "type", "veth", "peer", "name", "other"], check=True)
        yield inside
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def state(inside: list[str]) -> str:
    look = "nft list ruleset; tc qdisc show | sed -E 's/ [0-9a-f]+: (dev|root)/ N: \\1/'; ip -o link | sed 's/ qlen.*//'"
    return subprocess.run([*inside, "sh", "-c", look], capture_output=True, text=True, check=True).stdout


@REAL
@pytest.mark.root
@pytest.mark.parametrize("rule", [
    LinkRule("loss", share=1.0), LinkRule("loss", share=0.000001), LinkRule("loss", "out", PEER, share=0.5), LinkRule("cut", "in"),
    LinkRule("rate", rate_bits=1000), LinkRule("rate", "out", PEER, rate_bits=100e9),
])  # fmt: skip
def test_the_real_programs_take_the_ends_of_each_range(namespace: list[str], tmp_path: Path, rule: LinkRule) -> None:
    assert linkrules.try_out({"probe": rule}) == ""
    before = state(namespace)
    linkrules.change(tmp_path, "boot-1", DEVICE, namespace, "a", rule)
    assert state(namespace) != before
    linkrules.change(tmp_path, "boot-1", DEVICE, namespace, "a", None)
    assert state(namespace) == before
    assert not list(tmp_path.iterdir())


@REAL
@pytest.mark.root
def test_a_discipline_that_somebody_set_before_is_there_afterwards(namespace: list[str], tmp_path: Path) -> None:
    """libvirt sets one on each machine's tap."""
    subprocess.run([*namespace, "tc", "qdisc", "add", "dev", DEVICE, "root", "noqueue"], check=True)
    before = state(namespace)
    for direction in ("in", "both"):
        linkrules.change(tmp_path, "boot-1", DEVICE, namespace, direction, LinkRule("rate", direction, rate_bits=1e6))
        assert "tbf" in state(namespace)
    linkrules.change(tmp_path, "boot-1", DEVICE, namespace, "in", None)
    linkrules.change(tmp_path, "boot-1", DEVICE, namespace, "both", None)
    assert state(namespace) == before


@REAL
@pytest.mark.root
def test_a_kill_between_the_file_and_the_link_is_made_good(namespace: list[str], tmp_path: Path) -> None:
    before = state(namespace)
    linkrules._write(tmp_path, linkrules.Kept("boot-1", DEVICE, {"a": LinkRule("loss", share=0.5)}))  # and then it was killed
    linkrules.change(tmp_path, "boot-1", DEVICE, namespace, "b", LinkRule("rate", rate_bits=1e6))
    assert "numgen" in state(namespace) and "tbf" in state(namespace)
    linkrules.change(tmp_path, "boot-1", DEVICE, namespace, "a", None)
    assert "numgen" not in state(namespace)
    linkrules.clear(tmp_path, namespace)
    assert state(namespace) == before


@REAL
@pytest.mark.root
def test_another_boot_has_another_link_without_rules(namespace: list[str], tmp_path: Path) -> None:
    linkrules.change(tmp_path, "boot-1", DEVICE, namespace, "a", LinkRule("loss", share=0.5))
    linkrules.change(tmp_path, "boot-2", DEVICE, namespace, "b", LinkRule("cut", "in"))
    kept = linkrules.read(tmp_path)
    assert kept is not None and list(kept.rules) == ["b"]


@REAL
@pytest.mark.root
def test_what_the_programs_refuse_is_an_error(namespace: list[str], tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="this host can't do it"):
        linkrules.change(tmp_path, "boot-1", "nothing", namespace, "a", LinkRule("rate", rate_bits=1e6))
