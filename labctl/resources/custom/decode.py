"""Decodes objects of a custom kind: metadata as every kind's, the rest pruned by its own schema."""

from __future__ import annotations

from labctl.errors import ApiError
from labctl.resources.custom import embedded
from labctl.resources.custom.schema import Node, prune
from labctl.resources.kind import Kind, Object
from labctl.resources.schema import body as bodies
from labctl.resources.schema.definitions import Schema
from labctl.resources.schema.validate import strict_error
from labctl.resources.schema.walk import check


class CustomDecoder:
    """For one version of a custom kind. A wrong type inside is no decoding error: validation says it, with the field's path."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def decode(self, kind: Kind, raw: bytes, field_validation: str) -> tuple[Object, list[str]]:
        obj = bodies.parse(kind, raw)
        api_version, name = bodies.check_type_meta(_NO_SCHEMA, kind, obj, raw)
        said = f'{name} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind.kind}'
        repeated = bodies.duplicates(raw) if bodies.may_repeat(obj, raw) else []
        try:
            unknown = self._tidied(obj)
        except ValueError as error:
            raise ApiError(400, "BadRequest", f"{said}: {error}") from None
        strict = [*(f'unknown field "{path}"' for path in unknown), *repeated]
        if strict and field_validation == "Strict":
            raise ApiError(400, "BadRequest", f"{said}: {strict_error(strict)}")
        return obj, strict if field_validation == "Warn" else []

    def patched(self, kind: Kind, obj: Object) -> list[str]:
        return self._tidied(obj)

    def _tidied(self, obj: Object) -> list[str]:
        """Bring an object into its stored form, in place, and return the paths of unknown fields. Raises ValueError for metadata of a wrong type."""
        metadata = obj.get("metadata") if obj.get("metadata") is not None else {}
        if not isinstance(metadata, dict):
            raise ValueError(embedded.not_metadata(metadata))
        findings = check(embedded.metadata_type(), metadata)
        if findings.error:
            raise ValueError(findings.error)
        obj["metadata"] = metadata
        unknown = [f"metadata.{name}" for name in embedded.unknown_fields(findings)]
        return [*unknown, *prune(self._node, obj), *embedded.coerced(self._node, obj)]


_NO_SCHEMA = Schema({})
