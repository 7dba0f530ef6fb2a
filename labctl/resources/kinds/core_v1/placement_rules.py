"""What a pod may say about where it runs: affinities, topology spread constraints, scheduling gates. A part of pod_rules.py, in Kubernetes' words and order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.selector_rules import label_selector
from labctl.resources.labels import key_errors, value_errors

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_WEIGHT = "must be in the range 1-100"
_POSITIVE = "must be greater than zero"
_OPERATOR = "not a valid selector operator"
_UNSATISFIABLE = ("DoNotSchedule", "ScheduleAnyway")
_POLICIES = ("Honor", "Ignore")


def placement(path: str, spec: Object) -> Iterator[FieldError]:
    affinity = spec.get("affinity") or {}
    yield from _node_affinity(f"{path}.affinity.nodeAffinity", affinity.get("nodeAffinity") or {})
    for name in ("podAffinity", "podAntiAffinity"):
        yield from _pod_affinity(f"{path}.affinity.{name}", affinity.get(name) or {})
    constraints = spec.get("topologySpreadConstraints") or ()
    for index, constraint in enumerate(constraints):
        yield from _constraint(f"{path}.topologySpreadConstraints[{index}]", constraint, constraints[index + 1 :])
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        at, name = f"{path}.schedulingGates[{index}]", gate.get("name", "")
        yield from names.checked(at, name, key_errors)
        if name in seen:
            yield fields.duplicate(at, name)
        seen.add(name)


# -- nodes ---------------------------------------------------------------------------------------------------------------------------------


def _node_affinity(path: str, affinity: Object) -> Iterator[FieldError]:
    required = affinity.get(REQUIRED)
    if required is not None:
        yield from node_selector(f"{path}.{REQUIRED}", required)
    for index, one in enumerate(affinity.get(PREFERRED) or ()):
        at = f"{path}.{PREFERRED}[{index}]"
        yield from _weight(at, one)
        yield from _node_term(f"{at}.preference", one.get("preference") or {}, any_value=True)


def node_selector(path: str, selector: Object) -> Iterator[FieldError]:
    """Validates a NodeSelector: that of a pod, or of a volume."""
    at, terms = f"{path}.nodeSelectorTerms", selector.get("nodeSelectorTerms") or ()
    if not terms:
        yield fields.required(at, "must have at least one node selector term")
    for index, term in enumerate(terms):
        yield from _node_term(f"{at}[{index}]", term)


def _weight(path: str, one: Object) -> Iterator[FieldError]:
    weight = one.get("weight", 0)
    if not 1 <= weight <= 100:
        yield fields.invalid(f"{path}.weight", weight, _WEIGHT)


def _node_term(path: str, term: Object, *, any_value: bool = False) -> Iterator[FieldError]:
    """Validates a term. A preference may name values that no label can have (`any_value`), as Kubernetes lets it."""
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        yield from _node_expression(f"{path}.matchExpressions[{index}]", expression, any_value=any_value)
    for index, expression in enumerate(term.get("matchFields") or ()):
        yield from _node_field(f"{path}.matchFields[{index}]", expression)


def _node_expression(path: str, expression: Object, *, any_value: bool) -> Iterator[FieldError]:
    operator, values = expression.get("operator", ""), expression.get("values") or ()
    match operator:
        case "In" | "NotIn":
            if not values:
                yield fields.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        case "Exists" | "DoesNotExist":
            if values:
                yield fields.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        case "Gt" | "Lt":
            if len(values) != 1:
                yield fields.required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
        case _:
            yield fields.invalid(f"{path}.operator", operator, _OPERATOR)
    yield from names.checked(f"{path}.key", expression.get("key", ""), key_errors)
    for index, value in enumerate(() if any_value else values):
        yield from names.checked(f"{path}.values[{index}]", value, value_errors)


def _node_field(path: str, expression: Object) -> Iterator[FieldError]:
    operator, key, values = expression.get("operator", ""), expression.get("key", ""), expression.get("values") or ()
    if operator not in ("In", "NotIn"):
        yield fields.invalid(f"{path}.operator", operator, _OPERATOR)
    elif len(values) != 1:
        yield fields.required(f"{path}.values", "must be only one value when `operator` is 'In' or 'NotIn' for node field selector")
    if key != "metadata.name":
        yield fields.invalid(f"{path}.key", key, "not a valid field selector key")
        return
    for index, value in enumerate(values):
        yield from names.checked(f"{path}.values[{index}]", value, names.subdomain)


# -- pods ----------------------------------------------------------------------------------------------------------------------------------


def _pod_affinity(path: str, affinity: Object) -> Iterator[FieldError]:
    for index, term in enumerate(affinity.get(REQUIRED) or ()):
        yield from _pod_term(f"{path}.{REQUIRED}[{index}]", term)
    for index, one in enumerate(affinity.get(PREFERRED) or ()):
        at = f"{path}.{PREFERRED}[{index}]"
        yield from _weight(at, one)
        yield from _pod_term(f"{at}.podAffinityTerm", one.get("podAffinityTerm") or {})


def _pod_term(path: str, term: Object) -> Iterator[FieldError]:
    for name in ("labelSelector", "namespaceSelector"):
        if term.get(name) is not None:
            yield from label_selector(f"{path}.{name}", term[name], may_be_empty=True)
    for name in term.get("namespaces") or ():
        yield from names.checked(f"{path}.namespace", name, names.label)
    keys, others = term.get("matchLabelKeys") or (), term.get("mismatchLabelKeys") or ()
    yield from _label_keys(f"{path}.matchLabelKeys", keys, term.get("labelSelector"))
    yield from _label_keys(f"{path}.mismatchLabelKeys", others, term.get("labelSelector"))
    yield from _said_twice(path, keys, term.get("labelSelector") or {})
    for index, key in enumerate(keys):
        if key in others:
            yield fields.invalid(f"{path}.matchLabelKeys[{index}]", key, "exists in both matchLabelKeys and mismatchLabelKeys")
    if not term.get("topologyKey"):
        yield fields.required(f"{path}.topologyKey", "can not be empty")
    else:
        yield from names.checked(f"{path}.topologyKey", term["topologyKey"], key_errors)


def _label_keys(path: str, keys: Sequence[str], selector: Mapping[str, Any] | None) -> Iterator[FieldError]:
    if keys and selector is None:
        yield fields.forbidden(path, "must not be specified when labelSelector is not set")
        return
    for index, key in enumerate(keys):
        yield from names.checked(f"{path}[{index}]", key, key_errors)


def _said_twice(path: str, keys: Sequence[str], selector: Mapping[str, Any]) -> Iterator[FieldError]:
    """Check that no key is twice in a selector. merge_label_keys has added a pod's label keys, so such a key was in both."""
    said = set(selector.get("matchLabels") or ())
    for expression in selector.get("matchExpressions") or ():
        key = expression.get("key", "")
        if key in said and key in keys:
            yield fields.invalid(f"{path}[{list(keys).index(key)}]", key, "exists in both matchLabelKeys and labelSelector")
        said.add(key)


