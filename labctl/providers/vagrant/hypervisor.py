"""Uses libvirt for what Vagrant can't do: power, pause, links, networks, and hearing of every domain's end.

Each process has one connection, opened when it is first needed, and again after libvirtd was restarted. libvirt-python is imported only
here, and late:
it is an optional extra, and `probe` says if it is missing. A lab's domains are named LAB-MACHINE.
"""

from __future__ import annotations

import hashlib
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from typing import Any

from labctl.errors import ProviderError
from labctl.providers.protocol import Power
from labctl.providers.vagrant.errors import explain, explained
from labctl.providers.vagrant.pool import Pool

URI = "qemu:///system"
MANAGEMENT = "vagrant-libvirt"  # the network that vagrant-libvirt uses; made here, so that machines that boot in parallel don't race for it

LifecycleCallback = Callable[[str, str, str], None]
"""It gets (domain, "started" | "stopped" | "paused" | "resumed" | "rebooted" | "gone", a sentence)."""

_events = threading.Lock()
_running = False


def _run_events() -> None:
    """Run libvirt's event loop: one for each process, started before the first connection."""
    global _running
    import libvirt

    with _events:
        if _running:
            return
        libvirt.virEventRegisterDefaultImpl()
        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # without it libvirt prints errors; they are raised anyway
        _running = True

    def forever() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=forever, name="libvirt-events", daemon=True).start()


class Hypervisor:
    """The domains of one lab, by their machines' names."""

    def __init__(self, lab: str) -> None:
        self._lab = lab
        self._prefix = f"{lab}-"
        self._connection: Any = None
        self._listeners: list[LifecycleCallback] = []
        self._lock = threading.Lock()
        self.pool = Pool(self.connection)

    def connection(self) -> Any:
        """Return the connection. If there can be none, ProviderError says how to mend it."""
        with self._lock:
            if self._connection is not None and self._connection.isAlive():
                return self._connection
            import libvirt

            _run_events()
            try:
                connection = libvirt.open(URI)
                connection.setKeepAlive(5, 3)
                self._register(connection)
            except libvirt.libvirtError as error:
                raise explain(error) from error
            self._connection = connection
            return connection

    # -- domains

    def domains(self) -> dict[str, Any]:
        with explained():
            found = self.connection().listAllDomains()
            named = {domain.name(): domain for domain in found}
        return {name.removeprefix(self._prefix): domain for name, domain in named.items() if name.startswith(self._prefix)}

    def domain(self, name: str) -> Any | None:
        return self.domains().get(name)

    def power(self, domain: Any) -> Power:
        import libvirt

        with explained():
            state = domain.state()[0]
        if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED):
            return Power.PAUSED
        return Power.OFF if state in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_NOSTATE) else Power.ON

    def run(self, domain: Any) -> str:
        """Return an id of the domain's present run: libvirt numbers the runs until the host boots again."""
        with explained(), open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}:{domain.ID()}"

    def start(self, domain: Any) -> None:
        with explained():
            domain.create()

    def end(self, domain: Any) -> None:
        """Cut the power. A domain that is off is no error."""
        import libvirt

        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
                raise explain(error) from error

    def reset(self, domain: Any) -> None:
        """Reset the domain: it stays the same, and its kernel starts again."""
        with explained():
            domain.reset()

    def freeze(self, domain: Any, frozen: bool) -> None:
        with explained():
            (domain.suspend if frozen else domain.resume)()

    def forget(self, domain: Any) -> None:
        """Remove a domain and its disk, if Vagrant can't because its folder is gone."""
        import libvirt

        self.end(domain)
        with explained():
            disks = [source.get("file", "") for source in ElementTree.fromstring(domain.XMLDesc()).findall("./devices/disk/source")]
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
        for disk in filter(None, disks):
            self.pool.delete(disk)

    # -- memory

    def description(self, domain: Any, *, now: bool = False) -> str:
        """Return the description with which it would be started, or, with `now`, its present one."""
        import libvirt

        with explained():
            return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE | (0 if now else libvirt.VIR_DOMAIN_XML_INACTIVE)))

    def define(self, description: str) -> Any:
        with explained():
            return self.connection().defineXML(description)

    def save_memory(self, domain: Any, name: str) -> str:
        """Write the machine's memory and devices into its disk, as a snapshot of that name.

        Return libvirt's description of the snapshot.
        """
        import libvirt

        with explained():
            snapshot = domain.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>")
            return str(snapshot.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE))

    def drop_memory(self, domain: Any, name: str) -> None:
        """Remove that snapshot from the disk. A missing one is no error."""
        import libvirt

        with explained():
            try:
                domain.snapshotLookupByName(name).delete()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
                    raise

    def revert(self, domain: Any, description: str, *, paused: bool) -> None:
        """Let the machine continue where it was when its memory was written into this domain's disk."""
        import libvirt

        how = libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED if paused else libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING
        with explained():
            domain.revertToSnapshot(domain.snapshotCreateXML(description, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE), how)

    # -- networks

    def link(self, domain: Any, up: bool) -> None:
        """Plug the machine's cable to the lab's network in or out, until the next call."""
        with explained():
            for interface in ElementTree.fromstring(domain.XMLDesc()).findall("./devices/interface"):
                source = interface.find("source")
                if source is None or source.get("network") != self._lab:
                    continue
                link = interface.find("link")
                if link is None:
                    link = ElementTree.SubElement(interface, "link")
                link.set("state", "up" if up else "down")
                domain.updateDeviceFlags(ElementTree.tostring(interface, encoding="unicode"))

    def tap(self, domain: Any) -> str:
        """Return the host's end of the machine's link to the lab's network; empty if there is none."""
        with explained():
            for interface in ElementTree.fromstring(domain.XMLDesc()).findall("./devices/interface"):
                source, target = interface.find("source"), interface.find("target")
                if source is not None and source.get("network") == self._lab and target is not None:
                    return target.get("dev", "")
        return ""

    def ensure_networks(self, network: str) -> None:
        """Make the lab's own network, closed, with the host at its first address, and the network on which Vagrant reaches machines."""
        own = IPv4Network(network)
        self._ensure_network(self._lab, closed_network(self._lab, self.bridge, own))
        self._ensure_network(MANAGEMENT, _MANAGEMENT)

    def remove_network(self) -> None:
        with explained():
            for network in self.connection().listAllNetworks():
                if network.name() == self._lab:
                    if network.isActive():
                        network.destroy()
                    network.undefine()

    @property
    def bridge(self) -> str:
        """Return the name of the lab's own network as an interface of this host."""
        return f"lc{self._lab[-8:]}"

    def same_addresses(self, network: str) -> str:
        """Return the name of another network of libvirt's that has some of these addresses, or an empty text."""
        own = IPv4Network(network)
        with explained():
            for other in self.connection().listAllNetworks():
                if other.name() != self._lab and other.isActive() and any(own.overlaps(each) for each in _ranges(other.XMLDesc())):
                    return str(other.name())
        return ""

    def _ensure_network(self, name: str, description: str) -> None:
        with explained():
            known = {network.name(): network for network in self.connection().listAllNetworks()}
            network = known.get(name)
            if network and not network.isActive() and name == self._lab:
                network.undefine()  # its addresses may have changed since
                network = None
            network = network or self.connection().networkDefineXML(description)
            if not network.isActive():
                network.create()

    # -- events

    def listen(self, tell: LifecycleCallback) -> Callable[[], None]:
        """Call `tell`, from libvirt's thread, with what happens to the lab's domains, until the returned function is called.

        A new connection after a restart of libvirtd is included.
        """
        self._listeners.append(tell)

        def stop() -> None:
            if tell in self._listeners:
                self._listeners.remove(tell)

        try:
            self.connection()
        except ProviderError:
            stop()
            raise
        return stop

    def _register(self, connection: Any) -> None:
        import libvirt

        def lifecycle(_connection: Any, domain: Any, event: int, detail: int, _opaque: Any) -> None:
            said = _said(event, detail)
            if said:
                self._tell(domain.name(), *said)

        def reboot(_connection: Any, domain: Any, _opaque: Any) -> None:
            self._tell(domain.name(), "rebooted", "its kernel was started again")

        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, None)
        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, reboot, None)

    def _tell(self, domain: str, word: str, reason: str) -> None:
        if domain.startswith(self._prefix):
            for tell in list(self._listeners):
                tell(domain.removeprefix(self._prefix), word, reason)


