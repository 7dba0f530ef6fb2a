"""Makes a provider by its name. Its modules are imported only then. A new provider needs one folder, and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from labctl.errors import UsageError
from labctl.providers.protocol import Provider
from labctl.providers.settings import NamespaceSettings, VagrantSettings, ssh_settings

B = TypeVar("B", NamespaceSettings, VagrantSettings)

PROVIDERS = ("namespace", "vagrant", "ssh")
"""The order in which `auto` tries them. If lab.yml lists machines, only `ssh` is tried; without a list it can't work."""


def make_provider(
    name: str,
    lab: str,
    state: Path,
    cache: Path,
    *,
    folder: Path,
    settings: Mapping[str, Any],
    progress: Callable[[str], None] = lambda _line: None,
) -> Provider:
    """Make a provider. `folder` is the lab's; `settings` are the lab's by their names in lab.yml, and each provider takes its own.

    Raises UsageError for an unknown name.
    """
    if name == "namespace":
        from labctl.providers.namespace.provider import NamespaceProvider

        namespaces = NamespaceSettings(network=settings["addresses.machines"], pod_network=settings["network"])
        return NamespaceProvider(lab, state, cache, _patient(namespaces, settings), progress)
    if name == "ssh":
        from labctl.providers.ssh.provider import SshProvider

        return SshProvider(lab, state, ssh_settings(settings), progress)
    if name == "vagrant":
        from labctl.providers.vagrant.provider import VagrantProvider

        memory = settings.get("memory", 0) * settings.get("minions", 0)
        virtual = VagrantSettings(network=settings["addresses.machines"], box=settings.get("box", ""), machines_bytes=memory)
        return VagrantProvider(lab, folder, state, cache, _patient(virtual, settings), progress)
    raise UsageError(f"this labctl has no provider {name!r}", mend=f"use one of {', '.join(PROVIDERS)}")


def provider_class(name: str) -> type[Provider] | None:
    """Return the class of a provider, to ask what it can do; None for an unknown one, and where its libraries are not installed."""
    try:
        if name == "namespace":
            from labctl.providers.namespace.provider import NamespaceProvider

            return NamespaceProvider
        if name == "ssh":
            from labctl.providers.ssh.provider import SshProvider

            return SshProvider
        if name == "vagrant":
            from labctl.providers.vagrant.provider import VagrantProvider

            return VagrantProvider
    except ImportError:
        pass
    return None


def _patient(boots: B, settings: Mapping[str, Any]) -> B:
    """Raise the deadline of a boot to the time that `up` waits for a node, if that is longer."""
    return replace(boots, boot_deadline_s=max(boots.boot_deadline_s, settings.get("nodes.ready_s", 0.0)))
