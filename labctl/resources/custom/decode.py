"""Decodes objects of a custom kind: metadata as every kind's, the rest pruned by its own schema."""

from __future__ import annotations

from labctl.errors import ApiError
from labctl.resources.custom.schema import Node, prune
from labctl.resources.kind import Kind, Object
from labctl.resources.schema import body as bodies
from labctl.resources.schema.definitions import META, Schema, Type, official
from labctl.resources.schema.validate import strict_error
from labctl.resources.schema.walk import check


class CustomDecoder:
    """For one version of a custom kind. A wrong type inside is no decoding error: validation says it, with the field's path."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._head = Type(shape="struct", fields={"metadata": _metadata_type()})

    def decode(self, kind: Kind, raw: bytes, field_validation: str) -> tuple[Object, list[str]]:
        obj = bodies.parse(kind, raw)
        api_version, name = bodies.check_type_meta(_NO_SCHEMA, kind, obj, raw)
        said = f'{name} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind.kind}'
        repeated = bodies.duplicates(raw) if bodies.may_repeat(obj, raw) else []
        error, unknown = self._tidied(obj)
        if error:
            raise ApiError(400, "BadRequest", f"{said}: {error}")
        strict = [*unknown, *repeated]
        if strict and field_validation == "Strict":
            raise ApiError(400, "BadRequest", f"{said}: {strict_error(strict)}")
        return obj, strict if field_validation == "Warn" else []

    def patched(self, kind: Kind, obj: Object) -> list[str]:
        _, unknown = self._tidied(obj)
        return [words.removeprefix('unknown field "').removesuffix('"') for words in unknown]

    def _tidied(self, obj: Object) -> tuple[str, list[str]]:
        head = {"metadata": obj.get("metadata") or {}}
        findings = check(self._head, head)
        obj["metadata"] = head["metadata"]
        return findings.error, [*findings.strict, *(f'unknown field "{path}"' for path in prune(self._node, obj))]


_NO_SCHEMA = Schema({})


def _metadata_type() -> Type:
    return Schema(official()).named(META + "ObjectMeta")
