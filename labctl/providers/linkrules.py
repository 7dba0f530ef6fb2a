"""Breaks a machine's link from outside the machine, by rules on the host's end of it: the veth of a namespace machine, the tap of a virtual one.

    rules of one link ─► script() ─► one `sh`, in the network namespace of the link: nft (loss, cuts), tc (delay, rate, duplicates)

All rules of a link are written anew whenever one comes or goes, so the link has what the file beside the machine says, and nothing else. What the host sends on
its end is what the machine receives (`in`). What the machine sends (`out`) comes in there, where tc can't hold packets back; so it is led through an ifb device.
`try_out` writes the same rules on a link made for that in a network namespace of its own, so a kernel that lacks something is known before a machine is touched.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from labctl.decoding import from_json
from labctl.errors import ProviderError
from labctl.providers.protocol import LinkRule

Command = Sequence[str]
PROBE = "probe0"
HOLD_S = 0.2  # a rate limit keeps packets at most this long, then drops them
BURST_S = 0.02
BURST_MIN_BYTES = 5_000
UNLIMITED = "100gbit"
DEADLINE_S = 60.0  # an emulated machine loads the kernel's modules for the first rule
PER_MILLION = 1_000_000
RULES_FILE = "link_rules.json"


class Kept(msgspec.Struct, frozen=True):
    """The rules that a link has. `link` names the link and the boot of the machine: another boot has another link, without rules."""

    link: str
    device: str
    rules: dict[str, LinkRule]
    root: str = ""  # the queueing discipline that somebody had set on the device before: libvirt sets `noqueue`


def read(folder: Path) -> Kept | None:
    """Returns what was written last; None if there are no rules."""
    try:
        return from_json((folder / RULES_FILE).read_bytes(), Kept)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def change(folder: Path, link: str, device: str, inside: Command, tag: str, rule: LinkRule | None) -> None:
    """Gives the link `device` the rule `tag`, or takes it off (None). `inside` is the command that enters the link's network namespace.

    The file is written first: a process that is killed in between leaves a file from which the next change makes the link right.
    """
    kept = read(folder)
    if kept is None or kept.link != link:
        kept = Kept(link, device, {}, _root(device, inside))
    rules = dict(kept.rules)
    if rule is None:
        rules.pop(tag, None)
    else:
        rules[tag] = rule
    if rules:
        _write(folder, Kept(link, device, rules, kept.root))
    run(inside, script(device, rules, kept.root))
    if not rules:
        (folder / RULES_FILE).unlink(missing_ok=True)


def clear(folder: Path, inside: Command) -> None:
    """Takes off what may be left of a link's rules, also after the link is gone."""
    kept = read(folder)
    if kept:
        run(inside, script(kept.device, {}, kept.root))
        (folder / RULES_FILE).unlink(missing_ok=True)


def try_out(rules: Mapping[str, LinkRule]) -> str:
    """Returns why this host can't do these rules; empty if it can. It tries them on a link of its own, which is gone then."""
    made = f"ip link add {PROBE} type veth peer name probe1\nip link set {PROBE} up\n"
    try:
        run(["unshare", "--net", "--"], made + script(PROBE, rules))
    except ProviderError as error:
        return str(error)
    return ""


def run(inside: Command, text: str) -> None:
    """Runs the script. Raises ProviderError with the command that failed, and what it said."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*inside, "sh", "-ex"], input=text, text=True, capture_output=True, timeout=DEADLINE_S, env=environment, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise ProviderError(f"the link's rules could not be written in {DEADLINE_S:.0f} s") from None
    except OSError as error:
        raise ProviderError(f"{inside[0]}: {error.strerror}", mend="apt-get install util-linux") from None
    if done.returncode:
        raise _explained(done.stderr)


def script(device: str, rules: Mapping[str, LinkRule], root: str = "") -> str:
    """Returns the shell script that gives the device these rules, and takes off all others of ours. `root` is what it had before us."""
    lines = _nothing_left(device, root)
    filtered = [rule for rule in rules.values() if rule.what in ("cut", "loss")]
    shaped = [rule for rule in rules.values() if rule.what not in ("cut", "loss")]
    if filtered:
        lines.append(_filters(device, filtered))
    if arriving := [rule for rule in shaped if rule.direction != "out"]:
        lines += _shape(device, "src", arriving)
    if leaving := [rule for rule in shaped if rule.direction != "in"]:
        lines += [
            f"ip link add {_ifb(device)} type ifb",
            f"ip link set {_ifb(device)} up",
            f"tc qdisc add dev {device} handle ffff: ingress",
            f"tc filter add dev {device} parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev {_ifb(device)}",
            *_shape(_ifb(device), "dst", leaving),
        ]
    return "\n".join(lines) + "\n"


def _root(device: str, inside: Command) -> str:
    """Returns the kind of queueing discipline that somebody set on the device; empty if it has the kernel's own, whose handle is 0."""
    done = subprocess.run([*inside, "tc", "qdisc", "show", "dev", device, "root"], capture_output=True, text=True)
    found = re.match(r"qdisc (\w+) ([0-9a-f]+): root", done.stdout)
    return found[1] if found and found[2] != "0" and found[1] != "htb" else ""


