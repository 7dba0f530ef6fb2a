"""PodTemplate: a pod's template as an object of its own. Nothing makes pods of it; programs keep templates in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labctl.resources.cells import AGE, NAME, joined, pairs
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed
from labctl.resources.kinds.core_v1 import pod_defaults, pod_rules, pod_warnings
from labctl.resources.kinds.core_v1.pod_view import PodTemplate as Template


class PodTemplate(Viewed, frozen=True, rename="camel", gc=False):
    template: Template = Template()


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    if old is None or new.get("template") != old.get("template"):
        yield from pod_rules.template("template", new.get("template") or {})


def warnings(new: Object, old: Object | None) -> Iterator[str]:
    if old is None or new.get("template") != old.get("template"):
        yield from pod_warnings.of_template("template", new.get("template") or {})


def _of(field: str) -> Any:
    return lambda view, _now: joined(getattr(container, field) for container in view.template.spec.containers)


KIND = Kind(
    group="",
    version="v1",
    kind="PodTemplate",
    plural="podtemplates",
    singular="podtemplate",
    namespaced=True,
    view=PodTemplate,
    columns=(
        NAME,
        Column("Containers", _of("name"), description="Names of each container in the template."),
        Column("Images", _of("image"), description="Images referenced by each container in the template."),
        Column("Pod Labels", lambda view, _now: pairs(view.template.metadata.labels), description="The labels for the pod template."),
        AGE,
    ),
    has_generation=True,
    validate=validate,
    warnings=warnings,
    type_defaults=pod_defaults.POD_TYPES,
)
