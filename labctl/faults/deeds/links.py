"""Faults of a machine's link to the lab's network, from outside the machine: cut, delay, jitter, loss, rate, duplicate.

Without a peer and a direction, `cut` pulls the cable. All others are rules on the host's end of the link; those with a peer concern the packets between the
target and that machine with its pods, or the master. They last until they are healed, or until the machine boots: then it has a new link.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from labctl.errors import LabctlError
from labctl.faults.deed import Site
from labctl.faults.deeds.power import OfOneBoot
from labctl.providers.protocol import LinkRule, LinkRules, Links, ability
from labctl.resources.faulttypes import PEER_MASTER
from labctl.resources.kinds.labctl_internal_v1.fault import Fault
from labctl.resources.plurals import NODES

A = TypeVar("A")


class LinkFault(OfOneBoot):
    types: Sequence[str] = ("cut", "delay", "jitter", "loss", "rate", "duplicate")

    def refuse(self, fault: Fault, site: Site) -> str:
        peer = fault.spec.peer
        if why_not := site.why_not_on(fault.machine):
            return why_not
        if peer and peer != PEER_MASTER and site.machine(peer) is None:
            return site.why_not_on(peer)
        if peer and not peer_addresses(peer, site):
            return f"nobody knows an address of {peer} yet"
        wanted = Links if _is_whole_cut(fault) else LinkRules
        if site.provider is None or ability(site.provider, wanted) is None:
            return f"provider {site.provider.name if site.provider else 'none'} can't break a machine's link"
        return ""

    async def probe(self, fault: Fault, site: Site) -> str:
        why_not = await super().probe(fault, site)
        if why_not or _is_whole_cut(fault):
            return why_not
        rule = link_rule(fault, site)
        tried: str = await site.blocking(lambda: _able(site, LinkRules).why_no_rule(rule))
        return tried

    def over(self, fault: Fault, site: Site) -> str:
        machine = site.machine(fault.machine)
        if machine is not None and machine.status.power == "Off":
            return f"{fault.machine} went off: it gets a new link when it boots"
        return super().over(fault, site)

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        name = fault.machine
        if _is_whole_cut(fault):
            await site.blocking(lambda: _able(site, Links).cut(name))
            return [f"the link of {name} was cut"]
        rule = link_rule(fault, site)
        await site.blocking(lambda: _able(site, LinkRules).add_rule(name, fault.metadata.uid, rule))
        return [f"{WORDS[fault.spec.type](fault)} {_which_packets(fault)}"]

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        name = fault.machine
        if _is_whole_cut(fault):
            await site.blocking(lambda: _able(site, Links).restore(name))
            return [f"the link of {name} is whole again"]
        await site.blocking(lambda: _able(site, LinkRules).remove_rule(name, fault.metadata.uid))
        return [f"the link of {name} has no rule of this fault any more"]


WORDS: Mapping[str, Callable[[Fault], str]] = {
    "cut": lambda _fault: "nothing passes of",
    "delay": lambda fault: f"{fault.spec.parameters['time']} are added to",
    "jitter": lambda fault: f"up to {fault.spec.parameters['time']} are added to",
    "loss": lambda fault: f"{fault.spec.parameters['share']} are lost of",
    "rate": lambda fault: f"no more than {fault.spec.parameters['rate']} pass of",
    "duplicate": lambda fault: f"{fault.spec.parameters['share']} come twice of",
}


def link_rule(fault: Fault, site: Site) -> LinkRule:
    """Returns what the provider has to do for this fault."""
    type_, half_s = fault.spec.type, fault.parameter("time", 0.0) / 2
    return LinkRule(
        what="delay" if type_ == "jitter" else type_,
        direction=fault.direction,
        addresses=peer_addresses(fault.spec.peer, site),
        share=fault.parameter("share", 0.0) if "share" in fault.type.parameters else 0.0,
        delay_s=half_s if type_ == "jitter" else 2 * half_s,
        jitter_s=half_s if type_ == "jitter" else fault.parameter("jitter", 0.0) if type_ == "delay" else 0.0,
        rate_bits=fault.parameter("rate", 0.0) if type_ == "rate" else 0.0,
    )


def peer_addresses(peer: str, site: Site) -> tuple[str, ...]:
    """Returns the addresses of the other end, with those of its pods; none without a peer."""
    if not peer:
        return ()
    if peer == PEER_MASTER:
        return (site.master_address,) if site.master_address else ()
    machine, node = site.machine(peer), site.view.get(NODES, peer)
    found = [machine.status.address if machine else ""]
    if node is not None:
        found += [each.address for each in node.status.addresses if each.type == "InternalIP"]
        found += node.spec.pod_cidrs or [node.spec.pod_cidr]
    return tuple(dict.fromkeys(each for each in found if each and ":" not in each))


def _is_whole_cut(fault: Fault) -> bool:
    return fault.spec.type == "cut" and not fault.spec.peer and fault.direction == "both"


def _which_packets(fault: Fault) -> str:
    name, peer = fault.machine, fault.spec.peer
    if fault.direction == "both":
        return f"the packets between {name} and {peer}" if peer else f"the packets of {name}, both ways"
    there, back = (peer or "everybody", name) if fault.direction == "in" else (name, peer or "everybody")
    return f"the packets from {there} to {back}"


def _able(site: Site, wanted: type[A]) -> A:
    found = ability(site.its_provider(), wanted)
    if found is None:
        raise LabctlError(f"provider {site.its_provider().name} can't break links")
    return found
