"""The rules of a metav1.LabelSelector, for all kinds that have one. Works on dicts, answers field errors in Kubernetes' words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labctl.resources import fields, names
from labctl.resources.kind import FieldError


def label_selector(
    path: str, selector: Mapping[str, Any] | None, *, may_be_empty: bool = False, of: str = "deployment"
) -> Iterator[FieldError]:
    """Validates a metav1.LabelSelector. `of` is what Kubernetes calls the kind in its sentence; a ReplicaSet it calls a deployment, too."""
    if selector is None:
        yield fields.required(path)
        return
    if not may_be_empty and not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield fields.invalid(path, selector, f"empty selector is invalid for {of}")
    yield from names.labels(f"{path}.matchLabels", selector.get("matchLabels") or {})
    for number, expression in enumerate(selector.get("matchExpressions") or ()):
        yield from _expression(f"{path}.matchExpressions[{number}]", expression)


def _expression(path: str, expression: Mapping[str, Any]) -> Iterator[FieldError]:
    operator, values = expression.get("operator", ""), expression.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            yield fields.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            yield fields.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    else:
        yield fields.invalid(f"{path}.operator", operator, "not a valid selector operator")
    yield from names.labels(path, {expression.get("key", ""): ""})
