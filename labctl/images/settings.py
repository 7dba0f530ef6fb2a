"""The settings of images. `lab/settings.py` composes them from lab.yml (`mirrors:`) and the environment (proxy variables)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ImageSettings:
    """The settings of images.

    `mirrors` maps a registry's host to hosts (with an optional path) that are asked first, in order; "*" stands for every registry.
    `proxy` are the usual variables (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) as the person has them; skopeo gets them.
    """

    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    proxy: Mapping[str, str] = field(default_factory=dict)
    pull_deadline_s: float = 600.0
    pull_bytes_max: int = 32 << 30  # on the disk while it is pulled: a pod's image names its registry, which may send without end
    apt_fresh_s: float = 86_400.0  # package lists older than this are fetched again before a build
