"""What is checked of one version of a custom kind when its definition is written: its schema, columns, selectable fields, scale and deprecation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labctl.resources import fields
from labctl.resources.custom import fieldpaths, openapischema, structural
from labctl.resources.kind import FieldError, Object

_MOST_SELECTABLE = 8
_NO_PATH = "must be a simple json path starting with ."
_LONGEST_WARNING = 256
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")


def problems(path: str, version: Object, before: Mapping[str, Any]) -> Iterator[FieldError]:
    """Yield what is wrong. `before` are the schemas that the versions had: one that is the same is not judged again."""
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        yield fields.required(f"{path}.schema.openAPIV3Schema", "schemas are required")
    else:
        has_status = (version.get("subresources") or {}).get("status") is not None
        at = f"{path}.schema.openAPIV3Schema"
        if schema == before.get(version.get("name", "")):
            yield from openapischema.root(at, schema, has_status=has_status)
        else:
            known = [each for each in before.values() if isinstance(each, dict)]
            yield from structural.problems(at, schema, has_status=has_status, before=known)
    for number, column in enumerate(version.get("additionalPrinterColumns") or ()):
        yield from _column(f"{path}.additionalPrinterColumns[{number}]", column)
    selectable = version.get("selectableFields") or ()
    if selectable and schema is not None:
        yield from fieldpaths.selectable(f"{path}.selectableFields", selectable, schema, _MOST_SELECTABLE)
    scale = (version.get("subresources") or {}).get("scale")
    if scale is not None:
        yield from _scale(f"{path}.subresources.scale", scale)
    if version.get("deprecationWarning") is not None:
        yield from _deprecation(f"{path}.deprecationWarning", version["deprecationWarning"], deprecated=version.get("deprecated", False))


def _scale(path: str, scale: Object) -> Iterator[FieldError]:
    for name, below in (
        ("specReplicasPath", (".spec.",)),
        ("statusReplicasPath", (".status.",)),
        ("labelSelectorPath", (".spec.", ".status.")),
    ):
        said, at = scale.get(name, ""), f"{path}.{name}"
        if not said and name != "labelSelectorPath":
            yield fields.required(at)
        elif said and not said.startswith("."):
            yield fields.invalid(at, said, _NO_PATH)
        elif said and not said.startswith(below):
            where = below[0].rstrip(".") if len(below) == 1 else "either .spec or .status"
            yield fields.invalid(at, said, f"should be a json path under {where}")


def _deprecation(path: str, warning: str, *, deprecated: bool) -> Iterator[FieldError]:
    if not deprecated:
        yield fields.invalid(path, warning, "can only be set for deprecated versions")
        return
    if len(warning.encode()) > _LONGEST_WARNING:
        yield fields.invalid(path, warning, f"must be <= {_LONGEST_WARNING} characters long")
    if not warning:
        yield fields.invalid(path, warning, "must not be an empty string")
    for number, letter in enumerate(warning):
        if not letter.isprintable():
            at = len(warning[:number].encode())
            why = f"must only contain printable UTF-8 characters; non-printable character found at index {at}"
            yield fields.invalid(path, warning, why)
            return


def _column(path: str, column: Object) -> Iterator[FieldError]:
    if not column.get("name"):
        yield fields.required(f"{path}.name")
    if not column.get("type"):
        yield fields.required(f"{path}.type", f"must be one of {','.join(_COLUMN_TYPES)}")
    elif column["type"] not in _COLUMN_TYPES:
        yield fields.invalid(f"{path}.type", column["type"], f"must be one of {','.join(_COLUMN_TYPES)}")
    if column.get("format") and column["format"] not in _COLUMN_FORMATS:
        yield fields.invalid(f"{path}.format", column["format"], f"must be one of {','.join(_COLUMN_FORMATS)}")
    if not column.get("jsonPath"):
        yield fields.required(f"{path}.JSONPath")
        return
    if not column["jsonPath"].startswith("."):
        yield fields.invalid(f"{path}.JSONPath", column["jsonPath"], _NO_PATH)
