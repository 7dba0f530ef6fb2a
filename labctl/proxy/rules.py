"""Second step: a Table and a machine's facts become Rules, through the templates in templates/proxy/.

Who calls it: the Proxy, per Service and per sort of machine; tests and the tracer, for all. Nothing here knows a machine's state or does I/O.
What the machine can't do falls back to what it can, and says so in `Rules.missing`, which becomes a Warning Event.
Names that come from objects are DNS labels by the API's own validation; they appear in comments only, chains are named by hashes.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

import msgspec

from labctl import assets
from labctl.proxy.chains import Rules, chain_name, merge, parse, probability
from labctl.proxy.frontends import Backend, Frontend, Table

if TYPE_CHECKING:
    import jinja2


class Facts(msgspec.Struct, frozen=True):
    """What the rules of one machine depend on."""

    node: str = ""
    address: str = ""  # the machine's own, in the lab's network
    recent: bool = True  # xt_recent works: session affinity
    random_fully: bool = True  # MASQUERADE --random-fully works
    userspace: bool = False
    pod_range: str = "10.246.0.0/16"
    service_range: str = "10.247.0.0/16"
    mark: int = 0x2000


class _Choice(msgspec.Struct, frozen=True):
    address: str
    port: int
    chain: str
    probability: str


def rules(table: Table, facts: Facts) -> Rules:
    """All rules of a machine."""
    return merge([base(facts), *(rules_of(frontends, facts) for frontends in table.values())])


def base(facts: Facts) -> Rules:
    """What is there before the first Service."""
    text = _template("base").render(service_range=facts.service_range, mark=hex(facts.mark))
    return parse(text if facts.random_fully else text.replace(" --random-fully", ""))


def rules_of(frontends: tuple[Frontend, ...], facts: Facts) -> Rules:
    """One Service's rules: its own chains, and its lines in the shared ones."""
    return merge(_compiled(frontend, _relevant(frontend, facts)) for frontend in frontends)


def _relevant(frontend: Frontend, facts: Facts) -> Facts:
    """Machines that differ only in what this frontend doesn't depend on share one rendering."""
    if facts.userspace:
        return facts
    node = facts.node if frontend.internal_local or frontend.external_local else ""
    return msgspec.structs.replace(facts, node=node, address="")


@lru_cache(maxsize=20_000)
def _compiled(frontend: Frontend, facts: Facts) -> Rules:
    inside = frontend.near(facts.node) if frontend.internal_local else frontend.backends
    outside = _outside(frontend, facts)
    affinity_s = frontend.affinity_s if facts.recent else 0
    used = inside if len(inside) >= len(outside) else outside
    # a reset is never held back, as the kernel does with ICMP: six at once to one client, then one a second
    refusal = "REJECT --reject-with " + ("tcp-reset" if frontend.protocol == "TCP" else "icmp-port-unreachable")
    # with a policy of Local, nobody here is no reason to tell the client that nobody is anywhere: the balancer outside asks the next minion
    outside_refusal = "DROP" if frontend.external_local and frontend.backends else refusal
    text = _template("userspace" if facts.userspace else "frontend").render(
        id=frontend.id,
        protocol=frontend.protocol.lower(),
        address=frontend.address,
        port=frontend.port,
        node_port=frontend.node_port,
        external_addresses=list(frontend.external_addresses),
        external_local=frontend.external_local,
        affinity_s=affinity_s,
        inside=_choices(frontend, inside),
        outside=_choices(frontend, outside),
        choices=_choices(frontend, used),
        svc=chain_name("SVC", frontend.service, frontend.name, frontend.protocol),
        ext=chain_name("EXT", frontend.service, frontend.name, frontend.protocol),
        refusal=refusal,
        outside_refusal=outside_refusal,
        pod_range=facts.pod_range,
        node_address=facts.address,
        local_port=frontend.local_port,
    )
    return msgspec.structs.replace(parse(text), missing=_missing(frontend, facts))


def _outside(frontend: Frontend, facts: Facts) -> tuple[Backend, ...]:
    if not (frontend.node_port or frontend.external_addresses):
        return ()
    return frontend.near(facts.node) if frontend.external_local else frontend.backends


def _missing(frontend: Frontend, facts: Facts) -> tuple[str, ...]:
    if frontend.affinity_s and not facts.recent and not facts.userspace:
        return ("sessionAffinity ClientIP is ignored: this machine's kernel has no xt_recent",)
    return ()


def _choices(frontend: Frontend, backends: tuple[Backend, ...]) -> list[_Choice]:
    count = len(backends)
    return [
        _Choice(
            b.address,
            b.port,
            chain_name("SEP", frontend.service, frontend.name, frontend.protocol, b.address, b.port),
            probability(count - n),
        )
        for n, b in enumerate(backends)
    ]


@cache
def _template(name: str) -> jinja2.Template:
    import jinja2  # not on the way of a master's start

    folder = assets.template("proxy")
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.get_template(f"{name}.rules")
