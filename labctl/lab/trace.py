"""`labctl trace`: a packet to a Service, through the rules that a minion really has.

    master: whose address is it, what does the proxy want?     minion, over SSH: iptables-save -c, connections, addresses, routes
                    └──────────────► proxy/walk.py ◄──────────────┘

The rules are walked here and not in the master, because a machine's rules may be long, and whoever is root there writes them. Nothing is sent or changed.
"""

from __future__ import annotations

import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from labctl.decoding import from_values
from labctl.errors import LabctlError, UsageError
from labctl.lab.folder import LabFolder
from labctl.proxy.dump import BYTES_MAX, Dump
from labctl.proxy.frontends import Frontend
from labctl.proxy.matches import Packet, World
from labctl.proxy.walk import CONNECTIONS_MAX, Walk, walk
from labctl.proxy.ways import ways

NODES_ASKED = 5  # minions of endpoints whose policies are looked at
_ANSWER_S = 30.0
_MARK = "=== "  # in front of the name of each part of what a machine answers
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9][-.a-z0-9]{0,252}")
_RECENT_MAX = 100  # endpoints whose remembered clients are read


class Facts(msgspec.Struct, frozen=True):
    """What a machine said of itself."""

    dump: Dump
    local: frozenset[str]
    route: str  # the interface through which the machine reaches the client
    connections: tuple[str, ...] = ()
    recent: dict[str, frozenset[str]] = {}


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `client` is the minion or pod that asks; `what` says what the address is."""

    client: str
    what: str
    service: str
    mode: str
    programmed: bool
    affinity_s: int
    backends: tuple[dict[str, Any], ...]
    walk: Walk


def trace(lab: LabFolder, to: str, *, client: str = "", protocol: str = "tcp", namespace: str = "default") -> Traced:
    """Follow the first packet of a connection. `to` is ADDRESS[:PORT] or a Service, [NAMESPACE/]NAME[:PORT]; `client` a minion or [pod/][NAMESPACE/]NAME."""
    asked = _parsed(to, namespace) | {"protocol": protocol}
    where, address = _client(lab, client, namespace)
    wanted = _wanted(lab, asked, where)
    at = _minion_of(lab, wanted["to"]) or where  # an address of another minion is translated there
    if at != where:
        wanted = _wanted(lab, asked, at)
    frontend = from_values(wanted["frontend"], Frontend) if wanted["frontend"] else None
    facts = ask(lab, at, wanted, address)
    made_here = address in facts.local  # also by a pod in the minion's own network
    packet = Packet(address, wanted["to"], protocol, wanted["port"] or 80, "" if made_here else facts.route)
    walked = walk(at, packet, facts.dump, facts.local, frontend, wanted["rules"], facts.connections, facts.recent)
    if wanted["policies"] and frontend:
        walked = _with_policies(lab, walked, wanted, facts)
    return Traced(
        client=client or where,
        what=wanted["what"],
        service=frontend.id if frontend else "",
        mode=wanted["mode"],
        programmed=wanted["programmed"],
        affinity_s=frontend.affinity_s if frontend else 0,
        backends=tuple(msgspec.to_builtins(backend) for backend in frontend.serving) if frontend else (),
        walk=walked,
    )


# -- who asks, and whom ----------------------------------------------------------------------------------------------------------------


def _client(lab: LabFolder, client: str, namespace: str) -> tuple[str, str]:
    """Return the minion from which the packet starts, and its sender's address. Raises LabctlError if there is no such minion or pod."""
    if not client:
        names = sorted(node["metadata"]["name"] for node in lab.api.get("/api/v1/nodes")["items"])
        if not names:
            raise LabctlError("the lab has no minions", mend="labctl up")
        client = names[0]
    node = lab.api.find(f"/api/v1/nodes/{quote(client, safe='')}") if _SUBDOMAIN.fullmatch(client) else None
    if node is not None:
        return client, _node_address(node)
    space, slash, name = client.removeprefix("pod/").rpartition("/")
    space = space if slash else namespace
    if not _NAME.fullmatch(space) or not _SUBDOMAIN.fullmatch(name):
        raise UsageError(
            f"{client[:100]!r} is no minion and can't be the name of a pod", mend="write minion-1, web-7d4b9 or pod/shop/web-7d4b9"
        )
    pod = lab.api.find(f"/api/v1/namespaces/{quote(space, safe='')}/pods/{quote(name, safe='')}")
    if pod is None:
        raise LabctlError(f"there is no minion {client} and no pod {name} in namespace {space}")
    address, where = pod.get("status", {}).get("podIP", ""), pod["spec"].get("nodeName", "")
    if not address or not where:
        raise LabctlError(f"pod {space}/{name} has no address yet, so it sends nothing")
    return where, _ipv4(address, f"pod {space}/{name}")


