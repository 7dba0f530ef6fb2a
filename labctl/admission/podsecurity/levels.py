"""What a namespace's labels say: a level of the Pod Security Standards, and of which release, for each of the modes enforce and warn.

The mode `audit` is only checked here: the audit log of this API has no notes of admission steps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from labctl.resources import fields
from labctl.resources.kind import FieldError

PREFIX = "pod-security.kubernetes.io/"
MODES = ("enforce", "audit", "warn")
PRIVILEGED, BASELINE, RESTRICTED = LEVELS = ("privileged", "baseline", "restricted")
"""From the mildest to the strictest."""
LATEST = 1 << 30
"""The release `latest`, as a minor version: newer than every other."""

_RELEASE = re.compile(r"v1\.(0|[1-9][0-9]{0,8})")


class Standard(NamedTuple):
    """A level as of a release."""

    level: str = PRIVILEGED
    minor: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor == LATEST else f'v1.{self.minor}'}"

    def stricter_than(self, other: Standard) -> bool:
        return LEVELS.index(self.level) > LEVELS.index(other.level)


class Wanted(NamedTuple):
    """What a namespace's labels ask for, and what is wrong with them."""

    enforce: Standard
    warn: Standard
    errors: tuple[FieldError, ...]


def wanted(labels: Mapping[str, str]) -> Wanted:
    """Reads the labels. A level that is none counts as `restricted` where it is enforced, and as `privileged` elsewhere; a release that is none as `latest`.

    Who enforces a level and says nothing of warnings is warned by the same level, because only pods are refused: the author of a Deployment would not hear of it.
    """
    standards: dict[str, Standard] = {}
    errors: list[FieldError] = []
    for mode in MODES:
        level, minor = labels.get(PREFIX + mode, PRIVILEGED), _minor(labels.get(f"{PREFIX}{mode}-version", "latest"))
        if level not in LEVELS:
            errors.append(fields.invalid(f"metadata.labels[{PREFIX}{mode}]", level, f"must be one of {', '.join(LEVELS)}"))
            level = RESTRICTED if mode == "enforce" else PRIVILEGED
        if minor is None:
            label = f"{PREFIX}{mode}-version"
            errors.append(fields.invalid(f"metadata.labels[{label}]", labels[label], 'must be "latest" or "v1.x"'))
        standards[mode] = Standard(level, LATEST if minor is None else minor)
    enforce, warn = standards["enforce"], standards["warn"]
    if f"{PREFIX}warn" not in labels and labels.get(f"{PREFIX}enforce") in LEVELS and enforce.stricter_than(warn):
        warn = Standard(enforce.level, warn.minor if f"{PREFIX}warn-version" in labels else enforce.minor)
    return Wanted(enforce, warn, tuple(errors))


def _minor(release: str) -> int | None:
    if release == "latest":
        return LATEST
    found = _RELEASE.fullmatch(release)
    return int(found[1]) if found else None
