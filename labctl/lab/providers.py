"""Choosing what makes the machines: `auto` tries what really works here and says why."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from labctl.errors import LabctlError
from labctl.providers.protocol import Provider

if TYPE_CHECKING:
    from labctl.lab.lab import Lab

PROVIDERS = ("namespace",)
"""In the order in which `auto` tries them. A provider is a folder of labctl/providers with `make(lab_id, state, cache, network)`."""


def make(lab: Lab, name: str) -> Provider:
    """The provider of that name for this lab. LabctlError where labctl has none."""
    if name not in PROVIDERS:
        raise LabctlError(f"this labctl has no provider {name!r}", mend=f"use one of {', '.join(PROVIDERS)}")
    module = importlib.import_module(f"labctl.providers.{name}")
    return module.make(lab.record["id"], lab.paths.state, lab.paths.cache, lab.settings["addresses.machines"])


def choose(lab: Lab) -> tuple[Provider, str]:
    """(provider, why it and no other). LabctlError with each one's reason where none works."""
    wanted = lab.settings["provider"]
    names = PROVIDERS if wanted == "auto" else (wanted,)
    refused = []
    for name in names:
        provider = make(lab, name)
        verdict = provider.probe()
        if verdict.works:
            return provider, verdict.reason or "it works here"
        refused.append((name, verdict))
    name, verdict = refused[0]
    raise LabctlError(f"provider {name} does not work here: {verdict.reason}", mend=verdict.mend)
