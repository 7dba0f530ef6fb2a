"""Specs that were completed and found faultless before: a controller makes many pods of one template, and a client many of one manifest.

Filling in a pod's defaults and validating it takes half of the time of its creation, and depends on its spec alone. So for kinds that say so
(`Kind.spec_alone`) the last few hundred different specs are remembered, before and after their defaults. The key is the whole spec, byte for byte. What depends
on more than the spec (the name, labels, owners, the status, admission) is done each time.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.resources import encoding
from labctl.resources.kind import Kind, Object

_SPECS_MAX, _SPEC_BYTES_MAX = 256, 8 << 10


@dataclass(slots=True)
class KnownSpec:
    """What is known of a spec. `sent` is empty for one that is not remembered; `complete` until its object was found valid; `quiet`: nobody is warned of it."""

    sent: bytes = b""
    complete: bytes = b""
    quiet: bool = False


class KnownSpecs:
    """The specs of one master. When there are too many, all are forgotten."""

    def __init__(self) -> None:
        self._specs: dict[tuple[Kind, bytes], KnownSpec] = {}

    def look_up(self, kind: Kind, obj: Object) -> KnownSpec:
        """Returns what is known of a new object's spec, as it is before its defaults."""
        spec = obj.get("spec")
        if kind.spec_alone is None or not spec or not kind.spec_alone(obj):
            return KnownSpec()
        sent = encoding.encode(spec)
        return self._specs.get((kind, sent)) or KnownSpec(sent)

    def remember(self, kind: Kind, known: KnownSpec, obj: Object) -> None:
        """Takes note that the object with this spec, which is complete now, is valid."""
        if not known.sent or known.complete:
            return
        complete = encoding.encode(obj["spec"])
        if len(complete) > _SPEC_BYTES_MAX:
            return
        if len(self._specs) >= _SPECS_MAX:
            self._specs.clear()
        known.complete = complete
        self._specs[kind, known.sent] = known
