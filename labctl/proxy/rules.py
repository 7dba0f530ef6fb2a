"""Second step: a Table and a machine's facts become Rules, through the templates in templates/proxy/.

The Proxy calls this for one Service at a time; tests call it for a whole table. Nothing here knows a machine's state or does I/O.
Where a machine lacks a feature, the rules use what it has, and `Rules.missing` says so; the Proxy makes a Warning Event of each sentence.
Names that come from objects are DNS labels by the API's own validation; they appear in comments only, and chains are named by hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from operator import is_
from typing import TYPE_CHECKING

import msgspec

from labctl import assets, defaults
from labctl.proxy import fencing
from labctl.proxy.chains import NO_RULES, Chains, Rules, chain_name, merge, parse, probability
from labctl.proxy.frontends import Backend, Frontend
from labctl.proxy.hostports import HostPort
from labctl.proxy.policies import Fence, Side

if TYPE_CHECKING:
    import jinja2


class Facts(msgspec.Struct, frozen=True):
    """The facts about one machine that its rules depend on."""

    node: str = ""
    address: str = ""  # the machine's own, in the lab's network
    recent: bool = True  # xt_recent works: session affinity
    random_fully: bool = True  # MASQUERADE --random-fully works
    log: bool = False  # NFLOG works: first packets are copied to the helper, which sends them again when an endpoint dies
    userspace: bool = False
    pod_range: str = defaults.POD_RANGE
    service_range: str = defaults.SERVICE_RANGE
    mark: int = 0x2000
    zone: str = ""


class _Choice(msgspec.Struct, frozen=True):
    address: str
    port: int
    chain: str
    probability: str


BASE = ""
"""The key in a table of the entry that belongs to no object."""


class Base(msgspec.Struct, frozen=True):
    """The rules that are there before the first Service. `minions` are the addresses of all machines, in order."""

    minions: tuple[str, ...] = ()


Entry = Frontend | Base | HostPort | Side | Fence
"""One thing that a table says: each sort of entry has a template of its own."""
Table = Mapping[str, tuple[Entry, ...]]
"""The entries by the key they are read for (table.py)."""


def rules(table: Table, facts: Facts) -> Rules:
    """Return all rules of a machine."""
    return merge(rules_of(entries, facts) for entries in ({BASE: (Base(),)} | dict(table)).values())


def base(facts: Facts, minions: tuple[str, ...] = ()) -> Rules:
    """Return the rules of the entry Base."""
    text = _template("base").render(
        service_range=facts.service_range, pod_range=facts.pod_range, mark=hex(facts.mark), minions=minions, log=facts.log
    )
    return parse(text if facts.random_fully else text.replace(" --random-fully", ""))


def rules_of(entries: tuple[Entry, ...], facts: Facts) -> Rules:
    """Return one key's rules: its own chains, and its lines in the shared chains. Of a Service it is one value for all machines whose facts have the same rules."""
    if len(entries) == 1:
        return _rules_of_one(entries[0], facts)
    if entries and isinstance(entries[0], Frontend):
        return _joined(_compiled(entries[0], facts), [_rules_of_one(entry, facts) for entry in entries])
    return merge(_rules_of_one(entry, facts) for entry in entries)


def _joined(first: _Rendered, parts: list[Rules]) -> Rules:
    """Return the rules of a Service's ports together, the first of which remembers them."""
    if len(first.parts) != len(parts) or not all(map(is_, first.parts, parts)):
        first.parts, first.joined = parts, merge(parts)
    return first.joined


def _rules_of_one(entry: Entry, facts: Facts) -> Rules:
    if isinstance(entry, Base):
        return base(facts, entry.minions)
    if isinstance(entry, HostPort):
        return _host_port(entry) if entry.node == facts.node else NO_RULES
    if isinstance(entry, Side):
        return fencing.rules_of(entry, _renderer) if facts.node in entry.nodes else NO_RULES
    if isinstance(entry, Fence):
        return fencing.rules_of(entry, _renderer) if entry.node == facts.node else NO_RULES
    return _compiled(entry, facts).rules


def _relevant(frontend: Frontend, facts: Facts) -> Facts:
    """Return the facts that this frontend's rules depend on, so that machines that differ only in other facts share one result."""
    if facts.userspace:
        return facts
    node = facts.node if frontend.internal_local or frontend.external_local or frontend.by_node else ""
    return msgspec.structs.replace(facts, node=node, zone=facts.zone if frontend.by_zone else "", address="")


class _Rendered:
    """The rules of one Service port as they were rendered last, and the chain of each of its endpoints."""

    def __init__(self, frontend: Frontend, rules: Rules, chains: dict[Backend, str]) -> None:
        self.frontend, self.rules, self.chains = frontend, rules, chains
        self.parts: list[Rules] = []
        self.joined = NO_RULES  # the rules of `parts`: those of all ports of the Service, if this is the first


_RENDERED_MAX = 20_000
_rendered: dict[tuple[str, str, str, Facts], _Rendered] = {}
"""Of each Service port the last rendering, for the other machines and the next change. Older ones are of no use, and those of a large Service are large."""