# -- spread --------------------------------------------------------------------------------------------------------------------------------


def _constraint(path: str, said: Object, following: Sequence[Object]) -> Iterator[FieldError]:
    if said.get("maxSkew", 0) <= 0:
        yield fields.invalid(f"{path}.maxSkew", said.get("maxSkew", 0), _POSITIVE)
    if not said.get("topologyKey"):
        yield fields.required(f"{path}.topologyKey", "can not be empty")
    when = said.get("whenUnsatisfiable", "")
    if when not in _UNSATISFIABLE:
        yield fields.not_supported(f"{path}.whenUnsatisfiable", when, _UNSATISFIABLE)
    pair = said.get("topologyKey"), when
    if any((other.get("topologyKey"), other.get("whenUnsatisfiable", "")) == pair for other in following):
        yield fields.duplicate(f"{path}.{{topologyKey, whenUnsatisfiable}}", f"{{{pair[0]}, {when}}}")
    least = said.get("minDomains")
    if least is not None and least <= 0:
        yield fields.invalid(f"{path}.minDomains", least, _POSITIVE)
    if least is not None and when != "DoNotSchedule":
        why = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
        yield fields.invalid(f"{path}.minDomains", least, why)
    for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        if said.get(name) is not None and said[name] not in _POLICIES:
            yield fields.not_supported(f"{path}.{name}", said[name], _POLICIES)
    keys, selector = said.get("matchLabelKeys") or (), said.get("labelSelector")
    yield from _label_keys(f"{path}.matchLabelKeys", keys, selector)
    yield from _said_twice(f"{path}.matchLabelKeys", keys, selector or {})
    if selector is not None:
        yield from label_selector(f"{path}.labelSelector", selector, may_be_empty=True)


