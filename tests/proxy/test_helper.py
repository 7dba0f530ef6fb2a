"""The helper's parts that need no machine: what it refuses, its frames, and the digest both sides compute."""

from __future__ import annotations

import io
import json
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.agent.helper import check, main
from labctl.agent.helper.iptables import digest as helpers_digest
from labctl.agent.helper.methods import Methods
from labctl.agent.helper.stamp import NftStamp
from labctl.proxy.chains import NO_RULES, digest, parse
from labctl.proxy.frontends import Backend, Frontend
from labctl.proxy.patch import diff
from labctl.proxy.rules import Facts, rules

WEB = Frontend(
    "default/web", "http", "TCP", "10.247.0.9", 80, (Backend("10.246.1.2", 8080), Backend("10.246.2.2", 8080)), 30080, affinity_s=60
)


@pytest.mark.parametrize("userspace", [False, True])
def test_both_sides_compute_one_digest(userspace):
    made = rules({"default/web": (WEB,)}, Facts("minion-1", "10.245.1.11", userspace=userspace))
    text = diff(made, NO_RULES).text().replace("-I ", "-A ")
    foreign = text.replace(
        "*nat\n", "*nat\n:DOCKER - [0:0]\n-A DOCKER -j RETURN\n-A PREROUTING -j DOCKER\n-A POSTROUTING -j LABCTL-NETWORK\n"
    )
    assert helpers_digest(text) == helpers_digest(foreign) == digest(made) == digest(parse(foreign))
    lines = text.splitlines()
    chain = [n for n, line in enumerate(lines) if line.startswith("-A LABCTL-POSTROUTING")]
    lines[chain[0]], lines[chain[1]] = lines[chain[1]], lines[chain[0]]
    assert helpers_digest("\n".join(lines)) != digest(made), "order counts in a chain of our own"


@pytest.mark.parametrize("userspace", [False, True])
def test_what_the_templates_make_is_accepted(userspace):
    made = rules({"default/web": (WEB,)}, Facts("minion-1", "10.245.1.11", userspace=userspace))
    for patch in (diff(made, NO_RULES), diff(NO_RULES, made)):
        assert check.rules(patch.text()).decode() == patch.text()


@pytest.mark.parametrize(
    "line",
    [
        "-F",
        "*mangle",
        "-A INPUT -j ACCEPT",
        "-P INPUT DROP",
        ":FORWARD DROP [0:0]",
        "-X DOCKER",
        "-A LABCTL-SVC-A -j DNAT `reboot`",
        '-A LABCTL-SVC-A -m comment --comment "\u2028" -j RETURN',
        "-I OUTPUT -j LABCTL-X\r-F",
    ],
)
def test_no_other_line_is(line):
    with pytest.raises(check.Refused):
        check.rules(f"*nat\n{line}\nCOMMIT\n")


@pytest.mark.parametrize("value", ["10.0.0.256", "::1", "10.0.0.1 ", "", None, 7.5, ["10.0.0.1"]])
def test_an_address_is_an_address(value):
    with pytest.raises(check.Refused):
        check.address(value)


@pytest.mark.parametrize("value", [0, 65536, "80", True, 1.0, None])
def test_a_port_is_a_port(value):
    with pytest.raises(check.Refused):
        check.port(value)


@pytest.mark.parametrize("key", ["kernel.hostname", "net.ipv4.conf.../../kernel.x", "net.ipv6.conf.all.forwarding", "net.ipv4.tcp_mem", 5])
def test_only_sysctls_of_the_machines_own_network(key):
    with pytest.raises(check.Refused):
        check.sysctl(key, 1, "eth0")


def test_a_sysctl_of_the_labs_link():
    assert check.sysctl("net.ipv4.conf.LINK.send_redirects", 0, "eth0") == ("/proc/sys/net/ipv4/conf/eth0/send_redirects", "0")


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 50), min_size=1))
def test_frames_come_whole_however_they_are_cut(bodies, cuts):
    read, write = os.pipe()
    try:
        stream = io.BytesIO(b"".join(struct.pack(">I", len(body)) + body for body in bodies))
        frames, found, place = main.Frames(read), [], 0
        while part := stream.read(cuts[place % len(cuts)]):
            place += 1
            os.write(write, part)
            while (body := frames.next(0)) is not None:
                found.append(body)
        assert found == bodies
        os.close(write)
        write = -1
        with pytest.raises(EOFError):
            frames.next(0)
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)


def test_a_no_is_an_answer_and_never_ends_the_helper():
    methods = Methods("/nowhere")
    for request, said in (
        ({"id": 1, "method": "explode"}, "no method 'explode'"),
        ({"id": 2, "method": "apply", "params": {"rules": "-F\n", "commits": 1}}, "no rule of labctl's"),
        ({"id": 3, "method": "apply", "params": {}}, "'rules'"),
        ({"id": 4, "method": "conntrack", "params": {"udp": "all"}}, "bounded list"),
        ({"id": 5, "method": "facts", "params": {"flavour": "; reboot"}}, "none of auto"),
    ):
        answer = main.answer(methods, json.dumps(request).encode())
        assert answer["id"] == request["id"] and said in answer["error"]


def test_the_generation_after_our_commits_is_foreseen():
    assert NftStamp.after((7,), 2) == (9,)
    assert NftStamp.after((0xFFFFFFFF,), 1) == (0,)
