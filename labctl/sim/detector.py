"""How often silence is mistaken for death, and how long a real one goes unnoticed: the detector alone, event by event, for years of virtual time.

What is simulated, for a lab of a few minions: every renewal of a lease as TCP carries it (a first packet that is lost is repeated after a timeout that
doubles; the agent gives an attempt up after its own timeout and opens a new connection), every heartbeat as UDP carries it, each with the network's loss and
its jitter; minions that stand still for a while (a busy host); and the link between the master and one minion breaking. The judgement is the rule of
controllers/silence.py: silence towards the master for the grace period, and most of the peers that the master hears have heard nothing either.

A year has 63 million renewals of each minion, and almost all arrive within the second. An attempt with at most one lost packet can't keep the master waiting for
longer than a lease and a second, so for longer grace periods only attempts with two lost packets or more are drawn one by one, by how often they
occur; everything about them and the heartbeats around them is drawn. For grace periods that are shorter than that, every attempt is drawn, for a shorter time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from statistics import median

import msgspec

from labctl import defaults

YEAR_S, DAY_S = 365.25 * 86400.0, 86400.0
REPEAT_MIN_S = (
    0.2  # Linux repeats a packet after this plus the smoothed round trip and its variation, twice as long after each further loss
)
CONNECT_S = 1.0  # ... and the first packet of a connection after this
ROUND_TRIPS_ANEW = 3  # a new connection takes one, TLS one, the request one
ASK_AGAIN_S = 0.2  # how often the master asks the peers
RETRY_S = (0.14, 0.26)  # the agent's pause before it tries again


class Network(msgspec.Struct, frozen=True):
    """What goes wrong. Each packet is lost by itself; jitter is spread evenly."""

    loss: float = 0.05
    jitter_s: float = 0.2
    stalls_a_day: float = 0.0  # how often each minion stands still,
    stall_s: float = 1.0  # ... on average for so long (exponentially)
    cuts_a_day: float = 0.0  # how often the link between the master and one minion breaks,
    cut_s: float = 10.0  # ... on average for so long


class Rule(msgspec.Struct, frozen=True):
    """When a silent minion is given up."""

    lease_s: float
    grace_s: float
    peers: int = 0  # how many others are asked; 0: the master decides alone
    beat_s: float = 0.2
    deaf_s: float = 1.4
    timeout_s: float = 10.0  # the agent gives an attempt to renew up after this


LAB = Rule(
    lease_s=defaults.TIMINGS["lab"].lease_s,
    grace_s=defaults.TIMINGS["lab"].grace_s,
    peers=2,
    beat_s=defaults.TIMINGS["lab"].beat_s,
    deaf_s=defaults.TIMINGS["lab"].deaf_s,
    timeout_s=1.0,
)
"""`--timing lab` in a lab of three minions."""


def rule(grace_s: float, *, peers: int) -> Rule:
    """Return the rule with another grace period: the lease is renewed four times in it, as in Kubernetes, and peers are deaf after 70 % of it."""
    lease_s = grace_s / 4
    return Rule(lease_s, grace_s, peers, min(1.0, grace_s / 10), 0.7 * grace_s, min(10.0, max(1.0, 2 * lease_s)))


class Detector:
    """One minion, watched by the master and its peers."""

    def __init__(self, seed: int, network: Network, rule: Rule) -> None:
        self._rng = Random(seed)
        self._network, self._rule = network, rule
        self._first_repeat_s = REPEAT_MIN_S + 2 * network.jitter_s

    # -- false alarms ------------------------------------------------------------------------------------------------------------------

    def false_alarms(self, seconds: float) -> float:
        """Return how often a minion that lives was given up in this time."""
        return (
            self._by_loss(seconds)
            + sum(self._by_stall(s) for s in self._events(self._network.stalls_a_day, self._network.stall_s, seconds))
            + sum(self._by_cut(s) for s in self._events(self._network.cuts_a_day, self._network.cut_s, seconds))
        )

    def _events(self, a_day: float, mean_s: float, seconds: float) -> Iterator[float]:
        """Yield how long each event lasts that happens in this time."""
        at = 0.0
        while a_day and (at := at + self._rng.expovariate(a_day / DAY_S)) < seconds:
            yield self._rng.expovariate(1 / mean_s)

    def _by_stall(self, stall_s: float) -> int:
        """Return the false alarms of a minion that stands still: it renews no lease and sends no heartbeat, and the peers say so."""
        silent_s = self._rng.uniform(0, self._rule.lease_s) + stall_s + self._way()
        return int(silent_s >= self._rule.grace_s and (not self._rule.peers or stall_s >= self._rule.deaf_s))

    def _by_cut(self, cut_s: float) -> int:
        """Return the false alarms of a minion that its peers hear and the master does not reach. A cut longer than Kubernetes' 40 s is no false alarm."""
        silent_s = self._rng.uniform(0, self._rule.lease_s) + cut_s + self._anew()
        return int(silent_s >= self._rule.grace_s and (not self._rule.peers or self._deaf(silent_s)))

    def _by_loss(self, seconds: float) -> float:
        loss, rule = self._network.loss, self._rule
        attempts = int(seconds / rule.lease_s)
        severe = 1 - (1 - loss) ** 2 * (1 + 2 * loss)
        bound_s = rule.lease_s + self._first_repeat_s + 2 * self._network.jitter_s
        if not loss:
            return 0.0
        if rule.grace_s <= bound_s:
            return float(sum(self._is_alarm(self._renewal(0)) for _ in range(attempts)))
        alarms, at = 0, self._skip(severe)
        while at < attempts:
            alarms += self._is_alarm(self._renewal(2))
            at += self._skip(severe)
        return float(alarms)

    def _skip(self, probability: float) -> int:
        """Return the number of the next attempt that has what happens with this probability."""
        return 1 + int(math.log(1.0 - self._rng.random()) / math.log(1.0 - probability))

    def _losses(self, at_least: int) -> int:
        """Draw how many packets are lost until a request and its answer are through, given that there are so many at least."""
        loss, least = self._network.loss, at_least
        chance = self._rng.random() * self._tail(least)
        count = least
        while chance > (one := (count + 1) * loss**count * (1 - loss) ** 2) and count < 60:
            chance -= one
            count += 1
        return count

    def _tail(self, least: int) -> float:
        return 1 - sum((n + 1) * self._network.loss**n * (1 - self._network.loss) ** 2 for n in range(least))

    def _renewal(self, losses_at_least: int) -> float:
        """Draw how long the master waits between two renewals when the second is an attempt with so many losses."""
        rule, rng = self._rule, self._rng
        losses = self._losses(losses_at_least)
        of_request = rng.randint(0, losses)
        request_s = self._repeated(of_request) + self._way()
        answer_s = request_s + self._repeated(losses - of_request) + self._way()
        silent_s = rule.lease_s - self._way()
        if request_s <= rule.timeout_s:
            if answer_s <= rule.timeout_s:
                return silent_s + request_s
            return max(silent_s + request_s, rule.timeout_s - request_s + self._anew())  # it was heard, but the agent does not know
        return silent_s + rule.timeout_s + self._anew()

    def _repeated(self, losses: int) -> float:
        return self._first_repeat_s * (2.0**losses - 1)

    def _anew(self) -> float:
        """Draw how long it takes until a renewal arrives on a new connection."""
        passed_s = 0.0
        for _ in range(1000):
            passed_s += self._rng.uniform(*RETRY_S)
            took_s = sum(self._exchange(CONNECT_S if trip == 0 else self._first_repeat_s) for trip in range(ROUND_TRIPS_ANEW))
            if took_s <= self._rule.timeout_s:
                return passed_s + took_s
            passed_s += self._rule.timeout_s
        return passed_s

    def _exchange(self, repeat_s: float) -> float:
        """Draw how long a question and its answer take."""
        took_s = 0.0
        while self._rng.random() < 1 - (1 - self._network.loss) ** 2:
            took_s += repeat_s
            repeat_s *= 2
        return took_s + self._way() + self._way()

    def _way(self) -> float:
        return self._rng.uniform(0, self._network.jitter_s)

    def _is_alarm(self, silent_s: float) -> bool:
        return silent_s >= self._rule.grace_s and (not self._rule.peers or self._deaf(silent_s))

    def _deaf(self, silent_s: float) -> bool:
        """Tell whether most peers heard nothing, at one of the moments at which they are asked while the master waits."""
        looks = min(1000, int((silent_s - self._rule.grace_s) / ASK_AGAIN_S) + 1)
        return any(self._most_are_deaf() for _ in range(looks))

    def _most_are_deaf(self) -> bool:
        votes, peers = 0, self._rule.peers
        for asked in range(1, peers + 1):
            votes += self._is_deaf()
            if (votes + peers - asked) * 2 <= peers:
                return False
        return True

    def _is_deaf(self) -> bool:
        """Draw the heartbeats that one peer received before it made its last report, the newest first. They are drawn anew at each moment, so that
        a long silence of a peer is found too often rather than too seldom.
        """
        rng, rule = self._rng, self._rule
        sent_ago_s = rng.uniform(0, rule.beat_s)
        while True:
            arrived_ago_s = sent_ago_s - self._way()
            if arrived_ago_s >= 0 and rng.random() >= self._network.loss:
                return arrived_ago_s >= rule.deaf_s
            if sent_ago_s - self._network.jitter_s >= rule.deaf_s:
                return True
            sent_ago_s += rule.beat_s

    # -- outages -----------------------------------------------------------------------------------------------------------------------

    def outage_s(self, draws: int = 201) -> float:
        """Return the median time from a minion's end to the moment when it is given up."""
        rule = self._rule
        return median(max(rule.grace_s - self._rng.uniform(0, rule.lease_s), self._peers_know_s()) for _ in range(draws))

    def _peers_know_s(self) -> float:
        """Draw when enough reports of peers say it: they are deaf for a while, and report with their leases."""
        rule = self._rule
        if not rule.peers:
            return 0.0
        known = sorted(rule.deaf_s + self._way() + self._rng.uniform(0, rule.lease_s) + self._way() for _ in range(rule.peers))
        return known[rule.peers // 2]