# -- a new pod, and one that changes -------------------------------------------------------------------------------------------------------


def merge_label_keys(spec: Object, labels: Mapping[str, str]) -> None:
    """Writes the pod's own values of matchLabelKeys and mismatchLabelKeys into the selectors beside them, as a real server does when it takes a pod."""
    affinity = spec.get("affinity") or {}
    holders: list[Object] = list(spec.get("topologySpreadConstraints") or ())
    for name in ("podAffinity", "podAntiAffinity"):
        said = affinity.get(name) or {}
        holders += said.get(REQUIRED) or ()
        holders += [one.get("podAffinityTerm") or {} for one in said.get(PREFERRED) or ()]
    for holder in holders:
        selector = holder.get("labelSelector")
        if selector is None:
            continue
        for keys, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
            for key in holder.get(keys) or ():
                if key in labels:
                    expression = {"key": key, "operator": operator, "values": [labels[key]]}
                    selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), expression]


def changed(new: Object, old: Object) -> Iterator[FieldError]:
    """Gates may only be removed. While there are any, the nodes that the pod may go to can be made fewer."""
    before = {gate.get("name") for gate in old.get("schedulingGates") or ()}
    for index, gate in enumerate(new.get("schedulingGates") or ()):
        if gate.get("name") not in before:
            yield fields.forbidden(
                f"spec.schedulingGates[{index}].name", f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            )
    if not before:
        return
    had, has = old.get("nodeSelector") or {}, new.get("nodeSelector") or {}
    if any(has.get(key) != value for key, value in had.items()):
        yield fields.invalid("spec.nodeSelector", has, "only additions to spec.nodeSelector are allowed (no mutations or deletions)")
    yield from _narrowed(_terms(new), _terms(old))


def _narrowed(new: Sequence[Object], old: Sequence[Object]) -> Iterator[FieldError]:
    path = f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms"
    if not old:
        return
    if len(new) != len(old):
        yield fields.invalid(path, list(new), "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
        return
    for index, (term, before) in enumerate(zip(new, old, strict=True)):
        for part in ("matchExpressions", "matchFields"):
            had, has = before.get(part) or [], term.get(part) or []
            if has[: len(had)] != had or (not any(before.values()) and has):
                yield fields.invalid(f"{path}[{index}]", term, "only additions are allowed (no mutations or deletions)")
                break


def _terms(spec: Object) -> Sequence[Object]:
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED) or {}
    return required.get("nodeSelectorTerms") or ()


def without_nodes(spec: Object) -> Object:
    """Return a spec without what a gated pod may change: its nodeSelector and node affinity."""
    kept = {name: value for name, value in spec.items() if name not in ("nodeSelector", "affinity")}
    affinity = {name: value for name, value in (spec.get("affinity") or {}).items() if name != "nodeAffinity"}
    return {**kept, "affinity": affinity} if affinity else kept