def _node_address(node: dict[str, Any]) -> str:
    for one in node.get("status", {}).get("addresses", ()):
        if one["type"] == "InternalIP":
            return _ipv4(str(one["address"]), f"node {node['metadata']['name']}")
    raise LabctlError(f"node {node['metadata']['name']} has no address yet")


def _ipv4(address: str, whose: str) -> str:
    """Return the address, which whoever may write an object's status chose. Raises LabctlError if it is none of IPv4."""
    try:
        return str(IPv4Address(address))
    except ValueError:
        raise LabctlError(f"the address of {whose} is {address[:100]!r}, which is none of IPv4") from None


def _minion_of(lab: LabFolder, address: str) -> str:
    """Return the minion whose own address this is, or an empty text."""
    for node in lab.api.get("/api/v1/nodes")["items"]:
        if any(one["address"] == address for one in node.get("status", {}).get("addresses", ())):
            return str(node["metadata"]["name"])
    return ""


def _wanted(lab: LabFolder, asked: dict[str, str], minion: str) -> dict[str, Any]:
    return lab.api.get(f"/labctl/v1/wanted?{urlencode(asked | {'minion': minion})}")


def _parsed(to: str, namespace: str) -> dict[str, str]:
    """Return what the master is asked about: `to` or `service`, and `port` if one is named. Raises UsageError that says which part is malformed."""
    mend = "write 10.247.0.10:80, web-service or shop/web-service:80"
    where, colon, port = to.removeprefix("svc/").removeprefix("service/").partition(":")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65536):
        raise UsageError(f"{to[:100]!r}: {port[:100]!r} is no port, which is a number from 1 to 65535", mend=mend)
    at = {"port": port} if port else {}
    if re.fullmatch(r"[0-9.]*\.[0-9.]*", where):
        try:
            return {"to": str(IPv4Address(where)), **at}
        except ValueError:
            raise UsageError(f"{to[:100]!r}: {where[:100]!r} is no IPv4 address", mend=mend) from None
    space, slash, name = where.rpartition("/")
    for part, what in ((name, "Service"), *(((space, "namespace"),) if slash else ())):
        if not part:
            raise UsageError(f"{to[:100]!r} names no {what}", mend=mend)
        if not _NAME.fullmatch(part):
            raise UsageError(f"{to[:100]!r}: {part[:100]!r} can't be the name of a {what}", mend=mend)
    return {"service": where if slash else f"{namespace}/{where}", **at}


# -- what a machine says ---------------------------------------------------------------------------------------------------------------


