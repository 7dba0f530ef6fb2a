"""The proxy's own share: 1,000 Services' rules, by the real helper on two minions, without SSH and API (proxy_rules.py measures more by itself)."""

from __future__ import annotations

import asyncio

from bench import proxy_rules
from bench.figures import Report

SERVICES = 1000


def measure(report: Report) -> None:
    found = asyncio.run(proxy_rules.measure("nft", "iptables", SERVICES))
    report.add("rules-full", found["full sync of one minion ms"])
    report.add("rules-repair", found["flush repaired ms"])
