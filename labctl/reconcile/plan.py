"""Decide, then do: what a plan function answers, and the seams that controllers and observers keep.

A controller is a function of what is seen: `plan(view, key, now, rng) -> Plan`. It does no I/O, reads no clock and draws no randomness but what is
passed in, so the same function runs in the master, in a property test and in a simulation. The runner (runner.py) carries the actions out.
Each action's `why` is a sentence for people: it goes into the journal and `labctl why`; where Kubernetes has an Event for it,
`event` is that Event, recorded once the action succeeded.

What acts on machines, or keeps a picture of its own, is no controller but an Observer: it is shown every change, and plans nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Protocol, runtime_checkable

import msgspec

from labctl.errors import ApiError

Key = str
"""`namespace/name`, or `name` for cluster-wide kinds."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """An Event about an object, and nothing else. `type` is Normal or Warning."""

    kind: str
    key: Key
    reason: str
    message: str
    type: str = "Normal"


class Create(msgspec.Struct, frozen=True, gc=False):
    """Make an object (a dict as JSON has it). AlreadyExists is no failure: the next plan sees it."""

    kind: str  # plural resource name, e.g. "pods", "endpointslices.discovery.k8s.io"
    object: dict[str, Any]
    why: str = ""
    event: Record | None = None


class Patch(msgspec.Struct, frozen=True, gc=False):
    """A JSON merge patch (RFC 7386). With `revision`, only if the object still stands at that revision."""

    kind: str
    key: Key
    patch: dict[str, Any]
    subresource: str = ""
    revision: int = 0
    why: str = ""
    event: Record | None = None


class Replace(msgspec.Struct, frozen=True, gc=False):
    """The whole object anew, at the revision inside its metadata (or unconditionally without one)."""

    kind: str
    object: dict[str, Any]
    subresource: str = ""
    why: str = ""
    event: Record | None = None


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Delete one object, only if it still has this uid. grace_s None: the kind's default; 0: at once.

    `version` is the version in which it is deleted, which matters where objects are converted; empty: the stored one.
    """

    kind: str
    key: Key
    uid: str = ""
    grace_s: int | None = None
    propagation: str = ""  # Background, Foreground, Orphan; empty: the kind's default
    version: str = ""
    why: str = ""
    event: Record | None = None


class Bind(msgspec.Struct, frozen=True, gc=False):
    """Binds a pod to a node, through the subresource `binding`. Only the scheduler does this."""

    key: Key
    node: str
    uid: str = ""
    why: str = ""
    event: Record | None = None


Action = Create | Patch | Replace | Delete | Bind | Record
Refusal = tuple[Action, ApiError]
"""An action that the API refused, not only because another writer was first, and its words."""


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What to do now, when to look again though nothing changed (seconds from `now`; None: not), and why it is so.

    `refused` is a pure function, too: it says what else is to be done when the API refuses some of the actions. These are tried again all the same.
    """

    actions: Sequence[Action] = ()
    again_s: float | None = None
    why: str = ""
    refused: Callable[[Sequence[Refusal]], Sequence[Action]] | None = None


NOTHING = Plan()


class Seen(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One object's change as a view saw it: typed views, None where it did not exist."""

    kind: str
    key: Key
    old: Any
    new: Any


class View(Protocol):
    """The indexed, live, read-only picture of immutable objects. Consistent: nothing changes between two awaits, and `plan` awaits nothing."""

    @property
    def revision(self) -> int: ...

    def get(self, kind: str, key: Key) -> Any:
        """Return the typed view of an object (see resources/kinds), or None."""

    def raw(self, kind: str, key: Key) -> dict[str, Any] | None:
        """Return the whole object as a fresh dict, for copying parts of it."""

    def all(self, kind: str, namespace: str = "") -> Iterable[Any]:
        """Return every object of a kind, in key order."""

    def has(self, kind: str) -> bool:
        """Tell whether there are objects of a kind."""

    def by(self, kind: str, index: str, value: str) -> Sequence[Any]:
        """Objects whose index holds `value`, in key order. Indexes are declared by the controllers that use them (`indexes`)."""

    def some(self, kind: str, index: str, value: str, at_most: int) -> Iterable[Any]:
        """Return at most so many of the objects that `by` would return: those that have been under the value for longest. It costs nothing for the others."""

    def count(self, kind: str, index: str, value: str) -> int:
        """Return how many objects `by` would return."""

    def everywhere(self, index: str, value: str) -> Sequence[tuple[str, Any]]:
        """Return (kind, object) of every kind whose index has `value`, in order. Such an index is declared for the kind EVERY."""

    @property
    def begun(self) -> int:
        """Return the revision at which this process began, or last found that it had been asleep. It saw everything that was written later."""

    def seen(self, kind: str, key: Key) -> float:
        """Monotonic time at which this process saw the object's last change; its start for what was there before."""

    def since(self, kind: str, index: str, value: str, key: Key) -> float:
        """Monotonic time since which this process saw the object under `value` without a break: how long a state has lasted. `seen` if it is not there."""

    def latest(self, kind: str, index: str, value: str) -> float:
        """Monotonic time at which this process saw the last of the objects that `by` would return come under the value; 0 if there are none."""

    def wall(self) -> float:
        """Seconds since the epoch, for timestamps that people read; never for deciding how old something is."""


Index = Callable[[Any], Iterable[str]]

EVERY = "*"
"""In `watches` and `indexes`: every kind there is, also those that come while the master runs."""


@runtime_checkable
class Observer(Protocol):
    """Is shown every change of some kinds, and reacts: it wakes a worker, or keeps a picture of its own up to date.

    The runner shows it each change once, in order, on the loop, before any controller is asked whom the change concerns. `seen` returns soon and raises
    nothing; whatever takes time is done by tasks of the observer's own. One object may be an observer and a controller.
    """

    name: str

    @property
    def follows(self) -> Iterable[str]:
        """Return the kinds whose changes it is shown (or EVERY)."""

    @property
    def indexes(self) -> Mapping[tuple[str, str], Index]:
        """Return the indexes it needs, as a controller declares them."""

    def seen(self, view: View, change: Seen) -> None: ...


@runtime_checkable
class Remembers(Protocol):
    """A controller whose decision must count before the view shows it, as a scheduler's: the next pod is planned in the same moment.

    The runner tells it of every plan, right after `plan` made it, which stays a pure function.
    """

    def decided(self, view: View, key: Key, plan: Plan, now: float) -> None: ...


@runtime_checkable
class Ranks(Protocol):
    """A controller some of whose keys are more urgent than others: of those that are to be planned, the one with the highest rank comes first.

    The rank is asked for when a key is added to the queue. Other controllers' keys wait no longer for it.
    """

    def rank(self, view: View, key: Key) -> int: ...


@runtime_checkable
class Controller(Protocol):
    """Decides what to write. `plan` is a pure function of the view and of what it is passed."""

    name: str
    kind: str  # what its keys name, for the journal and `why`

    @property
    def watches(self) -> Mapping[str, Callable[[View, Seen], Iterable[Key]]]:
        """Return for each kind (or EVERY) a function that says which keys a change concerns."""

    @property
    def indexes(self) -> Mapping[tuple[str, str], Index]:
        """Return (kind, index name) -> the values an object is found by. Two controllers with the same pair must have the same function."""

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan: ...


Follower = Controller | Observer
"""What a runner hosts."""
