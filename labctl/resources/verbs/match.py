"""This module turns the label and field selectors of a list or watch into one function that says whether an entry matches."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

from labctl.resources import failures, selectors
from labctl.resources.kind import Kind, Viewed
from labctl.resources.selectors import META_FIELDS, FieldSelector, Selector
from labctl.resources.verbs.context import Context
from labctl.store.interface import Entry

Match = Callable[[Entry], bool]

TERMS_MAX = 200  # of a request's selectors; each is looked at for each object, and a head of 64 KB has room for thousands


def matcher(ctx: Context, kind: Kind, label_selector: str, field_selector: str) -> Match | None:
    """Returns a function that says whether an entry matches; None if every entry does. Raises ApiError 400 for an invalid selector."""
    labels, fields = _parsed(kind, label_selector, field_selector)
    view, values_of = ctx.seen, kind.fields
    if labels.everything and fields.everything:
        return None
    if fields.everything:
        return lambda entry: labels.matches(view(entry).metadata.labels)
    readers = [(_reader(kind.stored.view, term.field), term.value, term.negated) for term in fields.terms]
    quick = [(read, value, negated) for read, value, negated in readers if read is not None]

    def match_texts(entry: Entry) -> bool:
        seen = view(entry)
        for read, value, negated in quick:
            if (read(seen) == value) is negated:
                return False
        return labels.matches(seen.metadata.labels)

    def match(entry: Entry) -> bool:
        seen = view(entry)
        metadata = seen.metadata
        values = {"metadata.name": metadata.name, "metadata.namespace": metadata.namespace, **values_of(seen)}
        return fields.matches(values) and labels.matches(metadata.labels)

    return match_texts if len(quick) == len(readers) else match


def is_late(ctx: Context, kind: Kind, label_selector: str, field_selector: str) -> bool:
    """Tells whether objects can be selected only in the version of the request: custom ones by fields, which each version has of its own and may call
    otherwise, or by labels, which a conversion may change."""
    if kind.decoder is None or kind.conversion is None:
        return False
    fields = _parsed(kind, "", field_selector)[1].terms if field_selector else ()
    return any(term.field not in META_FIELDS for term in fields) or bool(label_selector and len(ctx.registry.versions(kind.resource)) > 1)


@lru_cache(maxsize=256)
def _reader(view: type[Viewed], path: str) -> Callable[[Any], str] | None:
    """Returns a function that reads a selected field straight from the view, if that is a text there (`spec.nodeName`); otherwise None.

    It is quicker than the kind's `fields`, which makes a dict of all selectable fields.
    """
    names, type_ = [], view
    for step in path.split("."):
        if not (isinstance(type_, type) and issubclass(type_, msgspec.Struct)):
            return None
        field = next((field for field in msgspec.structs.fields(type_) if field.encode_name == step), None)
        if field is None:
            return None
        names.append(field.name)
        type_ = field.type
    return attrgetter(".".join(names)) if type_ is str else None


def _parsed(kind: Kind, label_selector: str, field_selector: str) -> tuple[Selector, FieldSelector]:
    try:
        labels = selectors.parse(label_selector) if label_selector else selectors.EVERYTHING
        fields = selectors.parse_fields(field_selector, supported_fields(kind)) if field_selector else FieldSelector()
    except ValueError as error:
        raise failures.bad_request(str(error)) from None
    terms = len(labels.requirements) + len(fields.terms)
    if terms > TERMS_MAX:
        raise failures.bad_request(f"the selectors have {terms} terms; {TERMS_MAX} are the most")
    return labels, fields


@lru_cache(maxsize=256)
def supported_fields(kind: Kind) -> tuple[str, ...]:
    """Returns the fields by which objects of a kind can be selected."""
    return (*META_FIELDS, *kind.fields(kind.stored.view()))
