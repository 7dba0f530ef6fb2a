"""Choosing what makes the machines: `auto` tries what really works here and says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from labctl.errors import LabctlError
from labctl.providers.factory import PROVIDERS, make_provider
from labctl.providers.protocol import Provider

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder


def make(lab: LabFolder, name: str, progress: Callable[[str], None] = lambda _line: None) -> Provider:
    """The provider of that name for this lab."""
    paths = lab.paths
    return make_provider(
        name, lab.record["id"], paths.state, paths.cache, folder=lab.folder, settings=lab.settings.values(), progress=progress
    )


def choose(lab: LabFolder, progress: Callable[[str], None] = lambda _line: None) -> tuple[Provider, str]:
    """(provider, why it and no other). LabctlError with the reason of the likeliest where none works."""
    refused = []
    for name in _in_order(lab):
        provider = make(lab, name, progress)
        verdict = provider.probe()
        if verdict.works:
            return provider, verdict.reason or "it works here"
        refused.append((name, verdict))
    name, verdict = refused[0]
    raise LabctlError(f"provider {name} does not work here: {verdict.reason}", mend=verdict.mend)


def likeliest(lab: LabFolder) -> Provider:
    """The first that `choose` tries: whose checks say what is missing, where none works."""
    return make(lab, _in_order(lab)[0])


def _in_order(lab: LabFolder) -> tuple[str, ...]:
    """Which are tried. Who lists machines wants those, and nobody else's."""
    wanted = lab.settings["provider"] or "auto"
    if wanted != "auto":
        return (wanted,)
    return ("ssh",) if lab.settings["machines"] else tuple(name for name in PROVIDERS if name != "ssh")