def ask(lab: LabFolder, minion: str, wanted: dict[str, Any], client: str) -> Facts:
    """Read a machine's rules, connections, addresses and the way to the client. Raises LabctlError if it does not answer."""
    save = "iptables-save" if wanted["flavour"] == "auto" else f"iptables-{wanted['flavour']}-save"
    address = str(IPv4Address(wanted["to"]))
    source = str(IPv4Address(client))
    endpoints = sorted({line.split(" ")[1] for line in (wanted["rules"] or "").splitlines() if line.startswith("-A LABCTL-SEP-")})[
        :_RECENT_MAX
    ]
    script = f"""
echo '{_MARK}rules'; for table in nat filter; do {save} -c -t $table | head -c {BYTES_MAX // 2}; done
echo '{_MARK}addresses'; ip -o -4 address show | head -n 1000
echo '{_MARK}route'; ip -o -4 route get {source} | head -n 1
echo '{_MARK}connections'
if command -v conntrack >/dev/null; then conntrack -L -d {address} 2>/dev/null; else grep -s 'dst={address} ' /proc/net/nf_conntrack; fi | head -n {CONNECTIONS_MAX}
"""
    script += "".join(f"echo '{_MARK}recent {name}'; head -c 4096 /proc/net/xt_recent/{name} 2>/dev/null\n" for name in endpoints)
    parts = _parts(_run(lab, minion, script))
    local = frozenset(line.split()[3].partition("/")[0] for line in parts.get("addresses", ()) if len(line.split()) > 3)
    words = " ".join(parts.get("route", ())).split()
    route = words[words.index("dev") + 1] if "dev" in words[:-1] else "eth0"
    recent = {
        name.removeprefix("recent "): frozenset(line.split()[0].removeprefix("src=") for line in lines if line.startswith("src="))
        for name, lines in parts.items()
        if name.startswith("recent ") and lines
    }
    return Facts(Dump("\n".join(parts.get("rules", ()))), local, route, tuple(parts.get("connections", ())), recent)


def _run(lab: LabFolder, minion: str, script: str) -> str:
    """Run the script on the machine, and return at most BYTES_MAX bytes of what it answers."""
    child = subprocess.Popen(
        lab.ssh(minion, ("sh", "-c", script)),  # type: ignore[attr-defined]
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    timer = threading.Timer(_ANSWER_S, child.kill)
    timer.start()
    try:
        assert child.stdout is not None and child.stderr is not None
        data = child.stdout.read(BYTES_MAX + 1)
        if len(data) > BYTES_MAX:
            raise LabctlError(f"{minion} answers with more than {BYTES_MAX >> 20} MiB: its rules can't be followed")
        error = child.stderr.read(4096).decode(errors="replace").strip()
    finally:
        timer.cancel()
        child.kill()
        child.wait()
    if _MARK not in data.decode(errors="replace"):
        raise LabctlError(f"{minion} does not answer{': ' + error.splitlines()[-1] if error else ''}", mend="labctl status")
    return data.decode(errors="replace")


def _parts(text: str) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    part: list[str] = []
    for line in text.splitlines():
        if line.startswith(_MARK):
            part = parts.setdefault(line.removeprefix(_MARK), [])
        else:
            part.append(line)
    return parts


# -- policies of the pods that answer ------------------------------------------------------------------------------------------------------


def _with_policies(lab: LabFolder, walked: Walk, wanted: dict[str, Any], here: Facts) -> Walk:
    """Ask the endpoints' own minions whether a NetworkPolicy lets the packet in. It comes there from the client, or from the minion that masqueraded it."""
    nodes = sorted({end.node for end in walked.ends if end.node and end.node != walked.at})[:NODES_ASKED]

    def look(node: str) -> Facts | str:
        try:
            return ask(lab, node, wanted, walked.source)
        except LabctlError as error:
            return error.message

    with ThreadPoolExecutor(max(1, len(nodes))) as threads:
        facts: dict[str, Facts | str] = dict(zip(nodes, threads.map(look, nodes), strict=True))
    own = next((address for address in sorted(here.local) if not address.startswith("127.")), walked.source)
    ends = []
    for end in walked.ends:
        there = facts.get(end.node)
        if isinstance(there, Facts):
            source = own if end.masqueraded else walked.source
            packet = Packet(source, end.address, walked.protocol, end.port, there.route)
            verdicts = {way.trace.verdict for way in ways(there.dump, packet, World(local=there.local, rng=Random(0)))}
            end = msgspec.structs.replace(
                end, policy="let in" if verdicts == {"FORWARD"} else f"refused there ({', '.join(sorted(verdicts))})"
            )
        elif there is not None:
            end = msgspec.structs.replace(end, policy=f"not asked: {there}")
        ends.append(end)
    return msgspec.structs.replace(walked, ends=tuple(ends))
