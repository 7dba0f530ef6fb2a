"""Reads libvirt's description of a machine, and writes it for the same machine in another lab.

All functions are pure: text in, text out.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Names:
    """The names of a machine that depend on its lab and are not in its memory."""

    lab: str
    machine: str
    identity: str  # libvirt's uuid
    disk: str
    console: Path
    vagrantfile: Path


class Description:
    """A `domain`, or a `domainsnapshot`, which contains one or two of them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._root = ElementTree.fromstring(text)

    @property
    def disk(self) -> str:
        source = self._root.find("./devices/disk/source")
        return source.get("file", "") if source is not None else ""

    @property
    def boots_from(self) -> tuple[str, ...]:
        """Return kernel and initrd, if they don't come from the disk."""
        files = (self._root.findtext(f"./os/{what}") for what in ("kernel", "initrd"))
        return tuple(file for file in files if file)

    def plugged(self, network: str) -> bool:
        """Tell whether its cable to that network is plugged in."""
        for interface in self._root.findall("./devices/interface"):
            source, link = interface.find("source"), interface.find("link")
            if source is not None and source.get("network") == network and link is not None:
                return link.get("state") != "down"
        return True

    def moved(self, old_lab: str, new: Names) -> Description:
        """Return the same hardware, so that the saved memory fits, under other names."""
        root = ElementTree.fromstring(self.text)
        for domain in _domains(root):
            _set(domain, "name", f"{new.lab}-{new.machine}")
            _set(domain, "uuid", new.identity)
            _set(domain, "description", f"Source: {new.vagrantfile}")
            for source in domain.findall("./devices/disk/source"):
                source.set("file", new.disk)
            for source in domain.findall("./devices/interface/source"):
                if source.get("network") == old_lab:
                    source.set("network", new.lab)
            for kind in ("serial", "console"):
                for source in domain.findall(f"./devices/{kind}[@type='file']/source"):
                    source.set("path", str(new.console))
        return Description(ElementTree.tostring(root, encoding="unicode"))


def _domains(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    if root.tag == "domain":
        yield root
        return
    for kind in ("domain", "inactiveDomain"):
        yield from root.findall(kind)


def _set(domain: ElementTree.Element, what: str, text: str) -> None:
    element = domain.find(what)
    if element is not None:
        element.text = text
