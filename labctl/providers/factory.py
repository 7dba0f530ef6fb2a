"""A provider by its name, imported when it is wanted. A new provider is one folder and one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labctl.errors import UsageError
from labctl.providers.protocol import Provider

PROVIDERS = ("namespace",)
"""In the order in which `auto` tries them."""


def make_provider(
    name: str, lab: str, state: Path, cache: Path, *, network: str, progress: Callable[[str], None] = lambda _line: None
) -> Provider:
    """`network` is the machines' range. UsageError for a name that no provider has."""
    if name == "namespace":
        from labctl.providers.namespace.provider import NamespaceProvider
        from labctl.providers.settings import NamespaceSettings

        return NamespaceProvider(lab, state, cache, NamespaceSettings(network=network), progress)
    raise UsageError(f"this labctl has no provider {name!r}", mend=f"use one of {', '.join(PROVIDERS)}")
