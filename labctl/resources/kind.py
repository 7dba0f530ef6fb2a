"""A kind is a value: its names, its typed view, its defaults, its rules and its columns, in one file under kinds/.

Nothing here is global: each master owns a Registry of kinds (registry.py), and kinds may be added to it and taken from it while the master runs.
Typed views are frozen msgspec Structs of the fields labctl acts on, `rename="camel"`: pod.spec.node_name is `spec.nodeName`.
A kind that is known only at run time has the view of generic.py. The whole object stays as bytes; a dict of it exists only inside one write.

A resource may be served in several versions. Each is a Kind of its own; all but one name the Kind that is stored in `storage`, and `conversion`
turns objects of one version into another (verbs/versions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from labctl.decoding import ready
from labctl.resources.claims import Ranges
from labctl.store.interface import Entry

Object = dict[str, Any]


class OwnerReference(msgspec.Struct, frozen=True, rename="camel", gc=False):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class Meta(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The fields of metav1.ObjectMeta that labctl acts on."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    generate_name: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return the key of the object in plans and views: `namespace/name`, or `name`."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def revision(self) -> int:
        return int(self.resource_version or 0)

    @property
    def controller(self) -> OwnerReference | None:
        """Return the owner that manages this object, or None."""
        for owner in self.owner_references:  # not `next` of a generator: each change of a pod asks ten times
            if owner.controller:
                return owner
        return None


class Viewed(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The base of every typed view. `kind` and `api_version` are known from the Kind, so they are not decoded."""

    metadata: Meta = Meta()

    @classmethod
    def decoder(cls) -> Callable[[bytes], Any]:
        """Returns a function that decodes the view from an object's stored bytes."""
        return msgspec.json.Decoder(ready(cls)).decode


_V = TypeVar("_V", bound=Viewed)


def newest(views: Iterable[_V]) -> _V | None:
    """Return the one that holds of several classes that are marked as the default: the newest, and of those the first by name."""
    by_name = sorted(views, key=lambda each: each.metadata.name)
    return max(by_name, key=lambda each: each.metadata.creation_timestamp or "", default=None)


@dataclass(frozen=True)
class Column:
    """A column of a kind's Table, as kubectl prints it. With `priority` 1 it appears only with -o wide. `cell(view, now_s)` returns a str or int."""

    name: str
    cell: Callable[[Any, float], str | int]
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


@dataclass(frozen=True)
class FieldError:
    """One cause of an Invalid error, as apimachinery's field.Error prints it.

    `type` is FieldValueRequired, FieldValueInvalid, FieldValueNotSupported, FieldValueForbidden, FieldValueDuplicate, FieldValueTooLong, ...;
    `message` is the whole text after the path, e.g. `Invalid value: -1: must be greater than or equal to 0`.
    """

    field: str
    type: str
    message: str


@dataclass(frozen=True)
class Subresource:
    """A subresource such as status, scale or binding. `kind`, `group` and `version` are set if its body is of another kind than the object.

    One that writes a part of the spec makes the new spec of the one that was sent and the old one in `merge`, so that all else stays as it is. What it writes,
    a part of the spec or the status, is checked by `validate(new, old)`, after `defaults(obj)` has filled in, in place, what a status left out. `keeps`
    names the metadata that a write of the status can't change. `prepare(new, old)` changes, in place, what such a write brings along, before it is checked.
    """

    name: str
    verbs: tuple[str, ...]
    kind: str = ""
    group: str = ""
    version: str = ""
    merge: Callable[[Object, Object], Object] | None = None
    validate: Callable[[Object, Object], Iterable[FieldError]] = lambda _new, _old: ()
    defaults: Callable[[Object], None] = lambda _obj: None
    keeps: tuple[str, ...] = ("finalizers", "ownerReferences")
    prepare: Callable[[Object, Object], None] = lambda _new, _old: None


KEEPS_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
"""All of the metadata that a write could change: apimachinery's ResetObjectMetaForStatus, which some kinds call."""


@dataclass(frozen=True)
class TypeDefaults:
    """The defaults of one type (a definition of the schema), for fields that a user left out.

    `zero` is filled in if the field is absent or has Go's zero value (`""`, 0); `absent` only if it is absent: there Go has a pointer, so a user who wrote
    a zero meant it. `function` does what no table can express. Doing it twice must change nothing.
    """

    zero: Object = field(default_factory=dict)
    absent: Object = field(default_factory=dict)
    function: Callable[[Object], None] | None = None


@dataclass(frozen=True)
class ScalePaths:
    """The fields that a kind's `scale` subresource shows. Paths are dotted; `selector` returns the label selector as text."""

    selector: Callable[[Object], str]
    replicas: str = "spec.replicas"
    current: str = "status.replicas"


class Surroundings(Protocol):
    """What a kind may know of the lab when one of its objects is stored."""

    def views(self, resource: str, namespace: str) -> Iterable[Any]:
        """Returns the typed views of the objects of a namespace; none if there is no such resource."""

    def now(self) -> str:
        """Returns the time, in RFC 3339's form."""


