"""Objects inside of custom objects, with the real kubectl: what a template of another object may say of itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_custom_kinds import definition, until
from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer

TEMPLATE = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
RULE = {"rule": "self.template.kind != 'Secret'", "message": "no secrets"}
SPEC = {
    "type": "object",
    "properties": {"template": TEMPLATE, "day": {"type": "string", "format": "date"}},
    "x-kubernetes-validations": [RULE],
}


def widget(**template: Any) -> dict[str, Any]:
    head = {"apiVersion": "v1", "kind": "ConfigMap"}
    spec = {"template": {**head, **template}}
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC}}}
        made = definition(schema=schema, subresources={}, selectableFields=[], additionalPrinterColumns=[])
        await ok(running, "create", "-f", "-", stdin=made)
        await ok(running, "wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=5s")
        yield running


async def test_a_template_is_kept_with_the_metadata_that_an_object_may_have(api: ApiServer) -> None:
    template = widget(metadata={"name": "one", "labels": {}, "colour": "red"}, data={"a": "b"})
    said = await refused(api, "create", "-f", "-", stdin=template)
    assert 'strict decoding error: unknown field "spec.template.metadata.colour"' in said
    ran = await api.kubectl("create", "--validate=warn", "-f", "-", stdin=template)
    assert ran.code == 0 and 'unknown field "spec.template.metadata.colour"' in ran.err
    stored = json.loads(await ok(api, "get", "widget", "w", "-o", "json"))
    assert stored["spec"]["template"] == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "b"}}


async def test_a_template_that_is_no_object_is_refused(api: ApiServer) -> None:
    labels = 'spec.template.metadata: Invalid value: {"labels":{"a":1}}: json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string'
    said = await refused(api, "create", "-f", "-", stdin=widget(metadata={"labels": {"a": 1}}))
    assert f'Widget in version "v1" cannot be handled as a Widget: {labels}' in said
    assert 'spec.template.kind: Invalid value: "": must not be empty' in await refused(api, "create", "-f", "-", stdin=widget(kind=""))
    await ok(api, "create", "-f", "-", stdin=widget())
    said = await refused(api, "patch", "widget", "w", "--type=merge", "-p", '{"spec":{"template":{"metadata":{"labels":{"a":1}}}}}')
    assert "patch: Invalid value: " in said and labels in said
    said = await refused(api, "patch", "widget", "w", "--type=merge", "-p", '{"metadata":{"labels":{"a":1}}}')
    assert "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string" in said


async def test_rules_are_asked_only_of_what_has_the_right_types(api: ApiServer) -> None:
    """A format counts as a type. What else is wrong with a value hides no rule."""
    secret = widget(kind="Secret", metadata={"name": "a/b"})
    said = await refused(api, "create", "-f", "-", stdin=secret)
    assert "spec.template.metadata.name: Invalid value" in said and "no secrets" in said
    secret["spec"]["day"] = "yesterday"
    said = await refused(api, "create", "-f", "-", stdin=secret)
    assert 'spec.day: Invalid value: "yesterday": spec.day in body must be of type date: "yesterday"' in said
    assert "some validation rules were not checked because the object was invalid" in said and "no secrets" not in said


async def test_what_was_twice_there_before_may_stay(api: ApiServer) -> None:
    """A list that becomes a set is judged when the update makes the trouble."""
    names: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    whole = definition("gadgets", "Gadget", subresources={}, selectableFields=[], additionalPrinterColumns=[])

    def said() -> dict[str, Any]:
        whole["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"names": names}}}
        return whole

    await ok(api, "create", "-f", "-", stdin=said())
    await ok(api, "wait", "--for=condition=Established", "crd/gadgets.example.com", "--timeout=5s")
    gadget = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g"}, "names": ["a", "a"]}
    await ok(api, "create", "-f", "-", stdin=gadget)
    names |= {"x-kubernetes-list-type": "set"}
    await ok(api, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=said())
    await until(lambda: api.resources.registry["gadgets.example.com"].validate(gadget, None))
    await ok(api, "patch", "gadget", "g", "--type=merge", "-p", '{"names":["a","a","b"]}')
    await ok(api, "patch", "gadget", "g", "--type=merge", "-p", '{"names":["a"]}')
    assert 'names[1]: Duplicate value: "a"' in await refused(api, "patch", "gadget", "g", "--type=merge", "-p", '{"names":["a","a"]}')


async def test_the_head_of_a_template_is_known_to_explain_and_to_server_side_apply(api: ApiServer) -> None:
    """Also where nothing else is kept that the schema does not name."""
    template = {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"data": {"type": "string"}}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"template": template}}}
    made = definition("gadgets", "Gadget", schema=schema, subresources={}, selectableFields=[], additionalPrinterColumns=[])
    await ok(api, "create", "-f", "-", stdin=made)
    await ok(api, "wait", "--for=condition=Established", "crd/gadgets.example.com", "--timeout=5s")
    said = await ok(api, "explain", "gadget.template")
    assert "apiVersion\t<string>" in said and "metadata\t<ObjectMeta>" in said and "data\t<string>" in said
    head = {"apiVersion": "v1", "kind": "ConfigMap"}
    gadget: dict[str, Any] = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g"}}
    for manager, labels in (("one", {"a": "b"}), ("two", {"c": "d"})):
        gadget["template"] = {**head, "metadata": {"labels": labels}}
        await ok(api, "apply", "--server-side", f"--field-manager={manager}", "-f", "-", stdin=gadget)
    assert await ok(api, "get", "gadget", "g", "-o", "jsonpath={.template.metadata}") == '{"labels":{"a":"b","c":"d"}}'
    gadget["template"] = {**head, "metadata": {"labels": {"a": "e"}}}
    said = await refused(api, "apply", "--server-side", "--field-manager=two", "-f", "-", stdin=gadget)
    assert 'conflict with "one": .template.metadata.labels.a' in said
    gadget["template"] = {**head, "metadata": {"colour": "red"}}
    said = await refused(api, "apply", "--server-side", "--field-manager=two", "-f", "-", stdin=gadget)
    assert ".template.metadata.colour: field not declared in schema" in said