def _nothing_left(device: str, root: str) -> list[str]:
    """Remove what may be left. Each command may have nothing to do; the device itself may be gone."""
    back = f"{{ tc qdisc del dev {device} root; tc qdisc add dev {device} root {root}; }}" if root else f"tc qdisc del dev {device} root"
    return [
        f"! command -v nft >/dev/null || ! nft list table netdev {_table(device)} >/dev/null 2>&1 || nft delete table netdev {_table(device)}",
        f"! ip link show {device} >/dev/null 2>&1 || ! tc qdisc show dev {device} | grep -q 'htb 1: root' || {back}",
        f"! ip link show {device} >/dev/null 2>&1 || ! tc qdisc show dev {device} | grep -q ingress || tc qdisc del dev {device} ingress",
        f"! ip link show {_ifb(device)} >/dev/null 2>&1 || ip link del {_ifb(device)}",
    ]


def _table(device: str) -> str:
    return f"labctl-{device}"


def _ifb(device: str) -> str:
    return f"if{device}"[:15]


def _filters(device: str, rules: Sequence[LinkRule]) -> str:
    """Returns the command that makes the table of cuts and losses. It comes as a whole, or not at all."""
    chains = []
    for name, hook, side in (("arriving", "egress", "in"), ("leaving", "ingress", "out")):
        drops = [_drop(rule, "saddr" if side == "in" else "daddr") for rule in rules if rule.direction in (side, "both")]
        if drops:
            body = "\n  ".join([f'type filter hook {hook} device "{device}" priority 0; policy accept;', *drops])
            chains.append(f" chain {name} {{\n  {body}\n }}")
    table = "\n".join([f"table netdev {_table(device)} {{", *chains, "}"])
    return f"nft -f - <<'END'\n{table}\nEND"


def _drop(rule: LinkRule, side: str) -> str:
    whose = f"ip {side} {{ {', '.join(rule.addresses)} }} " if rule.addresses else ""
    lost = "" if rule.what == "cut" or rule.share >= 1 else f"numgen random mod {PER_MILLION} < {round(rule.share * PER_MILLION)} "
    return f"{whose}{lost}counter drop"


def _shape(device: str, side: str, rules: Sequence[LinkRule]) -> list[str]:
    """Returns the commands that shape what leaves the device: a class for each group of peers. What no group has passes as it is."""
    lines = [f"tc qdisc replace dev {device} root handle 1: htb default 0"]
    groups = sorted({rule.addresses for rule in rules}, key=lambda addresses: (not addresses, addresses))
    for number, addresses in enumerate(groups, 1):
        lines.append(f"tc class add dev {device} parent 1: classid 1:{number} htb rate {UNLIMITED} quantum 60000")
        lines += _leaf(device, number, [rule for rule in rules if rule.addresses in (addresses, ())])
        matches = [f"protocol ip prio {number} u32 match ip {side} {address}" for address in addresses]
        for match in matches or [f"protocol all prio {number} u32 match u32 0 0"]:
            lines.append(f"tc filter add dev {device} parent 1: {match} flowid 1:{number}")
    return lines


def _leaf(device: str, number: int, rules: Sequence[LinkRule]) -> list[str]:
    """Returns the commands for what happens to the packets of one class: all its rules together."""
    lines, parent = [], f"1:{number}"
    rates = [rule.rate_bits for rule in rules if rule.what == "rate"]
    if rates:
        bits = min(rates)
        burst = max(BURST_MIN_BYTES, round(bits / 8 * BURST_S))
        lines.append(
            f"tc qdisc add dev {device} parent {parent} handle {number + 16:x}: tbf rate {round(bits)}bit burst {burst} "
            f"latency {round(HOLD_S * 1000)}ms"
        )
        parent = f"{number + 16:x}:1"
    delay_s, jitter_s = sum(rule.delay_s for rule in rules), sum(rule.jitter_s for rule in rules)
    twice = 1.0
    for rule in rules:
        twice *= 1 - rule.share if rule.what == "duplicate" else 1
    words = [f"delay {delay_s * 1e6:.0f}us {jitter_s * 1e6:.0f}us"] if delay_s or jitter_s else []
    words += [f"duplicate {(1 - twice) * 100:.4f}%"] if twice < 1 else []
    if words:
        lines.append(f"tc qdisc add dev {device} parent {parent} handle {number + 4096:x}: netem {' '.join(words)} limit 10000")
    return lines


def _explained(said: str) -> ProviderError:
    """Returns the error of a script that ran with `sh -x`: which command failed, and its own words."""
    lines = said.strip().splitlines()
    last = next((number for number in range(len(lines) - 1, -1, -1) if lines[number].startswith("+ ")), -1)
    command = lines[last][2:] if last >= 0 else "sh"
    words = " ".join(line.strip() for line in lines[last + 1 :])[:300] or "it failed"
    if " netem " in command and "unknown" in words:
        return ProviderError(
            "this host's kernel has no netem, which delays and duplicates packets", mend="modprobe sch_netem, or another kernel"
        )
    if "not found" in words or "No such file" in words and command.startswith("nft"):
        return ProviderError(f"{shlex.split(command)[0]} is not installed on this host", mend="apt-get install nftables iproute2")
    return ProviderError(f"this host can't do it: `{command[:120]}` says: {words}")


def _write(folder: Path, kept: Kept) -> None:
    temporary = folder / f".{RULES_FILE}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.encode(kept))
    os.replace(temporary, folder / RULES_FILE)