class Conversion(Protocol):
    """Converts stored objects to one version of a resource, and objects that a user sent to the stored version."""

    def needed(self, kind: Kind, entry: Entry) -> bool:
        """True if this stored object must be converted for `kind`, which is one version of the resource."""

    async def convert(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
        """Returns the objects, in the same order, converted to `kind`. It may change the objects it is given. Raises ApiError."""


class Decoder(Protocol):
    """Decodes objects of a kind without a definition: a custom kind, whose own schema prunes and validates them later."""

    def decode(self, kind: Kind, raw: bytes, field_validation: str) -> tuple[Object, list[str]]:
        """Returns the object in a body, and warnings. Raises ApiError 400 if the body is no such object."""

    def patched(self, kind: Kind, obj: Object) -> list[str]:
        """Brings the result of a patch into its stored form, in place, and returns the paths of unknown fields. Raises ValueError if it is no such object."""


@dataclass(frozen=True, eq=False)
class Kind:
    """One version of a resource. See the module's story. All its functions take plain dicts, except `fields`:

    `defaults(obj)` fills in, in place, what the schema's table of defaults can't express; `prepare(new, old)` sets what the server owns (the status of a
    new object, fields that can't change); `validate(new, old)` returns errors (old is None for a create), `warnings(new, old)` what is legal but probably
    a mistake; `enter(new, around)` writes into a new object, in place, what follows from others at the moment when it is stored;
    `allocate(new, old, ranges)` fills in what must be unique in the lab, and returns errors; `claims(obj)` names the keys that reserve it, each once;
    `grace_s(obj, asked)` is how long a deletion waits for the object's agent; `fields(view)` are the fields, besides those of metadata, by which objects
    can be selected (it takes a view of the stored version).
    `type_defaults` has the defaults of types and `definitions` the types that Kubernetes' own schema does not have; both are keyed by the names of
    definitions (schema/).
    Kinds are compared by identity, because a custom kind may be replaced by another one of the same name.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    view: type[Viewed]
    columns: tuple[Column, ...] = ()
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    verbs: tuple[str, ...] = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
    has_status: bool = False
    defaults: Callable[[Object], None] = lambda _obj: None
    validate: Callable[[Object, Object | None], Iterable[FieldError]] = lambda _new, _old: ()
    prepare: Callable[[Object, Object | None], None] = lambda _new, _old: None
    warnings: Callable[[Object, Object | None], Iterable[str]] = lambda _new, _old: ()
    enter: Callable[[Object, Surroundings], None] = lambda _new, _around: None
    allocate: Callable[[Object, Object | None, Ranges], Iterable[FieldError]] | None = None
    claims: Callable[[Object], Iterable[str]] = lambda _obj: ()
    grace_s: Callable[[Object, int | None], int] = lambda _obj, _asked: 0
    fields: Callable[[Any], Mapping[str, str]] = lambda _view: {}
    acts_on: frozenset[str] = frozenset()  # dotted paths that labctl acts on; other fields cause a warning if they are set
    annotation_rules: Callable[[Mapping[str, str]], Iterable[FieldError]] = lambda _annotations: ()  # of annotations that mean something
    name_rule: str = "subdomain"  # subdomain, label (RFC 1123), path: how metadata.name is checked
    has_generation: bool = False  # metadata.generation counts the changes of spec
    orphans: bool = False  # a deletion without a propagation policy keeps the dependents
    create_on_update: bool = False  # a PUT of what is not there makes it
    persisted: bool = True  # False: a question, which the api answers and nobody stores (SelfSubjectAccessReview)
    lazy: bool = False  # writes of this kind may ride the next commit group (Lease, Event)
    tracks_fields: bool = True  # False: no managedFields, because programs write it often and nobody applies against it
    returned_when_deleted: bool = False  # a deletion that is complete answers the object's last state; else a Status
    type_defaults: Mapping[str, TypeDefaults] = field(default_factory=dict)
    definitions: Mapping[str, Object] = field(default_factory=dict)
    scale: ScalePaths | None = None  # what the subresource `scale` reads and writes
    served: bool = True  # False: a version that is only stored
    storage: Kind | None = None  # the version that is stored; None: this one
    conversion: Conversion | None = None  # None: what is stored is what is shown
    decoder: Decoder | None = None  # None: the schema's definition decodes its bodies
    spec_alone: Callable[[Object], bool] | None = (
        None  # whether all that the defaults, validation and warnings of this new object depend on is its spec
    )
    leaving: bool = (
        False  # its definition is being deleted: what there is may be changed, so that its finalizers can go, but no more is made
    )
    slow: bool = False  # its validation may take long, so it runs in a thread whatever the object's size
    deprecated: str = ""  # a warning that every request to this version is answered with

    @property
    def resource(self) -> str:
        """Return the name that plans and clients use: `pods`, `endpointslices.discovery.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def shown_verbs(self) -> tuple[str, ...]:
        """Return the verbs that discovery tells."""
        return tuple(verb for verb in self.verbs if verb not in ("create", "patch", "update")) if self.leaving else self.verbs

    @property
    def stored(self) -> Kind:
        """Return the version whose objects are in the store."""
        return self.storage or self

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def key(self, namespace: str, name: str) -> str:
        """Return the store's key: `pods/default/web-1`, `nodes/minion-1`."""
        resource = self.stored.resource
        return f"{resource}/{namespace}/{name}" if self.namespaced else f"{resource}/{name}"

    def prefix(self, namespace: str = "") -> str:
        resource = self.stored.resource
        return f"{resource}/{namespace}/" if namespace else f"{resource}/"
