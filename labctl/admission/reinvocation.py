"""Which webhooks and policies are asked again about a write because somebody changed the object after them (`reinvocationPolicy: IfNeeded`).

All mutating steps are asked in a second round if a webhook or a policy changed the object in the first one (resources/admission.py). In that round a step
asks only those that it asked in the first one, that want to be asked again, and after whose answer the object was changed: by another one of the step, or
between the rounds by another step.
"""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from labctl.resources import encoding
from labctl.resources.admission import Attributes


class Asked(msgspec.Struct):
    """What one step remembers of one write."""

    repeatable: set[Hashable] = msgspec.field(default_factory=set)
    """Asked since the object's last change, and to be asked again after the next one."""
    wanted: set[Hashable] = msgspec.field(default_factory=set)
    """To be asked in the second round."""
    left: bytes = b""
    """The object as the step left it."""

    def changed(self) -> None:
        """Takes note that the object was changed."""
        self.wanted |= self.repeatable
        self.repeatable = set()


class Round:
    """One round of one step, about one write."""

    def __init__(self, step: str, attributes: Attributes) -> None:
        self._attributes = attributes
        self._asked: Asked = attributes.reinvocation.memory.setdefault(step, Asked())
        if attributes.reinvocation.second_round and self._asked.left != encoding.encode(attributes.new):
            self._asked.changed()

    def asks(self, key: Hashable) -> bool:
        """True if the webhook or policy is asked in this round."""
        return not self._attributes.reinvocation.second_round or key in self._asked.wanted

    def was_asked(self, key: Hashable, *, again: bool, changed: bool) -> None:
        """Takes note of an answer. `again`: it wants to be asked again; `changed`: it changed the object."""
        if changed:
            self._asked.changed()
            self._attributes.reinvocation.wanted = True
        if again:
            self._asked.repeatable.add(key)

    def end(self) -> None:
        """Remembers the object as it is now."""
        self._asked.left = encoding.encode(self._attributes.new)
