"""A spec that was found faultless before is not looked at again; everything else about its object is."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from labctl.errors import ApiError
from labctl.resources.service import User, WriteOptions
from labctl.resources.verbs import known
from tests.resources.conftest import Lab

PERSON = WriteOptions(User("somebody", ("system:masters",)))


def pod(name: str, **spec: object) -> bytes:
    return msgspec.json.encode({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "nginx"}], **spec}})


async def create(lab: Lab, body: bytes, options: WriteOptions = PERSON) -> tuple[dict[str, Any], list[str]]:
    written = await lab.resources.create(lab.kind("pods"), "default", body, options)
    return msgspec.json.decode(written.entry.value), list(written.warnings)


async def test_pods_of_one_template_are_the_same_but_for_what_is_their_own(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    rules = known.KnownSpecs.remember
    monkeypatch.setattr(
        known.KnownSpecs, "remember", lambda self, kind, one, obj: (looked.append(one.complete), rules(self, kind, one, obj))[1]
    )
    first, second = [(await create(lab, pod(name)))[0] for name in ("a", "b")]
    assert looked[0] == b"" and looked[1]
    assert first["spec"] == second["spec"] and first["spec"]["dnsPolicy"] == "ClusterFirst"
    assert first["status"] == second["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert first["metadata"]["uid"] != second["metadata"]["uid"]


async def test_names_and_labels_are_checked_each_time(lab: Lab) -> None:
    await create(lab, pod("a"))
    with pytest.raises(ApiError, match="metadata.name"):
        await create(lab, pod("-b"))
    body = msgspec.json.decode(pod("c"))
    body["metadata"]["labels"] = {"a": "not a value!"}
    with pytest.raises(ApiError, match="metadata.labels"):
        await create(lab, msgspec.json.encode(body))


async def test_what_is_invalid_stays_invalid(lab: Lab) -> None:
    for name in ("a", "b", "c"):
        with pytest.raises(ApiError, match="spec.restartPolicy: Unsupported value"):
            await create(lab, pod(name, restartPolicy="Sometimes"))


async def test_people_are_warned_each_time_whoever_came_first(lab: Lab) -> None:
    agent = WriteOptions(User("system:kube-controller-manager"))
    for name, options, told in (("a", agent, 0), ("b", PERSON, 1), ("c", PERSON, 1), ("d", agent, 0)):
        _, warnings = await create(lab, pod(name, containers=[{"name": "c", "image": "i", "env": [{"name": "A"}, {"name": "A"}]}]), options)
        assert len(warnings) == told


async def test_what_brings_labels_into_a_spec_is_done_each_time(lab: Lab) -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}, "matchLabelKeys": ["app"]}
    for app in ("one", "two"):
        body = msgspec.json.decode(pod(app, topologySpreadConstraints=[spread]))
        body["metadata"]["labels"] = {"app": app}
        made, _ = await create(lab, msgspec.json.encode(body))
        said = made["spec"]["topologySpreadConstraints"][0]["labelSelector"]
        assert said["matchExpressions"] == [{"key": "app", "operator": "In", "values": [app]}]


async def test_it_is_bounded(lab: Lab) -> None:
    await asyncio.gather(*(create(lab, pod(f"a{n}", nodeSelector={"n": str(n)})) for n in range(300)))
    await create(lab, pod("big", containers=[{"name": "c", "image": "i", "args": ["x" * 10_000]}]))
    specs = lab.resources._ctx.known._specs
    assert 0 < len(specs) <= 256 and all(len(one.complete) < 10_000 for one in specs.values())
