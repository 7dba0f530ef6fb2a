"""Makes Kinds out of a CustomResourceDefinition: one for each version, of which one is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME, since
from labctl.resources.custom import embedded, jsonpaths, listtypes
from labctl.resources.custom.conversion import ByName, ByWebhook
from labctl.resources.custom.correlate import ABSENT
from labctl.resources.custom.decode import CustomDecoder
from labctl.resources.custom.openapi import definitions
from labctl.resources.custom.schema import Node, drop_nulls, fill
from labctl.resources.custom.validate import validate
from labctl.resources.generic import GenericObject
from labctl.resources.kind import KEEPS_METADATA, Column, FieldError, Kind, Object, ScalePaths, Subresource
from labctl.resources.kinds.apiextensions_v1.customresourcedefinition import (
    CustomResourceDefinition,
    CustomResourceDefinitionSpec,
    PrinterColumn,
    Version,
)
from labctl.resources.registry import version_rank
from labctl.resources.webhooks import NoWebhooks, Webhooks

_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def kinds_of(definition: CustomResourceDefinition, since_revision: int, webhooks: Webhooks = NoWebhooks()) -> list[Kind]:  # noqa: B008 - it holds nothing
    """Return a Kind for each version, the stored one first. Objects that were written before `since_revision` may lack today's defaults."""
    nodes = {version.name: Node(msgspec.json.decode(version.schema.schema)) for version in definition.spec.versions}
    conversion = _conversion(definition, nodes, since_revision, webhooks)
    made = {version.name: _kind(definition, version, nodes[version.name], conversion) for version in definition.spec.versions}
    [stored] = [made[version.name] for version in definition.spec.versions if version.storage]
    return [stored, *(replace(kind, storage=stored) for kind in made.values() if kind is not stored)]


def _conversion(
    definition: CustomResourceDefinition, nodes: Mapping[str, Node], since_revision: int, webhooks: Webhooks
) -> ByName | ByWebhook:
    said = definition.spec.conversion
    if said.strategy != "Webhook" or said.webhook is None:
        return ByName(nodes, since_revision)
    return ByWebhook(nodes, since_revision, webhooks, msgspec.json.decode(said.webhook))


def _kind(definition: CustomResourceDefinition, version: Version, node: Node, conversion: ByName | ByWebhook) -> Kind:
    spec, names = definition.spec, definition.status.accepted_names
    subresources, has_status = _subresources(version)
    return Kind(
        group=spec.group,
        version=version.name,
        kind=names.kind,
        plural=names.plural,
        singular=names.singular,
        namespaced=spec.scope == "Namespaced",
        view=GenericObject,
        columns=_columns(version),
        short_names=names.short_names,
        categories=names.categories,
        subresources=subresources,
        has_status=has_status,
        has_generation=True,
        served=version.served,
        conversion=conversion,
        decoder=CustomDecoder(node),
        defaults=partial(_complete, node),
        prepare=partial(_prepare, node) if has_status else _prepare_without_status,
        validate=partial(_validate, node),
        warnings=_finalizers,
        fields=partial(
            _selected, [(field.json_path, tuple(field.json_path.removeprefix(".").split("."))) for field in version.selectable_fields]
        ),
        scale=_scale(version),
        definitions=definitions(spec.group, version.name, names.kind, msgspec.json.decode(version.schema.schema)),
        slow=node.dear,
        deprecated=_deprecation(spec, version, names.kind),
        leaving=definition.metadata.deletion_timestamp is not None,
    )


def _complete(node: Node, obj: Object) -> None:
    """Fills in defaults and drops nulls that may not be, in what somebody sent."""
    fill(node, obj)
    drop_nulls(node, obj)


def _finalizers(new: Object, old: Object | None) -> Iterator[str]:
    """Warns of each new finalizer whose name another program might give to its own."""
    before = (old or {}).get("metadata", {}).get("finalizers") or ()
    for name in sorted(set(new["metadata"].get("finalizers") or ()) - {*before, *_STANDARD_FINALIZERS}):
        if "/" not in name:
            yield (
                f'metadata.finalizers: "{name}": prefer a domain-qualified finalizer name including a path (/)'
                " to avoid accidental conflicts with other finalizer writers"
            )