def _said(event: int, detail: int) -> tuple[str, str] | None:
    """Translate libvirt's numbers into our words."""
    import libvirt

    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
        return "stopped", {
            libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "it shut itself down",
            libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "its power was cut",
            libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "its QEMU process crashed",
            libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "its QEMU process failed",
            libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "it was saved to disk",
        }.get(detail, "it stopped")
    words = {
        libvirt.VIR_DOMAIN_EVENT_STARTED: ("started", "its virtual machine runs"),
        libvirt.VIR_DOMAIN_EVENT_SUSPENDED: ("paused", "it is paused"),
        libvirt.VIR_DOMAIN_EVENT_RESUMED: ("resumed", "it goes on"),
        libvirt.VIR_DOMAIN_EVENT_UNDEFINED: ("gone", "it was destroyed"),
    }
    return words.get(event)


def _ranges(description: str) -> Iterator[IPv4Network]:
    for address in ElementTree.fromstring(description).findall("./ip"):
        if address.get("family", "ipv4") == "ipv4":
            yield IPv4Network(f"{address.get('address')}/{address.get('netmask') or address.get('prefix')}", strict=False)


def closed_network(name: str, bridge: str, network: IPv4Network) -> str:
    """Return the description of the lab's own network, without forwarding, DHCP and DNS.

    Its hardware address follows from its range and not from the lab, because a machine out of a snapshot still has it in its ARP table.
    """
    host = network.network_address + 1
    mac = "52:54:00:" + ":".join(f"{byte:02x}" for byte in hashlib.sha256(str(network).encode()).digest()[:3])
    return (
        f"<network><name>{name}</name><bridge name='{bridge}' stp='off' delay='0'/><mac address='{mac}'/><dns enable='no'/>"
        f"<ip address='{host}' netmask='{network.netmask}'/></network>"
    )


_MANAGEMENT = (
    f"<network ipv6='yes'><name>{MANAGEMENT}</name><forward mode='nat'/><bridge stp='on' delay='0'/>"
    "<ip address='192.168.121.1' netmask='255.255.255.0'><dhcp><range start='192.168.121.2' end='192.168.121.254'/></dhcp></ip></network>"
)
