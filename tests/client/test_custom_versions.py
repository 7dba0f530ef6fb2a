"""What one version of a custom kind does not know, with the real kubectl: it is not shown there, and what the stored version does not know is not stored."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer

NAME = "teas.example.com"


def definition(**properties: dict[str, Any]) -> dict[str, Any]:
    """`properties` are those of each version's spec; the last version is stored."""
    versions = [
        {
            "name": name,
            "served": True,
            "storage": name == list(properties)[-1],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": known}}}},
        }
        for name, known in properties.items()
    ]
    names = {"plural": "teas", "singular": "tea", "kind": "Tea", "listKind": "TeaList"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": NAME}, "spec": spec}


TEXT = {"type": "string"}
OLD = {"leaf": TEXT, "sugar": TEXT}
NEW = {"leaf": TEXT, "milk": TEXT, "water": {"type": "string", "default": "hot"}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        yield running


async def _define(api: ApiServer, **properties: dict[str, Any]) -> None:
    await ok(api, "apply", "--server-side", "-f", "-", stdin=definition(**properties))
    await ok(api, "wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=10s")
    deadline = time.monotonic() + 10
    while await _published(api) != properties["v1"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def _published(api: ApiServer) -> Any:
    """Returns what the API knows of v1's spec at this moment: a definition that is changed is in force a moment later."""
    document = json.loads(await ok(api, "get", "--raw", "/openapi/v3/apis/example.com/v1"))
    return document["components"]["schemas"]["com.example.v1.Tea"]["properties"]["spec"]["properties"]


def _tea(version: str, **spec: Any) -> str:
    return json.dumps({"apiVersion": f"example.com/{version}", "kind": "Tea", "metadata": {"name": "green"}, "spec": spec})


async def _spec(api: ApiServer, version: str) -> Any:
    return json.loads(await ok(api, "get", f"teas.{version}.example.com", "green", "-o", "jsonpath={.spec}"))


async def test_a_version_shows_only_what_it_knows(api: ApiServer) -> None:
    await _define(api, v1alpha1=OLD, v1=NEW)
    await ok(api, "create", "-f", "-", stdin=_tea("v1", leaf="long", milk="none"))
    assert await _spec(api, "v1") == {"leaf": "long", "milk": "none", "water": "hot"}
    assert await _spec(api, "v1alpha1") == {"leaf": "long"}
    listed = json.loads(await ok(api, "get", "--raw", "/apis/example.com/v1alpha1/namespaces/default/teas"))
    assert [each["spec"] for each in listed["items"]] == [{"leaf": "long"}]


async def test_a_patch_in_another_version_meets_no_unknown_field(api: ApiServer) -> None:
    await _define(api, v1alpha1=OLD, v1=NEW)
    await ok(api, "create", "-f", "-", stdin=_tea("v1", leaf="long"))
    before = await ok(api, "get", "teas.v1.example.com", "green", "-o", "jsonpath={.metadata.resourceVersion}")
    await ok(api, "apply", "-f", "-", stdin=_tea("v1alpha1", leaf="short"))  # kubectl asks for strict validation of its patch
    assert await _spec(api, "v1") == {"leaf": "short", "water": "hot"}
    assert before != await ok(api, "get", "teas.v1.example.com", "green", "-o", "jsonpath={.metadata.resourceVersion}")


async def test_what_the_stored_version_does_not_know_is_not_stored(api: ApiServer) -> None:
    await _define(api, v1alpha1=OLD, v1=NEW)
    made = json.loads(await ok(api, "create", "-o", "json", "-f", "-", stdin=_tea("v1alpha1", leaf="long", sugar="two")))
    assert made["spec"] == {"leaf": "long"}, "who makes it is told at once"
    assert await _spec(api, "v1alpha1") == {"leaf": "long"}


async def test_what_a_schema_no_longer_knows_is_no_longer_shown(api: ApiServer) -> None:
    await _define(api, v1=OLD)
    await ok(api, "create", "-f", "-", stdin=_tea("v1", leaf="long", sugar="two"))
    await _define(api, v1={"leaf": TEXT})
    assert await _spec(api, "v1") == {"leaf": "long"}
    revision = "jsonpath={.metadata.resourceVersion}"
    await ok(api, "label", "teas", "green", "served=yes")
    before = await ok(api, "get", "teas", "green", "-o", revision)
    await ok(api, "label", "teas", "green", "served=yes")
    assert await ok(api, "get", "teas", "green", "-o", revision) == before, "it was stored anew, once"


async def test_an_object_older_than_its_schema_that_lacks_nothing_is_not_written_without_a_change(api: ApiServer) -> None:
    await _define(api, v1=OLD)
    await ok(api, "create", "-f", "-", stdin=_tea("v1", leaf="long"))
    await _define(api, v1={"leaf": TEXT, "sugar": TEXT, "milk": TEXT})
    revision = "jsonpath={.metadata.resourceVersion}"
    before = await ok(api, "get", "teas", "green", "-o", revision)
    await ok(api, "patch", "teas", "green", "--type=merge", "-p", '{"spec":{"leaf":"long"}}')
    assert await ok(api, "get", "teas", "green", "-o", revision) == before


async def test_versions_as_the_page_about_them_says(api: ApiServer) -> None:
    """The steps of "Versions in CustomResourceDefinitions", from the first version to the removal of the old one."""
    await _define(api, v1=OLD, v1beta1=OLD)
    await ok(api, "create", "-f", "-", stdin=_tea("v1beta1", leaf="long"))
    assert await ok(api, "get", "teas", "-o", "jsonpath={.items[*].apiVersion}") == "example.com/v1", "the best version, not the stored one"
    await _define(api, v1beta1=OLD, v1=OLD)
    stored = "jsonpath={.status.storedVersions}"
    assert json.loads(await ok(api, "get", "crd", NAME, "-o", stored)) == ["v1beta1", "v1"]
    gone = await refused(api, "apply", "--server-side", "-f", "-", stdin=definition(v1=OLD))
    assert "v1beta1 was previously a storage version, and must remain in spec.versions until a storage migration ensures" in gone
    await ok(api, "replace", "-f", "-", stdin=await ok(api, "get", "teas", "-o", "json"))
    patch = '[{"op":"replace","path":"/status/storedVersions","value":["v1"]}]'
    await ok(api, "patch", "crd", NAME, "--subresource=status", "--type=json", "-p", patch)
    await ok(api, "apply", "--server-side", "-f", "-", stdin=definition(v1=OLD))
    assert await _spec(api, "v1") == {"leaf": "long"}


async def test_a_deprecated_version_names_the_best_that_is_not(api: ApiServer) -> None:
    whole = definition(v1=OLD, v2=OLD, v1beta1=OLD, v1alpha1=OLD, v3=OLD)
    for version in whole["spec"]["versions"]:
        version |= {"v1beta1": {"deprecated": True}, "v1alpha1": {"deprecated": True, "deprecationWarning": "go on"}}.get(
            version["name"], {}
        )
        version |= {"deprecated": True} if version["name"] == "v3" else {}
    await ok(api, "create", "-f", "-", stdin=whole)
    await ok(api, "wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=10s")
    warned = {name: (await api.kubectl("get", f"teas.{name}.example.com")).err for name in ("v1beta1", "v1alpha1", "v3", "v2")}
    assert "Warning: example.com/v1beta1 Tea is deprecated; use example.com/v2 Tea\n" in warned["v1beta1"]
    assert "Warning: go on\n" in warned["v1alpha1"] and "Warning" not in warned["v2"]
    assert "Warning: example.com/v3 Tea is deprecated\n" in warned["v3"], "nothing is better"


async def test_what_was_wrong_before_may_stay_wrong(api: ApiServer) -> None:
    """Validation ratcheting (KEP-4008), as the page about CustomResourceDefinitions has it."""
    number = {"type": "integer"}
    await _define(api, v1={"leaf": TEXT, "sugar": number, "pair": {"type": "object", "properties": {"a": TEXT, "b": TEXT}}})
    await ok(api, "create", "-f", "-", stdin=_tea("v1", leaf="", sugar=-1, pair={"a": "x"}))
    odd = {**number, "minimum": 0, "x-kubernetes-validations": [{"rule": "self % 2 == 0", "message": "even, please"}]}
    pair = {"type": "object", "required": ["b"], "properties": {"a": {**TEXT, "minLength": 3}, "b": TEXT}}
    await _define(api, v1={"leaf": {**TEXT, "minLength": 2}, "sugar": odd, "pair": pair, "milk": TEXT})
    patched = ("patch", "teas", "green", "--type=merge", "-p")
    await ok(api, *patched, '{"spec":{"milk":"some"}}')
    await ok(api, "apply", "--server-side", "--field-manager=me", "--force-conflicts", "-f", "-", stdin=_tea("v1", milk="more"))
    assert "spec.leaf in body should be at least 2 chars long" in await refused(api, *patched, '{"spec":{"leaf":"a"}}')
    said = await refused(api, *patched, '{"spec":{"sugar":-3}}')
    assert "should be greater than or equal to 0" in said and "even, please" in said
    assert "spec.pair.b: Required value" in await refused(api, *patched, '{"spec":{"pair":{"a":"y"}}}')
    grows = {**number, "x-kubernetes-validations": [{"rule": "self > oldSelf", "message": "more, please"}]}
    await _define(api, v1={"leaf": TEXT, "sugar": grows, "pair": pair})
    assert "more, please" in await refused(api, *patched, '{"metadata":{"labels":{"a":"b"}}}'), "a transition rule always counts"


async def test_a_rule_is_compiled_with_the_types_of_its_schema(api: ApiServer) -> None:
    """What a real server prints, to the letter."""
    rules = [{"rule": "self.leaf == 1"}, {"rule": "has(self.nope)"}, {"rule": "self.leaf"}]
    whole = definition(v1={"leaf": TEXT})
    spec = whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    said = await refused(api, "create", "-f", "-", stdin=(spec.update({"x-kubernetes-validations": rules}), whole)[1])
    at = "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{"
    assert at in said
    error = "compilation failed: ERROR: <input>:1:11: found no matching overload for '_==_' applied to '(string, int)'\n | self.leaf == 1\n | ..........^"
    assert error in said and "ERROR: <input>:1:4: undefined field 'nope'" in said and "cel expression must evaluate to a bool" in said
    spec["x-kubernetes-validations"] = [{"rule": "self.leaf != '' && (!has(oldSelf.leaf) || self.leaf.size() >= size(oldSelf.leaf))"}]
    await ok(api, "create", "-f", "-", stdin=whole)
