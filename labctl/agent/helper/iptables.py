"""The machine's iptables: finds out what it can do, writes our rules, reads them back, and notices when somebody else changed them.

methods.py calls it. It knows chains named LABCTL-* and the jumps to them, but no Service. Every change is one `iptables-restore --noflush`.
"""

from __future__ import annotations

import hashlib
import time
from typing import Dict, List, Optional, Sequence

from . import commands
from .stamp import LegacyStamp, NftStamp, Stamp

PREFIX = "LABCTL-"
SHARED = frozenset(("LABCTL-SERVICES", "LABCTL-NODEPORTS", "LABCTL-HOSTPORTS", "LABCTL-REJECT", "LABCTL-POLICY"))
BUILT_IN = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"))
OTHERS = frozenset(("LABCTL-NETWORK", "LABCTL-FORWARD", "LABCTL-INPUT"))
TABLES = ("filter", "nat")
FULL_CHECK_S = 60.0  # legacy only: an edit that changes no size is seen by reading all, this often
_LOCK = ("-w", "10")  # wait so long for the xtables lock
_PROBE = "*nat\n:LABCTL-PROBE - [0:0]\n%sCOMMIT\n*nat\n:LABCTL-PROBE - [0:0]\n-X LABCTL-PROBE\nCOMMIT\n"


class Iptables:
    """The machine's iptables. `flavour` is nft, legacy, or auto for the one that the machine's `iptables` command is. Raises Failed if there is none."""

    def __init__(self, flavour: str = "auto") -> None:
        infix = "" if flavour == "auto" else f"-{flavour}"
        self.command, self._restore, self._save = f"iptables{infix}", f"iptables{infix}-restore", f"iptables{infix}-save"
        self.version = commands.run([self.command, "--version"]).decode().strip()
        self.flavour = "nft" if "nf_tables" in self.version else "legacy"
        self._stamp = NftStamp() if self.flavour == "nft" else LegacyStamp()
        self._known: Optional[Stamp] = None
        self._checked = time.monotonic()
        self._told = ""

    def can(self, *rules: str) -> List[bool]:
        """Tell for each rule whether the kernel accepts it in the nat table.

        They are tried in a chain that nothing jumps to: first all together, then singly if that is refused.
        """
        with self.ours():
            if self._accepts(rules):
                return [True] * len(rules)
            return [self._accepts([rule]) for rule in rules]

    def _accepts(self, rules: Sequence[str]) -> bool:
        lines = "".join(f"-A LABCTL-PROBE {rule}\n" for rule in rules)
        return commands.attempt([self._restore, *_LOCK, "--noflush"], (_PROBE % lines).encode())[0] == 0

    def apply(self, rules: bytes, commits: int) -> None:
        """Apply rules that were checked, with so many `commits`. A table changes as a whole or not at all. Raises Failed with iptables' own words."""
        before = self._stamp.read()
        self._told = ""
        self.restore(rules.decode())
        after = self._stamp.read()
        foreseen = self._stamp.after(before, commits)
        if self._known in (None, before) and foreseen in (None, after):
            self._known = after
        # Otherwise somebody else changed the tables too. `look` will find a stamp that it does not know and read all rules.

    def restore(self, text: str) -> None:
        """Run iptables-restore with `text`, without flushing. Raises Failed."""
        commands.run([self._restore, *_LOCK, "--noflush"], text.encode())

    def ours(self) -> _Ours:
        """Return a context manager for changes of our own, so that `look` does not take them for somebody else's."""
        return _Ours(self)

    def dump(self) -> str:
        """Return `read()` and remember the tables' stamp, because the master will act on what it gets."""
        self._known = self._stamp.read()
        self._checked = time.monotonic()
        return self.read()

    def read(self) -> str:
        """Return our part of iptables-save, without counters: our chains and the jumps to them."""
        kept: List[str] = []
        for table in TABLES:
            kept.append(f"*{table}")
            for line in commands.run([self._save, "-t", table]).decode().splitlines():
                if PREFIX in line and line[0] in ":-":
                    kept.append(line.split(" [", 1)[0] + " [0:0]" if line[0] == ":" else line)
            kept.append("COMMIT")
        return "\n".join(kept) + "\n"

    def look(self) -> Optional[str]:
        """Return the digest of our rules if somebody may have changed them since the last look, else None. It is cheap when nobody did."""
        overdue = self.flavour == "legacy" and time.monotonic() - self._checked > FULL_CHECK_S
        if self._stamp.read() == self._known and not overdue:
            return None
        found = digest(self.dump())
        if found == self._told:
            return None
        self._told = found
        return found


class _Ours:
    def __init__(self, iptables: Iptables) -> None:
        self._iptables = iptables

    def __enter__(self) -> None:
        self._before = self._iptables._stamp.read()

    def __exit__(self, *_: object) -> None:
        if self._iptables._known == self._before:
            self._iptables._known = self._iptables._stamp.read()


def digest(dump: str) -> str:
    """Return a hash of all of the proxy's rules.

    The order counts inside a chain of ours, not in a chain that is shared. `chains.digest` in the master computes the same.
    """
    lines: List[str] = []
    counts: Dict[str, int] = {}
    table = ""
    for line in dump.splitlines():
        if line.startswith("*"):
            table = line
        elif line.startswith(":" + PREFIX) and line[1:].split(" ", 1)[0] not in OTHERS:
            lines.append(f"{table} {line.split(' ', 1)[0]}")
        elif line.startswith("-A "):
            chain, _, rest = line[3:].partition(" ")
            if not (_jumps_to_us(rest) if chain in BUILT_IN else chain.startswith(PREFIX) and chain not in OTHERS):
                continue
            place = counts[table + chain] = counts.get(table + chain, -1) + 1
            lines.append(f"{table} {chain} {'' if chain in SHARED or chain in BUILT_IN else place} {rest}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _jumps_to_us(rule: str) -> bool:
    target = rule.rpartition("-j ")[2]
    return target.startswith(PREFIX) and target not in OTHERS
