"""This module helps to write definitions for labctl's own kinds. Kubernetes' schema (schema/schema.json) has none for them, so their files contain them.

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
    """Returns the definition of an object with these fields. The `required` ones must be present."""
    return {"type": "object", **({"required": list(required)} if required else {}), "properties": properties}


def list_by(key: str, item: str) -> Definition:
    """Returns the definition of a list whose items have the definition `item` and are identified by their field `key`."""
    return {
        "type": "array",
        "items": reference(item),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": [key],
        "x-kubernetes-patch-strategy": "merge",
        "x-kubernetes-patch-merge-key": key,
    }


def top_level(name: str, group: str, version: str, **properties: Definition) -> dict[str, Definition]:
    """Returns the definitions of a kind and of its list. `name` is the kind's definition, e.g. `internal.labctl.v1.Machine`."""
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