def _compiled(frontend: Frontend, facts: Facts) -> _Rendered:
    """Return the rules of one Service port."""
    facts = _relevant(frontend, facts)
    key = (frontend.service, frontend.name, frontend.protocol, facts)
    found = _rendered.get(key)
    if found is None or found.frontend != frontend:
        _rendered.pop(key, None)
        found = _rendered[key] = _render(frontend, facts, found)
        if len(_rendered) > _RENDERED_MAX:
            del _rendered[next(iter(_rendered))]
    return found


def _render(frontend: Frontend, facts: Facts, last: _Rendered | None = None) -> _Rendered:
    """Render one frontend.

    The template's sets of endpoints: `inside` answers the virtual IP, `outside` the node port and external addresses, `everywhere` those clients of the lab
    itself that ask the latter although the policy is Local. The chains of endpoints that were there in the `last` rendering are taken from it.
    """
    reached_outside = bool(frontend.node_port or frontend.external_addresses)
    close = frontend.close(facts.node, facts.zone)
    inside = frontend.near(facts.node) if frontend.internal_local else close
    outside = frontend.near(facts.node) if frontend.external_local else close
    everywhere = close if frontend.external_local else ()
    if not reached_outside:
        outside = everywhere = ()
    # a TCP reset is always sent; of ICMP errors the kernel sends six at once to one client, then one a second
    refusal = "REJECT --reject-with " + ("tcp-reset" if frontend.protocol == "TCP" else "icmp-port-unreachable")
    # with a policy of Local a load balancer outside asks the next minion, so this one must not say that nobody serves
    outside_refusal = "DROP" if frontend.external_local and frontend.serving else refusal
    chains = _chains(frontend, {*inside, *outside, *everywhere}, last)
    same = last is not None and last.frontend.affinity_s == frontend.affinity_s  # all else in them is part of an endpoint, or of the facts
    kept = {chain: lines for chain in chains.values() if (lines := last.rules.nat.owned.get(chain))} if last is not None and same else {}
    text = _template("userspace" if facts.userspace else "frontend").render(
        id=frontend.id,
        protocol=frontend.protocol.lower(),
        address=frontend.address,
        port=frontend.port,
        node_port=frontend.node_port,
        external_addresses=list(frontend.external_addresses),
        fenced_addresses=frontend.fenced_addresses,
        source_ranges=frontend.source_ranges,
        fence=chain_name("FWL", frontend.service, frontend.name, frontend.protocol),
        external_local=frontend.external_local,
        internal_local=frontend.internal_local,
        affinity_s=frontend.affinity_s if facts.recent else 0,
        inside=_choices(chains, inside),
        outside=_choices(chains, outside),
        everywhere=_choices(chains, everywhere),
        used=list({each.chain: each for each in _choices(chains, tuple(chains)) if each.chain not in kept}.values()),
        svc=chain_name("SVC", frontend.service, frontend.name, frontend.protocol),
        all=chain_name("ALL", frontend.service, frontend.name, frontend.protocol),
        ext=chain_name("EXT", frontend.service, frontend.name, frontend.protocol),
        refusal=refusal,
        outside_refusal=outside_refusal,
        pod_range=facts.pod_range,
        mark=hex(facts.mark),
        node_address=facts.address,
        local_port=frontend.local_port,
    )
    made = parse(text)
    nat = Chains({**made.nat.owned, **kept}, made.nat.shared)
    return _Rendered(frontend, Rules(nat, made.filter, _missing(frontend, facts)), chains)


def _chains(frontend: Frontend, backends: set[Backend], last: _Rendered | None) -> dict[Backend, str]:
    """Return the chain of each endpoint, in order. Hashing the names anew would be most of the work when one of hundreds changes."""
    known = last.chains if last is not None else {}
    name = partial(chain_name, "SEP", frontend.service, frontend.name, frontend.protocol)
    return {each: known.get(each) or name(each.address, each.port) for each in sorted(backends)}


@lru_cache(maxsize=20_000)
def _host_port(entry: HostPort) -> Rules:
    text = _template("hostport").render(
        pod=entry.pod,
        protocol=entry.protocol.lower(),
        address=entry.address,
        port=entry.port,
        pod_address=entry.pod_address,
        pod_port=entry.pod_port,
        chain=chain_name("HPT", entry.pod, entry.protocol, entry.address, entry.port),
    )
    return parse(text)


def _missing(frontend: Frontend, facts: Facts) -> tuple[str, ...]:
    if frontend.affinity_s and not facts.recent and not facts.userspace:
        return ("sessionAffinity ClientIP is ignored: this machine's kernel has no xt_recent",)
    if frontend.source_ranges and facts.userspace:
        return ("loadBalancerSourceRanges is ignored in userspace mode: everybody may use the load balancer's address",)
    return ()


def _choices(chains: Mapping[Backend, str], backends: tuple[Backend, ...]) -> list[_Choice]:
    count = len(backends)
    return [_Choice(each.address, each.port, chains[each], probability(count - n)) for n, each in enumerate(backends)]


@cache
def _template(name: str) -> jinja2.Template:
    import jinja2  # not on the way of a master's start

    folder = assets.template("proxy")
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.get_template(f"{name}.rules")


def _renderer(name: str) -> Callable[..., str]:
    return _template(name).render