def _deprecation(spec: CustomResourceDefinitionSpec, version: Version, kind: str) -> str:
    """Return what those who use a version are warned of; empty if it is not deprecated. If its author wrote nothing, the best version that is not is named."""
    if not version.deprecated:
        return ""
    if version.deprecation_warning:
        return version.deprecation_warning
    rank = version_rank(version.name)
    better = [each.name for each in spec.versions if each.served and not each.deprecated and version_rank(each.name) < rank]
    instead = f"; use {spec.group}/{min(better, key=version_rank)} {kind}" if better else ""
    return f"{spec.group}/{version.name} {kind} is deprecated{instead}"


def _subresources(version: Version) -> tuple[tuple[Subresource, ...], bool]:
    found = []
    if version.subresources.scale is not None:
        found.append(Subresource("scale", ("get", "patch", "update"), kind="Scale", group="autoscaling", version="v1"))
    has_status = version.subresources.status is not None
    if has_status:
        found.append(Subresource("status", ("get", "patch", "update"), keeps=KEEPS_METADATA))
    return tuple(found), has_status


def _prepare(node: Node, new: Object, old: Object | None) -> None:
    """Drop the status that a new object came with. It has the schema's default instead, as it would have when it is read."""
    if old is None:
        new.pop("status", None)
        fill(node, new)


def _prepare_without_status(_new: Object, _old: Object | None) -> None:
    """Without the subresource a status is a field like any other."""


_BLOCKING = ("FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid")


def _validate(node: Node, new: Object, old: Object | None) -> Sequence[FieldError]:
    """Validate against the schema, then against its rules, which need values of the schema's types."""
    before = ABSENT if old is None else old
    found = [*validate(node, new, old=before), *embedded.problems(node, new)]
    if old is None or not any(listtypes.repeated(node, old)):  # what was twice there before may stay
        found += listtypes.repeated(node, new)
    if not node.checks:
        return found
    if any(error.type in _BLOCKING for error in found):
        why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"
        return [*found, fields.invalid("<nil>", None, why)]
    from labctl.resources.custom.rules import violations  # CEL is imported by those who have rules

    return [*found, *violations(node, new, before)]


def _selected(paths: Sequence[tuple[str, tuple[str, ...]]], view: GenericObject) -> Mapping[str, str]:
    found = {}
    for text, names in paths:
        value = view.at(".".join(names), "")
        found[text.removeprefix(".")] = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return found


def _scale(version: Version) -> ScalePaths | None:
    scale = version.subresources.scale
    if scale is None:
        return None
    try:
        selector = jsonpaths.parse(scale.label_selector_path) if scale.label_selector_path else None
    except ValueError:
        selector = None

    def selected(obj: Object) -> str:
        found = selector(obj) if selector else []
        return found[0] if found and isinstance(found[0], str) else ""

    return ScalePaths(selected, scale.spec_replicas_path.removeprefix("."), scale.status_replicas_path.removeprefix("."))


def _columns(version: Version) -> tuple[Column, ...]:
    """Return the columns of a version; those of every kind if a path of its own is none, as a real server does."""
    try:
        return (NAME, *map(_column, version.additional_printer_columns)) if version.additional_printer_columns else (NAME, AGE)
    except ValueError:
        return (NAME, AGE)


def _column(column: PrinterColumn) -> Column:
    find = jsonpaths.parse(column.json_path)
    return Column(column.name, partial(_cell, find, column.type), column.type, column.format, column.priority, column.description)


def _cell(find: Callable[[Any], list[Any]], type_: str, view: GenericObject, now_s: float) -> Any:
    found = find(view.whole)
    if not found or found[0] is None:
        return None
    value = found[0]
    if type_ == "date":
        return _age(value, now_s)
    if type_ == "string":
        shown = [each if isinstance(each, str) else msgspec.json.encode(each).decode() for each in found]
        return shown[0] if len(shown) == 1 else ",".join(shown)
    if type_ == "boolean":
        return value if isinstance(value, (bool, str)) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if type_ == "integer" else value


def _age(value: Any, now_s: float) -> str:
    try:
        return since(value, now_s)
    except (ValueError, TypeError, AttributeError):
        return "<invalid>"
