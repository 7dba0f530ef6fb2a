"""A lab's settings: their names, their defaults, and where each value came from.

All are in one table (`OPTIONS`). A value comes from a flag, else the environment, else lab.yml, else what this lab was made with, else the
default.
This is the only module that reads the environment. Other rooms declare the frozen settings they need; `labctl.master` fills them from here.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl import defaults
from labctl.errors import UsageError
from labctl.experiments import documents
from labctl.lab import existing

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?$", re.IGNORECASE)
_UNIT = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
MINIONS_MAX = 200
KEPT = "kept since this lab was made"
MEMORY_MAX = 16 << 40
SECONDS_MAX = 1e9


def size(text: str) -> int:
    """Return the bytes of `1G`, `512M`, `1Gi` or `2048MB`. Units are powers of two, as hypervisors count memory.

    ValueError says what to write instead.
    """
    match = _SIZE.match(str(text).strip())
    if not match:
        raise ValueError("write a size such as 1G or 512M")
    return int(min(float(match[1]), 1e18) * _UNIT[match[2].upper()])


def _minions(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = -1
    if not 0 <= count <= MINIONS_MAX:
        raise ValueError(f"write a whole number from 0 to {MINIONS_MAX}")
    return count


def _memory(text: str) -> int:
    value = size(text)
    if value > MEMORY_MAX:
        raise ValueError("a minion can't have more than 16T")
    if value < 128 << 20:
        raise ValueError("a minion needs at least 128M")
    return value


def _cpus(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0.1 <= value <= 64:
        raise ValueError("write a number of CPUs from 0.1 to 64")
    return value


def _port(text: str) -> int:
    if not str(text).isdecimal() or int(text) > 65535:
        raise ValueError("write a port from 1 to 65535, or 0 for a free one")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(str(text).removesuffix("s"))
    except ValueError:
        value = -1
    if not 0 <= value <= SECONDS_MAX:
        raise ValueError("write a number of seconds")
    return value


def _range(text: str) -> str:
    try:
        return str(ipaddress.IPv4Network(text))
    except ValueError as error:
        raise ValueError(f"write an IPv4 range such as 10.247.0.0/16 ({error})") from error


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"write one of {', '.join(choices)}")
        return text

    return parse


def _mirrors(value: Any) -> dict[str, list[str]]:
    if not isinstance(value, dict) or not all(isinstance(v, str | list) for v in value.values()):
        raise ValueError("write a map from a registry's name to one or more addresses")
    return {str(name): [v] if isinstance(v, str) else [str(a) for a in v] for name, v in value.items()}


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text)) if text else ""
    except ValueError as error:
        raise ValueError(f"write an IPv4 address of this host ({error})") from None


def _yes(text: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if str(text).lower() not in words:
        raise ValueError("write true or false")
    return words[str(text).lower()]


@dataclass(frozen=True)
class Option:
    """One setting: its name in lab.yml (dots nest), the function that reads it, its default, what it is for, and its environment variables."""

    name: str
    parse: Callable[[Any], Any]
    default: Any
    help: str
    environment: tuple[str, ...] = ()
    kept: bool = False  # chosen once when the lab is made

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


OPTIONS: tuple[Option, ...] = (
    Option("minions", _minions, 2, "how many minions", ("NUM_MINIONS",)),
    Option("provider", _one_of("auto", "namespace", "vagrant", "ssh"), "auto", "what makes the machines", ("LABCTL_PROVIDER",), kept=True),
    Option("memory", _memory, 1 << 30, "memory of each minion", ("MINION_MEMORY",)),
    Option("cpus", _cpus, 1.0, "CPUs of each minion", ("MINION_CPUS",)),
    Option("box", str, "", "the VM box to boot from", ("LABCTL_BOX",)),
    Option("machines", existing.machines, [], "machines that exist already, for provider ssh: address, user, key, ..."),
    Option("prepare", _yes, False, "install missing packages on machines that exist already (apt-get)", ("LABCTL_PREPARE",)),
    Option("uplink", _one_of("auto", "direct", "reverse"), "auto", "how machines that exist already reach the master", kept=True),
    Option("master_address", _address, "", "this host's address as they reach it, with `uplink: direct`", kept=True),
    Option(
        "network",
        _one_of("route", "vxlan", "ovs", "bgp"),
        "route",
        "how pods reach each other across minions",
        ("LABCTL_NETWORK",),
        kept=True,
    ),
    Option(
        "proxy_mode",
        _one_of("iptables", "userspace"),
        "iptables",
        "how traffic to a Service's virtual IP is forwarded",
        ("LABCTL_PROXY_MODE",),
    ),
    Option("api_port", _port, 0, "the API's port on loopback; 0 takes a free one and keeps it", ("LABCTL_API_PORT",), kept=True),
    Option("addresses.machines", _range, defaults.MACHINE_NETWORK, "the machines' network; the master has its first address", kept=True),
    Option("addresses.pods", _range, defaults.POD_RANGE, "the pods' network, a /24 for each minion", kept=True),
    Option("addresses.services", _range, defaults.SERVICE_RANGE, "the Services' virtual addresses", kept=True),
    Option(
        "addresses.load_balancers",
        lambda text: _range(text) if text and text != "none" else text,
        "",
        "the addresses of Services of type LoadBalancer; by default the last 32 of the machines' network; none: they get none",
        kept=True,
    ),
    Option("audit", _yes, False, "write who asked what of the API into .labctl/log/audit.jsonl"),
    Option("mirrors", _mirrors, {}, "where images of a registry are pulled from instead"),
    Option(
        "timing",
        _one_of(*defaults.TIMINGS),
        defaults.TIMING,
        "how soon silent nodes are given up: kubernetes (40 s, then 300 s), lab (3 s; minions hear each other)",
        ("LABCTL_TIMING",),
    ),
    Option("nodes.lease_s", _seconds, defaults.LEASE_S, "how often an agent renews its lease, seconds"),
    Option("nodes.grace_s", _seconds, defaults.GRACE_S, "how long a lease may be silent before its node is Unknown, seconds"),
    Option("nodes.evict_s", _seconds, defaults.EVICT_S, "how long pods stay on a silent node, seconds"),
    Option(
        "nodes.ready_s",
        _seconds,
        0.0,
        "how long `labctl up` waits until a node is Ready, seconds; 0: 180, and 600 where machines are emulated",
        ("LABCTL_READY_S",),
    ),
    Option(
        "pods.drain_s",
        _seconds,
        defaults.DRAIN_S,
        "how long an ending pod waits at most until no minion sends it new connections, seconds; raise it for slow machines",
    ),
    Option("pods.backoff_s", _seconds, defaults.BACKOFF_S, "first back-off before a failed container is started again, seconds"),
)
BY_NAME = {option.name: option for option in OPTIONS}


@dataclass(frozen=True)
class Setting:
    value: Any
    source: str


class Settings:
    """Every option's value and its source. `settings["nodes.lease_s"]` is the value."""

    def __init__(self, values: Mapping[str, Setting]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name].value

    def source(self, name: str) -> str:
        return self._values[name].source

    def items(self) -> list[tuple[Option, Setting]]:
        return [(option, self._values[option.name]) for option in OPTIONS]

    def values(self) -> dict[str, Any]:
        return {name: setting.value for name, setting in self._values.items()}

    def kept(self) -> dict[str, Any]:
        return {option.name: self[option.name] for option in OPTIONS if option.kept}


