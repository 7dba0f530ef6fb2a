"""ServiceCIDR: a range of addresses for Services. `kubernetes` is the lab's own (setting `addresses.services`); further ones are only kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource
from labctl.resources.kinds.inert import at

OF_THE_LAB = "kubernetes"


def prepare(new: Object, old: Object | None) -> None:
    if old is not None:
        return
    new["status"] = {}
    if new["metadata"].get("name") == OF_THE_LAB:
        since = new["metadata"].get("creationTimestamp")
        message = "labctl gives Services addresses of this range"
        ready = {"type": "Ready", "status": "True", "reason": "", "message": message, "lastTransitionTime": since}
        new["status"] = {"conditions": [ready]}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    ranges = (new.get("spec") or {}).get("cidrs") or ()
    if not ranges:
        yield fields.required("spec.cidrs", "at least one CIDR required")
    elif len(ranges) > 2:
        yield fields.invalid("spec.cidrs", ranges, "may only hold up to 2 values")
    for index, text in enumerate(ranges[:2]):
        path = f"spec.cidrs[{index}]"
        errors = names.network(text)
        yield from (fields.invalid(path, text, why) for why in errors)
        if not errors and str(ip_network(text)) != text:
            yield fields.invalid(path, text, "must be in canonical form")
    if len(ranges) == 2 and not any(map(names.network, ranges)) and len({ip_network(text).version for text in ranges}) == 1:
        why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        yield fields.invalid("spec.cidrs", ranges, why)
    before = ((old or {}).get("spec") or {}).get("cidrs") or ()
    if old is not None and list(ranges[: len(before)]) != list(before):
        yield fields.invalid("spec.cidrs", ranges, "field is immutable")


def warnings(new: Object, old: Object | None) -> Iterable[str]:
    if old is None and new["metadata"].get("name") != OF_THE_LAB:
        yield "labctl stores a ServiceCIDR, but gives Services addresses of the lab's own range only"


KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="ServiceCIDR",
    plural="servicecidrs",
    singular="servicecidr",
    namespaced=False,
    view=GenericObject,
    columns=(NAME, Column("CIDRs", at("spec.cidrs"), description="The addresses."), AGE),
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=warnings,
)
