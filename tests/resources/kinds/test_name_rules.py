"""What of a pod goes into its files of names is checked with Kubernetes' rules: a line break would add lines of somebody's choice."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.resources.kinds.core_v1 import name_rules

GOOD: list[dict[str, Any]] = [
    {},
    {"hostAliases": [{"ip": "10.1.2.3", "hostnames": ["a.example", "b"]}, {"ip": "fd00::1"}]},
    {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": [".", "_sip._tcp.example.", "ns.svc"]}},
    {"dnsConfig": {"options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}},
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"hostAliases": [{"ip": "1.2.3.4\n6.6.6.6 x"}]}, "hostAliases[0].ip"),
    ({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b\nc"]}]}, "hostAliases[0].hostnames[1]"),
    ({"dnsConfig": {"nameservers": ["1.1.1.1\nx"]}}, "dnsConfig.nameservers[0]"),
    ({"dnsConfig": {"nameservers": ["1.1.1.1"] * 4}}, "dnsConfig.nameservers"),
    ({"dnsPolicy": "None"}, "dnsConfig"),
    ({"dnsPolicy": "None", "dnsConfig": {"searches": ["a"]}}, "dnsConfig.nameservers"),
    ({"dnsConfig": {"searches": ["a\nnameserver 6.6.6.6"]}}, "dnsConfig.searches[0]"),
    ({"dnsConfig": {"searches": ["a"] * 33}}, "dnsConfig.searches"),
    ({"dnsConfig": {"searches": ["a" * 200] * 11}}, "dnsConfig.searches"),
    ({"dnsConfig": {"options": [{"value": "x"}]}}, "dnsConfig.options[0]"),
    ({"dnsConfig": {"options": [{"name": "a", "value": "x\ny"}]}}, "dnsConfig.options[0].value"),
    ({"dnsConfig": {"options": [{"name": "a b"}]}}, "dnsConfig.options[0].name"),
]


def wrong(spec: dict[str, Any]) -> list[str]:
    return [error.field for error in (*name_rules.host_aliases("hostAliases", spec), *name_rules.dns_config("dnsConfig", spec))]


@pytest.mark.parametrize("spec", GOOD)
def test_good(spec: dict[str, Any]) -> None:
    assert wrong(spec) == []


@pytest.mark.parametrize(("spec", "where"), BAD)
def test_bad(spec: dict[str, Any], where: str) -> None:
    assert wrong(spec) == [where]
