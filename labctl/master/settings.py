"""What the master needs to know, from the lab's record (`.labctl/lab.json`), and how each room's settings follow from it."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import msgspec

from labctl import defaults
from labctl.controllers.settings import ControllerSettings
from labctl.decoding import from_json
from labctl.dns.settings import DnsSettings
from labctl.errors import LabctlError
from labctl.machines.settings import MachinesSettings
from labctl.network.network import plugin, pod_mtu
from labctl.network.settings import NetworkSettings
from labctl.paths import Paths
from labctl.proxy.settings import ProxySettings
from labctl.resources.settings import ResourceSettings

TUNNEL_ADDRESS = "192.0.2.1"  # reserved for documentation (RFC 5737), so no real network uses it
API_PORT = 6443  # inside the lab's own network; on loopback the port is another one


class Values(msgspec.Struct, frozen=True):
    """The lab's settings, as `labctl.lab.settings` composed them."""

    minions: int = 0
    provider: str = ""
    network: str = "route"
    proxy_mode: str = "iptables"
    api_port: int = 0
    machines: str = msgspec.field(default=defaults.MACHINE_NETWORK, name="addresses.machines")
    pods: str = msgspec.field(default=defaults.POD_RANGE, name="addresses.pods")
    services: str = msgspec.field(default=defaults.SERVICE_RANGE, name="addresses.services")
    load_balancers: str = msgspec.field(default="", name="addresses.load_balancers")
    audit: bool = False
    mirrors: dict[str, list[str]] = {}
    existing: list[dict[str, Any]] = msgspec.field(default_factory=list, name="machines")
    prepare: bool = False
    uplink: str = "auto"
    master_address: str = ""
    timing: str = defaults.TIMING
    lease_s: float = msgspec.field(default=defaults.LEASE_S, name="nodes.lease_s")
    grace_s: float = msgspec.field(default=defaults.GRACE_S, name="nodes.grace_s")
    evict_s: float = msgspec.field(default=defaults.EVICT_S, name="nodes.evict_s")
    ready_s: float = msgspec.field(default=0.0, name="nodes.ready_s")
    drain_s: float = msgspec.field(default=defaults.DRAIN_S, name="pods.drain_s")
    backoff_s: float = msgspec.field(default=defaults.BACKOFF_S, name="pods.backoff_s")

    def by_name(self) -> dict[str, Any]:
        """Return the settings by their names in lab.yml."""
        named: dict[str, Any] = msgspec.to_builtins(self)
        return named

    def process(self) -> dict[str, Any]:
        """Return the settings that only a new process takes over. `minions` is not among them: it counts machines, which are objects."""
        return {name: value for name, value in self.by_name().items() if name != "minions"}


class Record(msgspec.Struct, frozen=True):
    """The content of lab.json."""

    id: str
    state: str
    cache: str
    settings: Values = Values()
    proxies: dict[str, str] = {}


class MasterSettings(msgspec.Struct, frozen=True):
    """The settings of one lab for its master."""

    id: str
    paths: Paths
    values: Values
    proxies: dict[str, str] = {}

    @property
    def service_address(self) -> str:
        """Return the address of the Service `kubernetes`: the range's first."""
        return str(ipaddress.ip_network(self.values.services)[1])

    @property
    def dns_address(self) -> str:
        """Return the address of the Service `kube-dns`, where people look for it."""
        return str(ipaddress.ip_network(self.values.services)[10])

    @property
    def lab_address(self) -> str:
        """Return the master's address as machines and pods reach it: the first of their network, or a fixed one that leads into the tunnel."""
        if self.values.provider == "ssh":
            return TUNNEL_ADDRESS if self.values.uplink == "reverse" else self.values.master_address or TUNNEL_ADDRESS
        return str(ipaddress.ip_network(self.values.machines)[1])

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """Return the lab's own networks: of machines, pods and Services."""
        return tuple(ipaddress.ip_network(each) for each in (self.values.machines, self.values.pods, self.values.services))

    @property
    def load_balancers(self) -> str:
        """Return the range of addresses of Services of type LoadBalancer, or "" if they get none."""
        return defaults.load_balancer_range(self.values.load_balancers, self.values.machines, self.values.provider)

    def resources(self) -> ResourceSettings:
        return ResourceSettings(service_range=self.values.services, dns_address=self.dns_address)

    def controllers(self) -> ControllerSettings:
        timing = self.timing
        return ControllerSettings(
            lease_s=self.values.lease_s,
            lease_grace_s=self.values.grace_s,
            eviction_s=self.values.evict_s,
            peers=timing.peers,
            peers_deaf_s=timing.deaf_s,
            peers_fresh_s=2.5 * self.values.lease_s,
            eviction_rate=timing.rate,
            eviction_slow_rate=timing.slow_rate,
            root_certificate=self._root_certificate(),
            load_balancers=self.load_balancers if self.values.provider else "",
        )

    @property
    def timing(self) -> defaults.Timing:
        return defaults.TIMINGS.get(self.values.timing, defaults.TIMINGS[defaults.TIMING])

    def _root_certificate(self) -> str:
        """Return the lab's CA in PEM, or "" before there is one."""
        try:
            return (self.paths.certificates / "ca.crt").read_text()
        except OSError:
            return ""

    def proxy(self) -> ProxySettings:
        return ProxySettings(mode=self.values.proxy_mode, pod_range=self.values.pods, service_range=self.values.services)

    def pod_network(self) -> NetworkSettings:
        return NetworkSettings(plugin=self.values.network, pod_range=self.values.pods, service_range=self.values.services)

    def dns(self) -> DnsSettings:
        values = self.values
        own_machines = values.provider != "ssh"
        return DnsSettings(server=self.dns_address, pod_range=values.pods, service_range=values.services, machines_ask=own_machines)

    def machines(self) -> MachinesSettings:
        values = self.values
        return MachinesSettings(
            machine_network=values.machines,
            pod_network=values.pods,
            lease_s=values.lease_s,
            pod_mtu_bytes=pod_mtu(self.pod_network()),
            programs=plugin(values.network).programs,
            cluster_dns=(self.dns_address,),
            grace_s=values.grace_s,
            peers=self.timing.peers > 0,
            drain_s=values.drain_s,
            backoff_s=values.backoff_s,
        )


def read_settings(lab: Path) -> MasterSettings:
    """Read the settings from a `.labctl` folder. Raises LabctlError if there is none or it is damaged."""
    try:
        record = from_json((lab / "lab.json").read_bytes(), Record)
    except (OSError, msgspec.DecodeError, json.JSONDecodeError) as error:
        raise LabctlError(f"{lab / 'lab.json'} can't be read: {error}", mend="labctl up") from None
    return MasterSettings(record.id, Paths(lab, Path(record.state), Path(record.cache)), record.settings, record.proxies)
