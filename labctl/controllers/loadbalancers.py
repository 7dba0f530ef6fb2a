"""Gives Services of type LoadBalancer their addresses, out of a range of the lab's own network; network/announce.py lets a minion answer them.

One plan deals with all Services, so that no address is given twice. A Service keeps its address as long as its type needs one. Services with a
`loadBalancerClass` belong to somebody else's controller and are left alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from random import Random

from labctl.controllers.indexes import SERVICES
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import NOTHING, Action, Index, Key, Patch, Plan, Record, Seen, View
from labctl.resources.kinds.core_v1.service import Service

ALL = "addresses"
AT_ONCE = 200


class LoadBalancers:
    """The controller that the module's docstring describes. Its only key stands for the whole range."""

    name = "service-lb-controller"
    kind = SERVICES

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._range = ipaddress.IPv4Network(settings.load_balancers) if settings.load_balancers else None
        self.watches = {SERVICES: _concerned}
        self.indexes: Mapping[tuple[str, str], Index] = {(SERVICES, "balanced"): _balanced}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        services: list[Service] = [each for each in view.by(SERVICES, "balanced", ALL) if each.metadata.deletion_timestamp is None]
        if self._range is None or not services:
            return NOTHING
        wanting = [each for each in services if wants_address(each)]
        taken = {ip: each.metadata.key for each in wanting for ip in _addresses(each) if self._serves(each, ip)}
        actions: list[Action] = []
        for service in services[: AT_ONCE * 50]:
            actions += self._one(service, taken)
            if len(actions) >= AT_ONCE:
                return Plan(actions, 0.0)
        return Plan(actions)

    def _serves(self, service: Service, address: str) -> bool:
        """Tell whether a Service may keep this address: it is in the range, and it is the one that was asked for, if any was."""
        asked = service.spec.load_balancer_ip
        return self._range is not None and ipaddress.IPv4Address(address) in self._range and asked in ("", address)

    def _one(self, service: Service, taken: dict[str, Key]) -> Iterator[Action]:
        key, had = service.metadata.key, _addresses(service)
        if not wants_address(service):
            if had and service.spec.type != "LoadBalancer":
                yield Patch(
                    SERVICES, key, {"status": {"loadBalancer": {"ingress": None}}}, "status", why="its type needs no load balancer any more"
                )
            return
        if any(taken.get(ip) == key for ip in had):
            return
        given, trouble = self._free(service, taken)
        if trouble:
            yield Record(SERVICES, key, "SyncLoadBalancerFailed", f"Error syncing load balancer: {trouble}", "Warning")
            if had:
                yield Patch(SERVICES, key, {"status": {"loadBalancer": {"ingress": None}}}, "status")
            return
        taken[given] = key
        event = Record(SERVICES, key, "EnsuredLoadBalancer", "Ensured load balancer")
        ingress = [{"ip": given, "ipMode": "VIP"}]
        yield Patch(SERVICES, key, {"status": {"loadBalancer": {"ingress": ingress}}}, "status", why=f"its address is {given}", event=event)

    def _free(self, service: Service, taken: Mapping[str, Key]) -> tuple[str, str]:
        """Return the address that was asked for, or the first free one; else why there is none."""
        assert self._range is not None
        asked = service.spec.load_balancer_ip
        if asked:
            if asked in taken:
                return "", f"address {asked} is already in use by service {taken[asked]}"
            if _parsed(asked) not in self._range:
                return "", f"address {asked} is not in the range {self._range}"
            return asked, ""
        free = next((str(each) for each in self._range.hosts() if str(each) not in taken), "")
        return free, "" if free else f"no address is left in the range {self._range}"


def wants_address(service: Service) -> bool:
    return service.spec.type == "LoadBalancer" and not service.spec.load_balancer_class


def _addresses(service: Service) -> list[str]:
    return [each.ip for each in service.status.load_balancer.ingress if _parsed(each.ip)]


def _parsed(text: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


def _balanced(service: Service) -> Iterable[str]:
    """Services that have, or want, an address of a load balancer."""
    return (ALL,) if service.spec.type == "LoadBalancer" or service.status.load_balancer.ingress else ()


def _concerned(_view: View, seen: Seen) -> Iterable[Key]:
    if any(each is not None and (each.spec.type == "LoadBalancer" or each.status.load_balancer.ingress) for each in (seen.old, seen.new)):
        yield ALL