def compose(flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None, kept: Mapping[str, Any]) -> Settings:
    """Find the value of every option. UsageError names the flag, variable or line of lab.yml that is wrong, and says how to mend it."""
    written = read_file(file) if file and file.exists() else {}
    found: dict[str, Setting] = {}
    for option in OPTIONS:
        found[option.name] = _resolve(option, flags, environment, written, kept)
    _follow_timing(found)
    if file and found["machines"].value:
        _follow_machines(found, file.parent)
    return Settings(found)


def _follow_timing(found: dict[str, Setting]) -> None:
    """Take the seconds that nobody set from the timing that was chosen."""
    chosen = found["timing"]
    timing = defaults.TIMINGS[chosen.value]
    for name, value in (("nodes.lease_s", timing.lease_s), ("nodes.grace_s", timing.grace_s), ("nodes.evict_s", timing.evict_s)):
        if found[name].source == "default" and chosen.source != "default":
            found[name] = Setting(value, f"timing {chosen.value}")


def _follow_machines(found: dict[str, Setting], folder: Path) -> None:
    """Take the number of minions from the list of machines, if lab.yml has one."""
    machines = found["machines"]
    found["machines"] = Setting(existing.place_keys(machines.value, folder), machines.source)
    if found["minions"].source == "default":
        found["minions"] = Setting(len(machines.value), f"{machines.source}: machines")


