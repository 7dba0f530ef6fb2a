"""IngressClass: the name of an ingress controller that Ingresses ask for. labctl stores it; a controller that somebody runs in the lab reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NONE
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed

IS_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_SCOPES = ("Cluster", "Namespace")
_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", re.ASCII)


class Parameters(msgspec.Struct, frozen=True, rename="camel", gc=False):
    api_group: str | None = None
    kind: str = ""
    name: str = ""


class IngressClassSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    controller: str = ""
    parameters: Parameters | None = None


class IngressClass(Viewed, frozen=True, rename="camel", gc=False):
    spec: IngressClassSpec = IngressClassSpec()

    @property
    def is_default(self) -> bool:
        return self.metadata.annotations.get(IS_DEFAULT) == "true"


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    controller = spec.get("controller", "")
    if len(controller) > 250:
        yield fields.too_long("spec.controller", 250)
    yield from _domain_path("spec.controller", controller)
    if spec.get("parameters") is not None:
        yield from _reference("spec.parameters", spec["parameters"])
    if old is not None and controller != old.get("spec", {}).get("controller", ""):
        yield fields.invalid("spec.controller", controller, "field is immutable")


def _domain_path(path: str, text: str) -> Iterator[FieldError]:
    """Check a name such as `example.com/ingress-controller`."""
    if not text:
        yield fields.required(path)
        return
    domain, _, rest = text.partition("/")
    if not domain or not rest:
        yield fields.invalid(path, text, 'must be a domain-prefixed path (such as "acme.io/foo")')
        return
    yield from names.checked(path, domain, names.subdomain)
    if not _PATH.fullmatch(rest):
        yield fields.invalid(path, rest, f"Invalid path (regex used for validation is '{_PATH.pattern}')")


def object_reference(path: str, said: Object) -> Iterator[FieldError]:
    """Check a reference to an object of any kind: that of an Ingress' backend, or of a class' parameters."""
    if said.get("apiGroup") is not None:
        yield from names.checked(f"{path}.apiGroup", said["apiGroup"], names.subdomain)
    for name in ("kind", "name"):
        if not said.get(name):
            yield fields.required(f"{path}.{name}", f"{name} is required")
        else:
            yield from names.checked(f"{path}.{name}", said[name], names.path_segment)


def _reference(path: str, said: Object) -> Iterator[FieldError]:
    yield from object_reference(path, said)
    scope, namespace = said.get("scope"), said.get("namespace")
    if scope not in _SCOPES:
        yield fields.not_supported(f"{path}.scope", scope, _SCOPES)
    elif scope == "Namespace" and not namespace:
        yield fields.required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")
    elif scope == "Namespace":
        yield from names.checked(f"{path}.namespace", namespace, names.label)
    elif namespace is not None:
        yield fields.forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'")


def _parameters(class_: IngressClass, _now_s: float) -> str:
    parameters = class_.spec.parameters
    if parameters is None:
        return NONE
    return f"{parameters.kind}.{parameters.api_group}/{parameters.name}" if parameters.api_group else f"{parameters.kind}/{parameters.name}"


def _name(class_: IngressClass, _now_s: float) -> str:
    return f"{class_.metadata.name} (default)" if class_.is_default else class_.metadata.name


KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="IngressClass",
    plural="ingressclasses",
    singular="ingressclass",
    namespaced=False,
    view=IngressClass,
    columns=(
        Column("Name", _name, format="name", description="Name must be unique."),
        Column("Controller", lambda class_, _now: class_.spec.controller, description="The controller that carries its Ingresses out."),
        Column("Parameters", _parameters, description="An object with the controller's settings."),
        AGE,
    ),
    validate=validate,
    type_defaults={"io.k8s.api.networking.v1.IngressClassParametersReference": TypeDefaults(absent={"scope": "Cluster"})},
    has_generation=True,
)
