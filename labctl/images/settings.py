"""What can be set about images. Composed by `lab/settings.py` from lab.yml (`mirrors:`) and the environment (proxy variables)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ImageSettings:
    """`mirrors`: registry host -> hosts (with an optional path) to ask first, in order; "*" stands for every registry.

    `proxy`: the usual variables (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) as the person has them, handed to skopeo.
    """

    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    proxy: Mapping[str, str] = field(default_factory=dict)
    pull_deadline_s: float = 600.0
    apt_fresh_s: float = 86_400.0  # package lists older than this are fetched again before a build
