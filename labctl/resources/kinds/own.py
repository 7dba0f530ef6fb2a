"""Definitions for kinds that are labctl's own: Kubernetes' schema (schema/schema.json) has none for them, so their files bring them along.

A definition is an OpenAPI v2 schema with Kubernetes' extensions, as in schema.json. Names begin with `internal.labctl.v1.`.
"""

from __future__ import annotations

from typing import Any

Definition = dict[str, Any]

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
STRING: Definition = {"type": "string"}
BOOLEAN: Definition = {"type": "boolean"}
INT32: Definition = {"type": "integer", "format": "int32"}


def reference(name: str) -> Definition:
    return {"$ref": f"#/definitions/{name}"}


QUANTITY = reference("io.k8s.apimachinery.pkg.api.resource.Quantity")
TIME = reference(META + "Time")
MICRO_TIME = reference(META + "MicroTime")


def struct(*required: str, **properties: Definition) -> Definition:
    """An object with these fields; `required` ones must be there."""
    return {"type": "object", **({"required": list(required)} if required else {}), "properties": properties}


def list_by(key: str, item: str) -> Definition:
    """A list whose items, each of the definition `item`, are told apart by their field `key`."""
    return {
        "type": "array",
        "items": reference(item),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": [key],
        "x-kubernetes-patch-strategy": "merge",
        "x-kubernetes-patch-merge-key": key,
    }


def top_level(name: str, group: str, version: str, **properties: Definition) -> dict[str, Definition]:
    """The definitions of a kind and of its list. `name` is the kind's definition, e.g. `internal.labctl.v1.Machine`."""
    kind = name.rpartition(".")[2]

    def known_as(kind: str) -> list[dict[str, str]]:
        return [{"group": group, "version": version, "kind": kind}]

    one = struct(apiVersion=STRING, kind=STRING, metadata=reference(META + "ObjectMeta"), **properties)
    items = {"type": "array", "items": reference(name)}
    many = struct("items", apiVersion=STRING, items=items, kind=STRING, metadata=reference(META + "ListMeta"))
    return {
        name: {**one, "x-kubernetes-group-version-kind": known_as(kind)},
        f"{name}List": {**many, "x-kubernetes-group-version-kind": known_as(f"{kind}List")},
    }
