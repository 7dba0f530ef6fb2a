"""schema.json is what the official definitions give, and the Types made of it say what patches and decoding need."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from labctl.resources.registry import builtin_registry
from labctl.resources.schema.definitions import ANY, META, Schema, builtin_schema, official

ROOT = Path(__file__).parents[3]
CORE = "io.k8s.api.core.v1."


@pytest.fixture(scope="module")
def schema() -> Schema:
    return builtin_schema()


def test_schema_json_is_what_the_wheel_gives() -> None:
    pytest.importorskip("kubernetes_validate")
    tool = runpy.run_path(str(ROOT / "tools/derive_schema.py"))
    assert tool["SCHEMA_JSON"].read_text() == tool["render"](tool["derive"](tool["official"]()))


def test_there_is_no_prose() -> None:
    assert '"description":' not in (ROOT / "labctl/resources/schema/schema.json").read_text().replace('"description":{"type"', "")


def test_every_reference_leads_somewhere(schema: Schema) -> None:
    for name in schema.definitions:
        schema.named(name)


def test_every_served_kind_has_a_definition_and_a_list(schema: Schema) -> None:
    for kind in builtin_registry():
        assert schema.name_of(kind.group, kind.version, kind.kind), kind.resource
        assert schema.name_of(kind.group, kind.version, f"{kind.kind}List") or not kind.persisted, kind.resource


def test_bodies_of_subresources_have_definitions(schema: Schema) -> None:
    for kind in builtin_registry():
        for sub in kind.subresources:
            if sub.kind and not sub.kind.endswith("Options"):  # those are query parameters
                assert schema.name_of(sub.group, sub.version or kind.version, sub.kind), f"{kind.resource}/{sub.name}"


def test_merge_keys(schema: Schema) -> None:
    spec = schema.named(CORE + "PodSpec").fields
    assert (spec["containers"].list_type, spec["containers"].keys, spec["containers"].merge_key) == ("map", ("name",), "name")
    assert spec["volumes"].strategy == {"merge", "retainKeys"}
    assert spec["nodeSelector"].map_type == "atomic"
    ports = schema.named(CORE + "Container").fields["ports"]
    assert ports.keys == ("containerPort", "protocol")
    assert schema.named(META + "ObjectMeta").fields["finalizers"].list_type == "set"
    assert schema.named(CORE + "Container").fields["args"].list_type == "atomic"


def test_shapes(schema: Schema) -> None:
    container = schema.named(CORE + "Container").fields
    assert container["resources"].fields["limits"].item.shape == "quantity"  # type: ignore[union-attr]
    assert schema.named(CORE + "ServicePort").fields["targetPort"].shape == "int-or-string"
    assert schema.named(META + "ObjectMeta").fields["creationTimestamp"].shape == "time"
    assert schema.named("io.k8s.api.coordination.v1.LeaseSpec").fields["renewTime"].shape == "micro-time"
    assert schema.named(CORE + "Secret").fields["data"].item.shape == "bytes"  # type: ignore[union-attr]
    assert schema.named(META + "ManagedFieldsEntry").fields["fieldsV1"].shape == "any"


def test_a_custom_kind_comes_and_goes() -> None:
    schema = builtin_schema()
    gvk = {"group": "example.com", "version": "v1", "kind": "Gadget"}
    definition = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
        "x-kubernetes-group-version-kind": [gvk],
    }
    assert schema.type_of("example.com", "v1", "Gadget") is ANY
    schema.add("com.example.v1.Gadget", definition)
    assert schema.type_of("example.com", "v1", "Gadget").fields["spec"].fields["size"].shape == "int64"
    schema.remove("com.example.v1.Gadget")
    assert schema.type_of("example.com", "v1", "Gadget") is ANY
    assert "com.example.v1.Gadget" not in official(), "the official definitions are shared by every Schema"


def test_a_type_may_hold_itself() -> None:
    schema = Schema({"T": {"type": "object", "properties": {"below": {"type": "array", "items": {"$ref": "#/definitions/T"}}}}})
    type_ = schema.named("T")
    assert type_.fields["below"].item is type_
