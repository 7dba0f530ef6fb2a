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
    controller = new.get("spec", {}).get("controller", "")
    if not controller:
        yield fields.required("spec.controller")
    elif len(controller) > 250:
        yield fields.too_long("spec.controller", 250)
    elif "/" not in controller or not all(controller.partition("/")[::2]):
        why = 'must be a domain-prefixed path (such as "acme.io/foo")'
        yield fields.invalid("spec.controller", controller, why)
    if old is not None and controller != old.get("spec", {}).get("controller", ""):
        yield fields.invalid("spec.controller", controller, "field is immutable")


def _parameters(class_: IngressClass, _now_s: float) -> str:
    parameters = class_.spec.parameters
    if parameters is None:
        return NONE
    return f"{parameters.kind}.{parameters.api_group}/{parameters.name}" if parameters.api_group else f"{parameters.kind}/{parameters.name}"


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