def _resolve(
    option: Option,
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    written: Mapping[str, tuple[Any, str]],
    kept: Mapping[str, Any],
) -> Setting:
    if flags.get(option.name) is not None:
        return _read(option, flags[option.name], f"flag {option.flag}")
    for variable in option.environment:
        if environment.get(variable):
            return _read(option, environment[variable], f"environment {variable}")
    if option.name in written:
        value, where = written[option.name]
        return _read(option, value, where)
    if option.name in kept:
        return Setting(kept[option.name], KEPT)
    return Setting(option.default, "default")


def _read(option: Option, value: Any, source: str) -> Setting:
    try:
        return Setting(option.parse(value), source)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{source}: {option.name} can't be {str(value)[:100]!r}", mend=str(error)) from None


def read_file(path: Path) -> dict[str, tuple[Any, str]]:
    """Return lab.yml as {option name: (value, "lab.yml line N")}. An unknown key is an error that suggests the nearest."""
    import yaml

    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file")  # a pipe would be waited for
    roots = documents.nodes(documents.text_of(path), path.name)
    if not roots:
        return {}
    root = roots[0]
    if len(roots) > 1 or not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{path.name} line 1: write settings as `name: value`")
    found: dict[str, tuple[Any, str]] = {}
    for name, node, line in _leaves(root, ""):
        where = f"{path.name} line {line}"
        if name not in BY_NAME:
            close = difflib.get_close_matches(name[:100], BY_NAME, 1)
            hint = f"did you mean `{close[0]}`?" if close else "`labctl config` lists what there is"
            raise UsageError(f"{where}: unknown setting `{name[:100]}`", mend=hint)
        if name in found:
            raise UsageError(f"{where}: `{name}` stands in {found[name][1]} already", mend="remove one of them")
        found[name] = (documents.value(node, where), where)
    return found


def _leaves(node: Any, prefix: str) -> Any:
    import yaml

    groups = {name.split(".")[0] for name in BY_NAME if "." in name}
    for key, value in node.value:
        name = prefix + str(key.value)
        if name in groups and isinstance(value, yaml.MappingNode):
            yield from _leaves(value, name + ".")
        else:
            yield name, value, key.start_mark.line + 1


def homes(environment: Mapping[str, str] | None = None) -> tuple[Path, Path]:
    """Return the folders for state and cache of this machine; paths.py describes them. They are absolute: a lab is used from other folders, too."""
    environment = os.environ if environment is None else environment
    found = []
    for name, for_root, for_others in (("STATE", "/var/lib", ".local/state"), ("CACHE", "/var/cache", ".cache")):
        if said := environment.get(f"LABCTL_{name}_HOME"):
            found.append(Path(said).absolute())
            continue
        xdg = environment.get(f"XDG_{name}_HOME", "")
        for_this_user = xdg if xdg.startswith("/") else Path(environment.get("HOME") or "/", for_others)
        found.append(Path(for_root if os.geteuid() == 0 else for_this_user, "labctl"))
    return found[0], found[1]


def proxies(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the usual proxy variables of the environment, for image pulls."""
    environment = os.environ if environment is None else environment
    names = ("http_proxy", "https_proxy", "no_proxy")
    return {name: value for name in names if (value := environment.get(name) or environment.get(name.upper()))}
