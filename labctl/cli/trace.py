"""The command `trace`: a packet's way through a minion's real rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from labctl.cli.lifecycle import with_master
from labctl.cli.output import many, output_option, print_json, print_table
from labctl.cli.quantities import Namespace
from labctl.cli.words import echo_line
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.lab.trace import Traced
    from labctl.proxy.walk import End, Passed


@click.command(
    epilog="""\b
Examples:
  labctl trace web-service
  labctl trace 10.247.0.10:80 --from minion-2
  labctl trace kube-system/kube-dns --protocol udp --from pod/web-7d4b9
  labctl trace 10.245.1.11:30080 -o json
"""
)
@click.argument("to", metavar="ADDRESS[:PORT]|[NAMESPACE/]SERVICE[:PORT]")
@click.option("--from", "client", default="", metavar="MINION|POD", help="who asks; without it the first minion")
@click.option("--protocol", type=click.Choice(["tcp", "udp", "sctp"]), default="tcp", help="of the packet")
@click.option("-n", "--namespace", type=Namespace(), default="default", help="the Service's and the pod's namespace")
@output_option
def trace(to: str, client: str, protocol: str, namespace: str, output: str) -> None:
    """Follow a new connection's first packet through the rules that a minion really has.

    Shows each chain, how probable each endpoint is, how many connections it got so far and has now, the way back, what policies say, and where the
    machine's rules differ from those that the proxy wants. Nothing is sent and nothing is changed.
    """
    import msgspec

    from labctl.lab.trace import trace as follow

    told = follow(with_master(Lab()), to, client=client, protocol=protocol, namespace=namespace)
    if output == "json":
        print_json(msgspec.to_builtins(told))
        return
    _show(told)


def _show(told: Traced) -> None:
    walk = told.walk
    whose = f"the {told.what} of Service {told.service}" if told.service else told.what
    echo_line(f"{walk.to}:{walk.port}/{walk.protocol} is {whose}; {told.client} asks as {walk.source}; the rules of {walk.at} decide.")
    for step in walk.steps:
        echo_line(f"  {_step(step)}")
    if len(walk.ends) > 1:
        rows = [_row(end) for end in walk.ends]
        print_table(("ENDPOINT", "POD", "MINION", "SHARE", "CONNECTIONS SO FAR", "NOW", "SENT AS"), rows)
    for end in walk.ends:
        if len(walk.ends) == 1:
            for step in end.steps:
                echo_line(f"  {_step(step)}")
            echo_line(_alone(told, end))
        if end.policy:
            echo_line(f"NetworkPolicies on {end.node}: {end.address} {end.policy}.")
    for line in _remarks(told):
        echo_line(line)


def _step(step: Passed) -> str:
    return f"{step.table} {step.chain}: {step.rule}   [{step.packets} packets, {step.bytes} bytes]"


def _row(end: End) -> tuple[str, ...]:
    share = f"{end.probability:.1%}" + (" (remembered)" if end.remembers_client else "")
    sent = "the minion" if end.masqueraded else "the client"
    place = f"{end.address}:{end.port}" if end.verdict == "FORWARD" else f"{end.verdict} {end.address}:{end.port}"
    return place, end.pod, end.node, share, str(end.new_connections), str(end.open_connections), sent


def _alone(told: Traced, end: End) -> str:
    """Say in a sentence how the only way ends."""
    if end.verdict in ("REJECT", "DROP"):
        return f"It is {'refused at once' if end.verdict == 'REJECT' else 'dropped without an answer'}."
    if end.verdict == "LOCAL":
        return f"It is delivered on {told.walk.at} itself, at {end.address}:{end.port}."
    pod = f" (pod {end.pod} on {end.node})" if end.pod else ""
    so_far = f"; {many(end.new_connections, 'connection')} so far, {end.open_connections} now"
    remembered = "; it was sent there before and is remembered" if end.remembers_client else ""
    return f"It goes to {end.address}:{end.port}{pod} as {'the minion' if end.masqueraded else 'the client'}{so_far}{remembered}."


def _remarks(told: Traced) -> list[str]:
    walk = told.walk
    lines = []
    if told.mode == "userspace" and told.backends and any(end.verdict == "LOCAL" for end in walk.ends):
        endpoints = ", ".join(f"{one['address']}:{one['port']}" for one in told.backends)
        lines.append(
            f"Userspace mode: a forwarder process on {walk.at} listens there, and connects to one of {endpoints} in turn, as the minion."
        )
    translated = [end for end in walk.ends if end.verdict == "FORWARD" and (end.address, end.port) != (walk.to, walk.port)]
    if translated:
        back = f"The way back: the endpoint's answers pass {walk.at}, whose connection tracking puts {walk.to}:{walk.port} in place of the endpoint's address"
        masqueraded = " and the client's address in place of the minion's" if any(end.masqueraded for end in translated) else ""
        lines.append(f"{back}{masqueraded}.")
    if told.affinity_s:
        lines.append(f"Session affinity: a client that comes again within {told.affinity_s} s is sent to the same endpoint.")
    lines += [f"Not understood, and passed over: {line} ({why})" for line, why in walk.unread.items()]
    if not walk.wanted:
        lines.append(f"The proxy has not reached {walk.at}, so nobody knows which rules it should have.")
    elif walk.differences:
        lines.append(f"The rules of {walk.at} differ from the wanted ones ({'-'} it lacks, + it has besides):")
        lines += [f"  {line}" for line in walk.differences]
    else:
        lines.append(f"The rules of {walk.at} are as wanted" + (", but newer ones are on their way." if not told.programmed else "."))
    return lines
