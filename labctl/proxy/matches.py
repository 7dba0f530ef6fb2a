"""The part of iptables that labctl's rules use, in Python: one line of iptables-save read into matches and a target.

Who calls it: the tracer. What it never does: guess. A match it doesn't know is `Unknown`, and the tracer says which line it was.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from random import Random

import msgspec


class Packet(msgspec.Struct, frozen=True):
    """One packet of a connection that nobody has seen before. `interface` is where it came in; empty: this machine made it."""

    source: str
    destination: str
    protocol: str = "tcp"
    port: int = 80
    interface: str = ""
    mark: int = 0
    translated: bool = False  # conntrack's state DNAT


class World(msgspec.Struct):
    """What a rule asks about besides the packet. `recent` remembers as xt_recent does: list -> source -> when.

    `decide` answers whether a rule with a probability is hit; without it the dice (`rng`) do.
    """

    local: frozenset[str]
    rng: Random
    now: float = 0.0
    recent: dict[str, dict[str, float]] = {}
    decide: Callable[[float], bool] | None = None

    def happens(self, probability: float) -> bool:
        return self.decide(probability) if self.decide is not None else self.rng.random() < probability

    def is_local(self, address: str) -> bool:
        return address in self.local or address.startswith("127.")


Match = Callable[[Packet, World], bool]


class Line(msgspec.Struct, frozen=True):
    """One rule. `options` are the target's."""

    text: str
    matches: tuple[Match, ...]
    target: str
    options: dict[str, str]
    goto: bool = False

    def hits(self, packet: Packet, world: World) -> bool:
        return all(match(packet, world) for match in self.matches)


class Unknown(ValueError):
    """A rule that this reader does not understand."""


@lru_cache(maxsize=50_000)
def read(text: str) -> Line:
    """Parse a line without its `-A CHAIN`."""
    words = iter(shlex.split(text))
    matches: list[Match] = []
    target, goto, options = "", False, {}
    negate = False
    for word in words:
        if word == "!":
            negate = True
            continue
        if word in ("-j", "-g"):
            target, goto = next(words), word == "-g"
            options = _options(words)
            break
        match = _match(word, words, text)
        if match is not None:
            matches.append(_not(match) if negate else match)
        negate = False
    return Line(text, tuple(matches), target, options, goto)


def _options(words: Iterator[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word
            options[name] = ""
        else:
            options[name] = word
    return options


def _not(match: Match) -> Match:
    return lambda packet, world: not match(packet, world)


def _match(word: str, words: Iterator[str], text: str) -> Match | None:
    """Parse the words of one match. Return None for words that match everything (`-m tcp`, a comment)."""
    if word == "-m":
        module = next(words)
        return _recent(words) if module == "recent" else None
    if word == "--comment" or word == "--mode":
        next(words)
        return None
    make = _MATCHES.get(word)
    if make is None:
        raise Unknown(f"{word} in {text}")
    return make(next(words))


def _address(field: str) -> Callable[[str], Match]:
    def make(value: str) -> Match:
        network = IPv4Network(value)
        return lambda packet, _world: IPv4Address(getattr(packet, field)) in network

    return make


def _ports(value: str) -> Match:
    first, _, last = value.partition(":")
    return lambda packet, _world: int(first) <= packet.port <= int(last or first)


def _mark(value: str) -> Match:
    want, _, mask = value.partition("/")
    wanted, bits = int(want, 16), int(mask or "0xffffffff", 16)
    return lambda packet, _world: packet.mark & bits == wanted


def _state(value: str) -> Match:
    states = value.split(",")
    return lambda packet, _world: "NEW" in states or (packet.translated and "DNAT" in states)


def _recent(words: Iterator[str]) -> Match:
    """Reads to the end of the match: `--set|--rcheck [--seconds N] [--reap] --name X --mask M --rsource`."""
    action, seconds, name = "", 0.0, ""
    for word in words:
        if word in ("--set", "--rcheck", "--update"):
            action = word
        elif word == "--seconds":
            seconds = float(next(words))
        elif word == "--name":
            name = next(words)
        elif word == "--mask":
            next(words)
        elif word == "--rsource":
            break

    def match(packet: Packet, world: World) -> bool:
        known = world.recent.setdefault(name, {})
        if action == "--set":
            known[packet.source] = world.now
            return True
        return packet.source in known and world.now - known[packet.source] <= seconds

    return match


_MATCHES: dict[str, Callable[[str], Match]] = {
    "-s": _address("source"),
    "-d": _address("destination"),
    "-p": lambda value: lambda packet, _world: packet.protocol == value,
    "-i": lambda value: lambda packet, _world: packet.interface == value,
    "-o": lambda value: lambda packet, _world: False,  # where it leaves is the route's affair: no rule of ours asks
    "--dport": _ports,
    "--mark": _mark,
    "--ctstate": _state,
    "--dst-type": lambda value: lambda packet, world: world.is_local(packet.destination) == (value == "LOCAL"),
    "--src-type": lambda value: lambda packet, world: world.is_local(packet.source) == (value == "LOCAL"),
    "--probability": lambda value: lambda _packet, world: world.happens(float(value)),
}
