"""Admission is a series of steps that every write passes before it is stored, whether people, agents or controllers write.

    decode ─► mutating steps ─► defaults, what the server owns, validation ─► validating steps ─► commit

The API's authorizer decides from the verb and the path whether a request may be tried at all. A step decides on the result: it is handed the
stored object and the object that would replace it, as a NodeRestriction or a quota in Kubernetes is. A mutating step may change the new object
in place; a validating step only looks. A deletion, too, passes both rows. A step that refuses raises ApiError, and nothing is stored.

What is posted to a subresource and not stored (a Binding, an Eviction), and the options of a connection (exec, attach, portforward, proxy), pass the
steps that people add: webhooks and policies.

The protocol stands here, the steps in the room `admission`; the master hands them over, in order. When a write is tried again because another
writer was first, its steps are asked again. For a write that no step is concerned with, all of this costs one look into a dict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from labctl.errors import ApiError
from labctl.resources.kind import Kind, Object
from labctl.resources.service import DeleteOptions, User, WriteOptions

Verb = Literal["create", "update", "delete", "post", "connect"]
"""What happens to the stored object. A patch is an update; a PUT or an apply of what is not there yet is a create. `post` sends a body of another kind to
a subresource (a Binding, an Eviction), and `connect` opens a stream to the object; the stored object stays as it is."""


class Reinvocation(msgspec.Struct):
    """Whether the mutating steps are asked a second time about one write, as Kubernetes asks them.

    A webhook or a policy that changes the object sets `wanted`. In the second round the built-in steps are asked again, too, and of webhooks and policies
    those with `reinvocationPolicy: IfNeeded`. There is no third round.
    """

    wanted: bool = False
    second_round: bool = False
    memory: dict[str, Any] = msgspec.field(default_factory=dict)
    """What a step of the first round remembers for the second one, by the step's name."""


class Attributes(msgspec.Struct, frozen=True):
    """One write. `old` is None for a create, `new` for a delete. Before validation an object may lack its name (`generateName`).

    For `post` and `connect`, `new` is the body or the options, of the subresource's own kind; `path` is the namespace and the name in the URL.
    """

    user: User
    verb: Verb
    kind: Kind
    old: Object | None
    new: Object | None
    options: WriteOptions | DeleteOptions
    subresource: str = ""
    warnings: list[str] = msgspec.field(default_factory=list)
    """A step adds what the client is to be told."""
    path: tuple[str, str] | None = None
    reinvocation: Reinvocation = msgspec.field(default_factory=Reinvocation)

    @property
    def name(self) -> str:
        if self.path is not None:
            return self.path[1]
        name: str = (self.new or self.old or {}).get("metadata", {}).get("name", "")
        return name

    @property
    def namespace(self) -> str:
        if self.path is not None:
            return self.path[0]
        namespace: str = (self.new or self.old or {}).get("metadata", {}).get("namespace", "")
        return namespace


class AdmissionStep(Protocol):
    """One rule about writes. `kinds` are named as in `Kind.resource`; None means every kind."""

    name: str
    kinds: frozenset[str] | None
    verbs: frozenset[Verb]

    async def admit(self, attributes: Attributes) -> None:
        """Returns if the write may happen. Raises ApiError if not."""


class Admission:
    """The two rows of steps, each in the order in which they are asked."""

    def __init__(self, mutating: Sequence[AdmissionStep] = (), validating: Sequence[AdmissionStep] = ()) -> None:
        self._rows = {"mutating": tuple(mutating), "validating": tuple(validating)}
        self._concerned: dict[tuple[str, str, str], tuple[AdmissionStep, ...]] = {}

    def mutating(self, kind: Kind, verb: Verb) -> tuple[AdmissionStep, ...]:
        return self._steps("mutating", kind, verb)

    def validating(self, kind: Kind, verb: Verb) -> tuple[AdmissionStep, ...]:
        return self._steps("validating", kind, verb)

    def _steps(self, row: str, kind: Kind, verb: Verb) -> tuple[AdmissionStep, ...]:
        """Return the steps of a row for this kind and verb. They are looked up once, then remembered."""
        key = row, kind.resource, verb
        steps = self._concerned.get(key)
        if steps is None:
            steps = tuple(s for s in self._rows[row] if verb in s.verbs and (s.kinds is None or kind.resource in s.kinds))
            self._concerned[key] = steps
        return steps


async def mutate(steps: Sequence[AdmissionStep], attributes: Attributes) -> list[str]:
    """Asks each mutating step in turn, and all of them once more if one wants it. Returns their warnings. Raises the first refusal."""
    await ask(steps, attributes)
    if attributes.reinvocation.wanted:
        attributes.reinvocation.second_round = True
        await ask(steps, attributes)
    return attributes.warnings


async def ask(steps: Sequence[AdmissionStep], attributes: Attributes) -> list[str]:
    """Asks each step in turn; answers their warnings. Raises the first refusal, which carries the warnings up to it."""
    try:
        for step in steps:
            await step.admit(attributes)
    except ApiError as refused:
        refused.warnings = tuple(attributes.warnings)
        raise
    return attributes.warnings
