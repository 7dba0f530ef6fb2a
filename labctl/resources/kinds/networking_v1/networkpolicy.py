"""NetworkPolicy: says which connections to and from the selected pods are allowed. The proxy's rules enforce it on every minion (proxy/policies.py).

If no policy selects a pod for a direction, all connections of that direction are allowed. Otherwise those are allowed that at least one of its policies
allows. Ports of SCTP are stored, and stay closed: labctl's rules let only TCP and UDP through.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME, NONE
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds import workloads
from labctl.resources.kinds.core_v1.container_rules import PROTOCOLS, port_reference
from labctl.resources.selectors import Selector, of_json

CARRIED = ("TCP", "UDP")
"""Protocols that labctl's rules let through."""
INGRESS, EGRESS = "Ingress", "Egress"
_ABSENT = msgspec.Raw(b"null")
_MOST_LINES = 10_000
"""Kubernetes has no bound, but each minion takes a policy as that many rules."""
_PIECES = 24  # ranges that are left on average where one address is taken out of a large block


class IPBlock(msgspec.Struct, frozen=True, rename="camel", gc=False):
    cidr: str = ""
    except_: tuple[str, ...] = msgspec.field(default=(), name="except")


class Peer(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A peer of a rule. A missing selector is not the same as an empty one, which selects everything."""

    pod_selector: msgspec.Raw = _ABSENT
    namespace_selector: msgspec.Raw = _ABSENT
    ip_block: IPBlock | None = None

    def pods(self) -> Selector:
        """Returns the selector of the pods; without one, all pods of the selected namespaces are meant."""
        return of_json(bytes(self.pod_selector) if self.pod_selector != _ABSENT else b"{}")

    def namespaces(self) -> Selector | None:
        """Returns the selector of the namespaces; None means the policy's own namespace."""
        return of_json(bytes(self.namespace_selector)) if self.namespace_selector != _ABSENT else None


class PolicyPort(msgspec.Struct, frozen=True, rename="camel", gc=False):
    protocol: str = "TCP"
    port: int | str | None = None
    end_port: int | None = None


class IngressRule(msgspec.Struct, frozen=True, rename="camel", gc=False):
    ports: tuple[PolicyPort, ...] = ()
    peers: tuple[Peer, ...] = msgspec.field(default=(), name="from")


class EgressRule(msgspec.Struct, frozen=True, rename="camel", gc=False):
    ports: tuple[PolicyPort, ...] = ()
    peers: tuple[Peer, ...] = msgspec.field(default=(), name="to")

    @property
    def asks_any_pod(self) -> bool:
        """True if it has a named port, which is looked up in the pod that is asked, and any pod can be that: it names no peers, or a block of addresses."""
        named = any(isinstance(port.port, str) for port in self.ports)
        return named and (not self.peers or any(peer.ip_block is not None for peer in self.peers))


class NetworkPolicySpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    pod_selector: msgspec.Raw = msgspec.Raw(b"{}")
    ingress: tuple[IngressRule, ...] = ()
    egress: tuple[EgressRule, ...] = ()
    policy_types: tuple[str, ...] = (INGRESS,)


class NetworkPolicy(Viewed, frozen=True, rename="camel", gc=False):
    spec: NetworkPolicySpec = NetworkPolicySpec()

    def pods(self) -> Selector:
        """Returns the selector of the pods, in its own namespace, to which the policy applies."""
        return of_json(bytes(self.spec.pod_selector))

    @property
    def names_other_namespaces(self) -> bool:
        """True if pods of other namespaces can be among its peers, or are asked for the number of a named port."""
        rules: tuple[IngressRule | EgressRule, ...] = (*self.spec.ingress, *self.spec.egress)
        return any(peer.namespace_selector != _ABSENT for rule in rules for peer in rule.peers) or any(
            rule.asks_any_pod for rule in self.spec.egress
        )


# -- what may stand in it


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    yield from workloads.label_selector("spec.podSelector", spec.get("podSelector") or {}, may_be_empty=True)
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for number, rule in enumerate(spec.get(direction) or ()):
            at = f"spec.{direction}[{number}]"
            for index, port in enumerate(rule.get("ports") or ()):
                yield from _port(f"{at}.ports[{index}]", port)
            for index, peer in enumerate(rule.get(side) or ()):
                yield from _peer(f"{at}.{side}[{index}]", peer)
    if (lines := _lines(spec)) > _MOST_LINES:
        why = f"peers and ports of its rules make {lines} lines of a minion's rules, {_MOST_LINES} are allowed: use larger ranges, or fewer ports"
        yield fields.forbidden("spec", why)
    types = spec.get("policyTypes") or ()
    if len(types) > 2:
        yield fields.invalid("spec.policyTypes", list(types), "may not specify more than two policyTypes")
        return
    for index, type_ in enumerate(types):
        if type_ not in (INGRESS, EGRESS):
            yield fields.not_supported(f"spec.policyTypes[{index}]", type_, (EGRESS, INGRESS))


def warnings(new: Object, old: Object | None) -> Iterator[str]:
    """Tell of ports that a policy opens and the rules do not."""
    spec = new.get("spec") or {}
    if old is not None and spec == old.get("spec"):
        return
    for direction in ("ingress", "egress"):
        for number, rule in enumerate(spec.get(direction) or ()):
            for index, port in enumerate(rule.get("ports") or ()):
                if port.get("protocol", "TCP") not in CARRIED:
                    at = f"spec.{direction}[{number}].ports[{index}].protocol"
                    yield f"{at}: labctl's rules let only TCP and UDP through, so {port['protocol']} stays closed to the selected pods"


def _lines(spec: Object) -> int:
    """Estimate the lines that the blocks and ports of a policy become, each peer with each port; what is left of a block is several ranges."""
    lines = 0
    for side, name in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(side) or ():
            peers = rule.get(name) or ()
            pieces = sum(1 + _PIECES * len((peer.get("ipBlock") or {}).get("except") or ()) for peer in peers)
            lines += max(1, pieces) * max(1, len(rule.get("ports") or ()))
    return lines


def _port(at: str, port: Object) -> Iterator[FieldError]:
    if port["protocol"] not in PROTOCOLS:
        yield fields.not_supported(f"{at}.protocol", port["protocol"], PROTOCOLS)
    number, last = port.get("port"), port.get("endPort")
    if number is None:
        if last is not None:
            yield fields.invalid(f"{at}.endPort", last, "may not be specified when `port` is not specified")
        return
    yield from port_reference(f"{at}.port", number)
    if last is None:
        return
    if isinstance(number, str):
        yield fields.invalid(f"{at}.endPort", last, "may not be specified when `port` is non-numeric")
        return
    if last < number:
        yield fields.invalid(f"{at}.endPort", last, "must be greater than or equal to `port`")
    yield from names.checked(f"{at}.endPort", last, names.port)


def _peer(at: str, peer: Object) -> Iterator[FieldError]:
    chosen = [name for name in ("podSelector", "namespaceSelector") if peer.get(name) is not None]
    for name in chosen:
        yield from workloads.label_selector(f"{at}.{name}", peer[name], may_be_empty=True)
    block = peer.get("ipBlock")
    if block is not None:
        yield from _block(f"{at}.ipBlock", block)
        if chosen:
            yield fields.forbidden(at, "may not specify both ipBlock and another peer")
    elif not chosen:
        yield fields.required(at, "must specify a peer")


def _block(at: str, block: Object) -> Iterator[FieldError]:
    cidr = block.get("cidr", "")
    if not cidr:
        yield fields.required(f"{at}.cidr")
        return
    wrong = list(names.checked(f"{at}.cidr", cidr, names.network))
    yield from wrong
    for index, left_out in enumerate(block.get("except") or ()):
        errors = list(names.checked(f"{at}.except[{index}]", left_out, names.network))
        yield from errors
        if not errors and not wrong and not _strictly_within(left_out, cidr):
            yield fields.invalid(f"{at}.except[{index}]", left_out, "must be a strict subset of `cidr`")


def _strictly_within(small: str, big: str) -> bool:
    one, other = ip_network(small), ip_network(big)
    return one.version == other.version and one != other and one.subnet_of(other)  # type: ignore[arg-type]


def _policy_types(spec: Object) -> None:
    if not spec.get("policyTypes"):
        spec["policyTypes"] = [INGRESS, EGRESS] if spec.get("egress") else [INGRESS]


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Pod-Selector", lambda policy, _now: str(policy.pods()) or NONE, description="Which pods it is about."),
    AGE,
)

KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="NetworkPolicy",
    plural="networkpolicies",
    singular="networkpolicy",
    namespaced=True,
    view=NetworkPolicy,
    short_names=("netpol",),
    columns=COLUMNS,
    validate=validate,
    warnings=warnings,
    has_generation=True,
    type_defaults={
        "io.k8s.api.networking.v1.NetworkPolicyPort": TypeDefaults(absent={"protocol": "TCP"}),
        "io.k8s.api.networking.v1.NetworkPolicySpec": TypeDefaults(function=_policy_types),
    },
)
