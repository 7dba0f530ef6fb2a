"""The kinds that make pods from a template share this module: rules of templates and selectors, columns, and the fields of a Scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from labctl.decoding import ready
from labctl.resources import fields
from labctl.resources.cells import joined
from labctl.resources.fields import not_negative as not_negative
from labctl.resources.kind import Column, FieldError, Object
from labctl.resources.kinds.core_v1 import pod_rules, pod_warnings
from labctl.resources.kinds.core_v1.pod_view import PodTemplate
from labctl.resources.kinds.selector_rules import label_selector as label_selector
from labctl.resources.selectors import from_object

decode_template = msgspec.json.Decoder(ready(PodTemplate)).decode


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """True if a LabelSelector, which may be invalid, matches these labels."""
    try:
        return from_object(selector).matches(labels)
    except ValueError:
        return False


def template(kind: str, spec: Mapping[str, Any], matches: bool | None) -> Iterator[FieldError]:
    """Validates spec.template for kinds whose pods run for ever. `matches` says whether the selector matches the template's labels (None: not known)."""
    path = "spec.template"
    given = spec.get("template")
    if given is None:
        yield fields.required(path)
        return
    labels = given.get("metadata", {}).get("labels", {})
    if matches is False:
        yield fields.invalid(f"{path}.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from pod_rules.template(path, given)
    pod = given.get("spec")
    if pod is None:
        return
    if pod["restartPolicy"] in ("Never", "OnFailure"):
        yield fields.not_supported(f"{path}.spec.restartPolicy", pod["restartPolicy"], ("Always",))
    if "activeDeadlineSeconds" in pod:
        yield fields.forbidden(f"{path}.spec.activeDeadlineSeconds", f"activeDeadlineSeconds in {kind} is not Supported")


def labelled_template(spec: Object, selector: Mapping[str, Any] | None) -> bool | None:
    """Returns the argument `matches` of `template` for kinds with a LabelSelector."""
    if selector is None:
        return False  # as if it selected nothing
    return selects(selector, (spec.get("template") or {}).get("metadata", {}).get("labels", {}))


def template_warnings(new: Object, old: Object | None) -> Iterator[str]:
    if old is None or new["spec"] != old["spec"]:
        yield from pod_warnings.of_template("spec.template", new["spec"].get("template") or {})


def named_template_warnings(new: Object, old: Object | None) -> Iterator[str]:
    """As template_warnings, for kinds whose pods are named after them, and may have names that no host name can be."""
    if old is None:
        yield from pod_warnings.of_name(new["metadata"].get("name", ""))
    yield from template_warnings(new, old)


def selector_immutable(new: Object, old: Object | None) -> Iterator[FieldError]:
    if old is not None and new["spec"].get("selector") != old["spec"].get("selector"):
        yield fields.invalid("spec.selector", new["spec"].get("selector"), "field is immutable")


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """Formats a LabelSelector as in a query, for a Scale's status and the Selector column."""
    if not selector:
        return ""
    try:
        return str(from_object(selector))
    except ValueError:
        return ""


def scale_selector(obj: Object) -> str:
    return selector_text(obj["spec"].get("selector"))


def _containers(view: Any, _now_s: float) -> str:
    return joined(container.name for container in view.spec.pod_template().spec.containers)


def _images(view: Any, _now_s: float) -> str:
    return joined(container.image for container in view.spec.pod_template().spec.containers)


def _selector(view: Any, _now_s: float) -> str:
    return str(view.pod_selector) or "<none>"


CONTAINERS = Column("Containers", _containers, priority=1, description="Names of each container in the template.")
IMAGES = Column("Images", _images, priority=1, description="Images referenced by each container in the template.")
SELECTOR = Column("Selector", _selector, priority=1, description="Which pods it counts.")
