"""IngressClass: the name of an ingress controller that Ingresses ask for. labctl stores it; a controller that somebody runs in the lab reads it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME, NONE
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed


class Parameters(msgspec.Struct, frozen=True, rename="camel", gc=False):
    api_group: str | None = None
    kind: str = ""
    name: str = ""


class IngressClassSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    controller: str = ""
    parameters: Parameters | None = None


class IngressClass(Viewed, frozen=True, rename="camel", gc=False):
    spec: IngressClassSpec = IngressClassSpec()


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    said = new.get("spec", {}).get("controller", "")
    if not said:
        yield fields.required("spec.controller")
    elif len(said) > 250:
        yield fields.too_long("spec.controller", 250)
    elif "/" not in said or not all(said.partition("/")[::2]):
        why = 'must be a domain-prefixed path (such as "acme.io/foo")'
        yield fields.invalid("spec.controller", said, why)
    if old is not None and said != old.get("spec", {}).get("controller", ""):
        yield fields.invalid("spec.controller", said, "field is immutable")


def _parameters(class_: IngressClass, _now_s: float) -> str:
    said = class_.spec.parameters
    if said is None:
        return NONE
    return f"{said.kind}.{said.api_group}/{said.name}" if said.api_group else f"{said.kind}/{said.name}"


KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="IngressClass",
    plural="ingressclasses",
    singular="ingressclass",
    namespaced=False,
    view=IngressClass,
    columns=(
        NAME,
        Column("Controller", lambda class_, _now: class_.spec.controller, description="The controller that carries its Ingresses out."),
        Column("Parameters", _parameters, description="An object with the controller's settings."),
        AGE,
    ),
    validate=validate,
    has_generation=True,
)
