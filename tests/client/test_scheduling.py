"""What a person reads with the real kubectl of pods that can't be placed, must not be yet, or are asked for wrongly."""

from __future__ import annotations

import json
from typing import Any

from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }


async def test_a_gated_pod_is_shown_as_one_and_let_go_by_a_patch(api: ApiServer) -> None:
    assert await ok(api, "create", "-f", "-", stdin=pod("gated", schedulingGates=[{"name": "example.com/a"}])) == "pod/gated created\n"
    assert (await ok(api, "get", "pod", "gated")).splitlines()[1].split()[:3] == ["gated", "0/1", "SchedulingGated"]
    more = '[{"op":"add","path":"/spec/schedulingGates/-","value":{"name":"example.com/b"}}]'
    said = await refused(api, "patch", "pod", "gated", "--type=json", "-p", more)
    assert "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'example.com/b'" in said
    assert await ok(api, "patch", "pod", "gated", "--type=json", "-p", '[{"op":"remove","path":"/spec/schedulingGates"}]')


async def test_what_a_pod_says_of_its_place_is_taken_without_a_warning_and_refused_when_wrong(api: ApiServer) -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}
    constraint = {**term, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    ran = await api.kubectl("create", "-f", "-", stdin=pod("web", affinity=apart, topologySpreadConstraints=[constraint]))
    assert (ran.code, ran.err) == (0, "")
    wrong = pod("x", topologySpreadConstraints=[constraint | {"maxSkew": 0, "topologyKey": ""}])
    said = await refused(api, "create", "-f", "-", stdin=wrong)
    assert 'The Pod "x" is invalid:' in said
    assert "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero" in said
    assert "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty" in said


async def test_priorities_come_from_classes(api: ApiServer) -> None:
    said = await ok(api, "create", "priorityclass", "important", "--value=1000", "--preemption-policy=Never")
    assert said == "priorityclass.scheduling.k8s.io/important created\n"
    await ok(api, "create", "-f", "-", stdin=pod("p", priorityClassName="important"))
    spec = json.loads(await ok(api, "get", "pod", "p", "-o", "json"))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (1000, "Never")
