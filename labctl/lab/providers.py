"""Choosing the provider that makes the machines: `auto` tries which ones work on this host, and says why it took one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from labctl.errors import LabctlError
from labctl.providers.factory import PROVIDERS, make_provider
from labctl.providers.protocol import Provider

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder


def make(lab: LabFolder, name: str, progress: Callable[[str], None] = lambda _line: None) -> Provider:
    """Return the provider of that name for this lab."""
    paths = lab.paths
    return make_provider(
        name, lab.record["id"], paths.state, paths.cache, folder=lab.folder, settings=lab.settings.values(), progress=progress
    )


def choose(lab: LabFolder, progress: Callable[[str], None] = lambda _line: None) -> tuple[Provider, str]:
    """Return the provider and the reason for choosing it. If none works, LabctlError has the reason of the first in order."""
    refused = []
    for name in _in_order(lab):
        provider = make(lab, name, progress)
        verdict = provider.probe()
        if verdict.works:
            return provider, verdict.reason or "it works here"
        refused.append((name, verdict))
    name, verdict = refused[0]
    raise LabctlError(f"provider {name} does not work here: {verdict.reason}", mend=verdict.mend)


def first_choice(lab: LabFolder) -> Provider:
    """Return the provider that `choose` tries first. If none works, its checks say what is missing."""
    return make(lab, _in_order(lab)[0])


def _in_order(lab: LabFolder) -> tuple[str, ...]:
    """Return the providers to try, in order. If lab.yml lists machines, only `ssh` is tried."""
    wanted = lab.settings["provider"] or "auto"
    if wanted != "auto":
        return (wanted,)
    return ("ssh",) if lab.settings["machines"] else tuple(name for name in PROVIDERS if name != "ssh")
