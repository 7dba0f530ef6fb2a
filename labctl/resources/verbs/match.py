"""Which entries a list or watch means: the label and field selectors of a request, as one function of an entry."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from labctl.resources import failures, selectors
from labctl.resources.kind import Kind
from labctl.resources.selectors import META_FIELDS, FieldSelector, Selector
from labctl.resources.verbs.context import Context
from labctl.store.interface import Entry

Match = Callable[[Entry], bool]


def matcher(ctx: Context, kind: Kind, label_selector: str, field_selector: str) -> Match | None:
    """None: everything matches. ApiError 400 for a selector that says nothing this kind understands."""
    labels = _labels(kind, label_selector, field_selector)
    fields = _fields(kind, label_selector, field_selector)
    view, values_of = ctx.view, kind.fields
    if labels.everything and fields.everything:
        return None
    if fields.everything:
        return lambda entry: labels.matches(view(entry).metadata.labels)
    name, namespace = fields.exact("metadata.name"), fields.exact("metadata.namespace")
    if labels.everything and len(fields.terms) == 1 and name is not None:
        ending = f"/{name}"
        return lambda entry: entry.key.endswith(ending)

    def match(entry: Entry) -> bool:
        seen = view(entry)
        metadata = seen.metadata
        if (name is not None and metadata.name != name) or (namespace is not None and metadata.namespace != namespace):
            return False
        values = {"metadata.name": metadata.name, "metadata.namespace": metadata.namespace, **values_of(seen)}
        return fields.matches(values) and labels.matches(metadata.labels)

    return match


def _labels(kind: Kind, label_selector: str, field_selector: str) -> Selector:
    try:
        return selectors.parse(label_selector) if label_selector else selectors.EVERYTHING
    except ValueError as error:
        raise _not_understood(kind, label_selector, field_selector, error) from None


def _fields(kind: Kind, label_selector: str, field_selector: str) -> FieldSelector:
    try:
        return selectors.parse_fields(field_selector, supported_fields(kind)) if field_selector else FieldSelector()
    except ValueError as error:
        raise _not_understood(kind, label_selector, field_selector, error) from None


def _not_understood(kind: Kind, label_selector: str, field_selector: str, error: ValueError) -> Exception:
    resource = f"{kind.group}/{kind.version}, Resource={kind.plural}"
    which = f'label selector "{label_selector}", field selector "{field_selector}"'
    return failures.bad_request(f'Unable to find "{resource}" that match {which}: {error}')


@lru_cache(maxsize=256)
def supported_fields(kind: Kind) -> tuple[str, ...]:
    """The field selectors a kind answers."""
    return (*META_FIELDS, *kind.fields(kind.view()))
