"""Pods that NetworkPolicies select wait, from the write that gives them their node, for the rules of that node."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.resources.service import SYSTEM, WriteOptions
from tests.resources.conftest import Lab, pod
from tests.resources.verbs.test_subresources import binding, post

POLICIES = "networkpolicies.networking.k8s.io"
MINE = {"matchLabels": {"app": "mine"}}


async def policy(lab: Lab, selector: dict[str, Any], namespace: str = "default") -> None:
    made = {"metadata": {"name": "p", "namespace": namespace}, "spec": {"podSelector": selector}}
    await lab.client.create(POLICIES, made)


def said(lab: Lab, name: str = "web") -> list[tuple[str, str]]:
    found = lab.get("pods", name)
    assert found
    return [(each["type"], each["status"]) for each in found["status"].get("conditions", ())]


def labelled(app: str, **spec: Any) -> dict[str, Any]:
    made = pod()
    return {**made, "metadata": {"name": "web", "labels": {"app": app}}, "spec": {**made["spec"], **spec}}


@pytest.mark.parametrize("selector", [{}, MINE])
@pytest.mark.parametrize("node", ["", "minion-1"])
async def test_a_selected_pod_waits_for_its_rules(lab: Lab, selector: dict[str, Any], node: str) -> None:
    await policy(lab, selector)
    await lab.create("pods", labelled("mine", **({"nodeName": node} if node else {})))
    if not node:
        assert said(lab) == []
        await post(lab, "web", "binding", binding())
    assert ("labctl.internal/NetworkReady", "False") in said(lab)


@pytest.mark.parametrize(
    "made", [labelled("other"), labelled("mine", hostNetwork=True), labelled("other", nodeName="minion-1")], ids=["other", "host", "placed"]
)
async def test_any_other_pod_waits_for_nobody(lab: Lab, made: dict[str, Any]) -> None:
    await policy(lab, MINE)
    await lab.create("pods", made)
    if "nodeName" not in made["spec"]:
        await post(lab, "web", "binding", binding())
    assert "labctl.internal/NetworkReady" not in dict(said(lab))


async def test_a_policy_of_another_namespace_selects_no_pod_of_this_one(lab: Lab) -> None:
    await lab.create("namespaces", {"metadata": {"name": "else"}})
    await policy(lab, {}, "else")
    await lab.create("pods", labelled("mine"))
    await post(lab, "web", "binding", binding())
    assert "labctl.internal/NetworkReady" not in dict(said(lab))


async def test_labels_that_the_binding_brings_are_looked_at(lab: Lab) -> None:
    await policy(lab, MINE)
    await lab.create("pods", pod())
    given = {**binding(), "metadata": {"name": "web", "labels": {"app": "mine"}}}
    await lab.resources.create(lab.kind("pods"), "default", given, WriteOptions(user=SYSTEM), "web", "binding")
    assert ("labctl.internal/NetworkReady", "False") in said(lab)
