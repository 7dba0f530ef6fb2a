"""Parses image names as container tools do: `nginx` is `docker.io/library/nginx:latest`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labctl.errors import ApiError

DEFAULT_REGISTRY = "docker.io"

_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9]+(?:/[a-z0-9]+)?")
_LOOKS_LIKE_HOST = re.compile(_HOST)


@dataclass(frozen=True)
class ImageName:
    """The parts of `registry/path:tag`. If there is a `digest`, it decides instead of the tag."""

    registry: str
    path: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        """Return the canonical form, which is the key in the index."""
        return f"{self.registry}/{self.path}@{self.digest}" if self.digest else f"{self.registry}/{self.path}:{self.tag}"

    @property
    def short(self) -> str:
        """Return the name as people write it."""
        path = self.path.removeprefix("library/") if self.registry == DEFAULT_REGISTRY else f"{self.registry}/{self.path}"
        return f"{path}@{self.digest}" if self.digest else f"{path}:{self.tag}"


def parse(text: str) -> ImageName:
    """Parse a name. Raises ApiError InvalidImageName, in the kubelet's words, if it can't be one."""
    rest, _, digest = text.partition("@")
    registry, rest = _split_registry(rest)
    path, _, tag = rest.partition(":")
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = f"library/{path}"
    right = _PATH.fullmatch(path) and (not tag or _TAG.fullmatch(tag)) and not rest.endswith(":")
    if not right or not _LOOKS_LIKE_HOST.fullmatch(registry) or ("@" in text and not _DIGEST.fullmatch(digest)):
        raise ApiError(
            400,
            "InvalidImageName",
            f'Failed to apply default image tag "{text}": couldn\'t parse image reference "{text}": invalid reference format',
        )
    return ImageName(registry, path, tag or "latest", digest)


def canonical(text: str) -> str:
    """Return the one spelling for all names that mean the same image."""
    return str(parse(text))


def _split_registry(text: str) -> tuple[str, str]:
    """Split off the registry. A first part with a dot, a colon or `localhost` is a host; any other belongs to the path."""
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        return (DEFAULT_REGISTRY if first in ("index.docker.io", "registry-1.docker.io") else first), rest
    return DEFAULT_REGISTRY, text


def check_platform(text: str) -> None:
    """Raise ApiError BadRequest if the text is no platform such as `linux/amd64` or `linux/arm/v7`."""
    if not _PLATFORM.fullmatch(text):
        raise ApiError(400, "BadRequest", f'"{text[:64]}" is no platform: write linux/amd64, for example')


def platform_of(os: str, architecture: str, variant: str = "") -> str:
    """Return `linux/amd64`, `linux/arm64` or `linux/arm/v7`. The only variant of arm64 is left out, as other tools do."""
    if variant and (architecture, variant) != ("arm64", "v8"):
        return f"{os}/{architecture}/{variant}"
    return f"{os}/{architecture}"
