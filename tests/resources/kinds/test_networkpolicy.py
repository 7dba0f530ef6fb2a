"""NetworkPolicy: what is filled in, and what is refused, in a real server's words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.resources.conftest import Lab

POLICIES = "networkpolicies.networking.k8s.io"


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"podSelector": {}, **spec}}


def ports(*ports: dict[str, Any]) -> dict[str, Any]:
    return policy(ingress=[{"ports": list(ports)}])


def source(**peer: Any) -> dict[str, Any]:
    return policy(ingress=[{"from": [peer]}])


async def test_what_is_filled_in(lab: Lab) -> None:
    await lab.create(POLICIES, policy(egress=[{"ports": [{"port": 53}]}]))
    made: Any = lab.get(POLICIES, "web")
    assert made["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert made["spec"]["egress"][0]["ports"] == [{"port": 53, "protocol": "TCP"}]
    await lab.create(POLICIES, policy() | {"metadata": {"name": "closed"}})
    closed: Any = lab.get(POLICIES, "closed")
    assert closed["spec"]["policyTypes"] == ["Ingress"]


async def test_a_port_of_sctp_is_stored_with_a_warning(lab: Lab) -> None:
    made = await lab.create(POLICIES, ports({"port": 80, "protocol": "SCTP"}, {"port": 81}))
    assert [each for each in made.warnings if "SCTP" in each] == [
        "spec.ingress[0].ports[0].protocol: labctl's rules let only TCP and UDP through, so SCTP stays closed to the selected pods"
    ]


FROM = "spec.ingress[0].from[0]"
PORTS = "spec.ingress[0].ports[0]"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (source(), f"{FROM}: Required value: must specify a peer"),
        (source(podSelector={}, ipBlock={"cidr": "10.0.0.0/8"}), f"{FROM}: Forbidden: may not specify both ipBlock and another peer"),
        (source(ipBlock={"cidr": ""}), f"{FROM}.ipBlock.cidr: Required value"),
        (
            source(ipBlock={"cidr": "10.0.0.0/8", "except": ["11.0.0.0/24"]}),
            f'{FROM}.ipBlock.except[0]: Invalid value: "11.0.0.0/24": must be a strict subset of `cidr`',
        ),
        (ports({"port": 80, "protocol": "ICMP"}), f'{PORTS}.protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"'),
        (ports({"port": 0}), f"{PORTS}.port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        (ports({"endPort": 80}), f"{PORTS}.endPort: Invalid value: 80: may not be specified when `port` is not specified"),
        (ports({"port": "web", "endPort": 80}), f"{PORTS}.endPort: Invalid value: 80: may not be specified when `port` is non-numeric"),
        (ports({"port": 81, "endPort": 80}), f"{PORTS}.endPort: Invalid value: 80: must be greater than or equal to `port`"),
        (policy(policyTypes=["Both"]), 'spec.policyTypes[0]: Unsupported value: "Both": supported values: "Egress", "Ingress"'),
    ],
)
async def test_refused(lab: Lab, body: dict[str, Any], words: str) -> None:
    error = await lab.refused(POLICIES, body)
    assert (error.code, error.message) == (422, f'NetworkPolicy.networking.k8s.io "web" is invalid: {words}')


@pytest.mark.parametrize(
    "rule",
    [
        {"from": [{"ipBlock": {"cidr": f"10.0.{number}.0/24"}} for number in range(200)], "ports": [{"port": n + 1} for n in range(100)]},
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": [f"10.{n // 250}.{n % 250}.7/32" for n in range(1_000)]}}]},
    ],
)
async def test_a_policy_of_too_many_lines_is_refused(lab: Lab, rule: dict[str, Any]) -> None:
    error = await lab.refused(POLICIES, policy(ingress=[rule]))
    assert "lines of a minion's rules, 10000 are allowed" in error.message
