"""Absent and empty are the same where Go says so: an update that says the one instead of the other is no change, and breaks no rule."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.resources.bootstrap import BootstrapSettings, ensure_bootstrap
from labctl.resources.kind import Object
from labctl.resources.schema import zeros
from labctl.resources.schema.definitions import Type, builtin_schema
from tests.resources.conftest import Lab, pod
from tests.resources.kinds.test_any_body import BODIES

STRATEGIC = "application/strategic-merge-patch+json"
SCHEMA = builtin_schema()
ZERO: dict[str, Any] = {"string": "", "bytes": "", "int32": 0, "int64": 0, "boolean": False, "list": [], "map": {}, "struct": {}}


async def test_a_pod_may_be_patched_with_what_it_leaves_out(lab: Lab) -> None:
    before = await lab.create("pods", pod())
    name = json.loads(before.entry.value)["spec"]["containers"][0]["name"]
    empties = {"name": name, "resources": {}, "args": [], "workingDir": "", "tty": False}
    patch = {"metadata": {"labels": {}}, "spec": {"hostNetwork": False, "nodeSelector": {}, "containers": [empties]}}
    patched = await lab.patch("pods", "web", patch, type_=STRATEGIC)
    assert patched.entry.revision == before.entry.revision, "nothing changed, so nothing is written"


async def test_what_was_stored_empty_may_be_left_out(lab: Lab) -> None:
    body = pod()
    body["spec"]["containers"][0] |= {"resources": {"limits": {}}, "args": []}
    before = await lab.create("pods", body)
    assert json.loads(before.entry.value)["spec"]["containers"][0]["resources"] == {"limits": {}}
    await lab.update("pods", {**pod(), "metadata": {"name": "web"}})


def test_a_pointers_zero_was_said_on_purpose() -> None:
    type_ = SCHEMA.named("io.k8s.api.core.v1.PodSpec")
    new: Object = {"automountServiceAccountToken": False, "volumes": [{"name": "a", "emptyDir": {}}], "hostIPC": False}
    zeros.keep_zeros(type_, new, {"volumes": [{"name": "a"}]})
    assert new == {"automountServiceAccountToken": False, "volumes": [{"name": "a", "emptyDir": {}}]}


def test_a_maps_value_was_said_on_purpose() -> None:
    new: Object = {"data": {"a": ""}}
    zeros.keep_zeros(SCHEMA.named("io.k8s.api.core.v1.ConfigMap"), new, {"data": {}})
    assert new == {"data": {"a": ""}}


def toggles(type_: Type, obj: Any) -> Iterator[tuple[Object, str, Any]]:
    """(struct, field, zero) wherever a field that may be empty is absent or empty."""
    if isinstance(obj, list):
        for item in obj:
            yield from toggles(type_.item or type_, item)
    elif isinstance(obj, dict) and type_.shape == "map":
        for item in obj.values():
            yield from toggles(type_.item or type_, item)
    elif isinstance(obj, dict) and type_.shape == "struct":
        for name in sorted(zeros._zeros().get(type_.name, ())):
            field = type_.fields.get(name)
            if field is not None and field.shape in ZERO and not obj.get(name):
                yield obj, name, ZERO[field.shape]
        for name, value in obj.items():
            if name in type_.fields:
                yield from toggles(type_.fields[name], value)


@pytest.mark.parametrize("resource", sorted(BODIES))
@settings(max_examples=25)
@given(data=st.data())
def test_empties_come_and_go_in_every_kind(resource: str, data: st.DataObject) -> None:
    async def once() -> None:
        lab = Lab()
        await ensure_bootstrap(lab.client, BootstrapSettings())
        before = await lab.create(resource, BODIES[resource])
        stored = json.loads(before.entry.value)
        kind = lab.kind(resource)
        sent = deepcopy(stored)
        for obj, name, zero in list(toggles(SCHEMA.type_of(kind.group, kind.version, kind.kind), sent)):
            if data.draw(st.booleans()):
                obj[name] = deepcopy(zero)
            else:
                obj.pop(name, None)
        after = await lab.update(resource, sent)
        assert after.entry.revision == before.entry.revision, json.dumps(sent)

    asyncio.run(once())
