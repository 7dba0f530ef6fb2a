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
from typing import Any, Protocol

import msgspec

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
    """metav1.ObjectMeta, what labctl acts on of it."""

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
        """`namespace/name`, or `name`."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def revision(self) -> int:
        return int(self.resource_version or 0)

    @property
    def controller(self) -> OwnerReference | None:
        """The one owner that manages this object, if any."""
        return next((o for o in self.owner_references if o.controller), None)


class Viewed(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The base of every typed view. `kind` and `api_version` are known from the Kind, not read again."""

    metadata: Meta = Meta()

    @classmethod
    def decoder(cls) -> Callable[[bytes], Any]:
        """A function that reads a view out of an object's stored bytes."""
        return msgspec.json.Decoder(cls).decode


@dataclass(frozen=True)
class Column:
    """A column of a kind's Table, as kubectl prints it. `priority` 0: always, 1: with -o wide. `cell(view, now_s)` answers a str or int."""

    name: str
    cell: Callable[[Any, float], str | int]
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


@dataclass(frozen=True)
class FieldError:
    """One cause of an Invalid: as apimachinery's field.Error prints it.

    `type` is FieldValueRequired, FieldValueInvalid, FieldValueNotSupported, FieldValueForbidden, FieldValueDuplicate, FieldValueTooLong, ...;
    `message` is the whole text after the path, e.g. `Invalid value: -1: must be greater than or equal to 0`.
    """

    field: str
    type: str
    message: str


@dataclass(frozen=True)
class Subresource:
    """status, scale, binding, ... `verbs` as discovery lists them; `kind`/`group`/`version` of the body if it is another kind's."""

    name: str
    verbs: tuple[str, ...]
    kind: str = ""
    group: str = ""
    version: str = ""


@dataclass(frozen=True)
class TypeDefaults:
    """What is filled into every value of one type (a definition of the schema) where the user said nothing.

    `zero` is filled in where the field is absent or holds Go's zero value (`""`, 0); `absent` only where it is absent, because Go has a pointer there
    and a zero was said on purpose. `function` does what no table can say. Doing it twice must change nothing.
    """

    zero: Object = field(default_factory=dict)
    absent: Object = field(default_factory=dict)
    function: Callable[[Object], None] | None = None


@dataclass(frozen=True)
class ScalePaths:
    """Where a kind keeps what its `scale` subresource shows. Paths are dotted; `selector` answers the label selector as text."""

    selector: Callable[[Object], str]
    replicas: str = "spec.replicas"
    current: str = "status.replicas"


class Conversion(Protocol):
    """Turns stored objects into what one version shows, and what a user sent into what is stored."""

    def needed(self, kind: Kind, entry: Entry) -> bool:
        """Whether this stored object differs from what `kind`, one version of the resource, shows."""

    async def convert(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
        """The objects, in the same order, as `kind` has them. It may change the objects it is given. Raises ApiError."""


class Decoder(Protocol):
    """Reads the objects of a kind that no definition describes: a custom kind's, whose schema prunes and says what is wrong later."""

    def decode(self, kind: Kind, raw: bytes, field_validation: str) -> tuple[Object, list[str]]:
        """The object that a body means, and warnings. ApiError 400 for what is no such object."""

    def patched(self, kind: Kind, obj: Object) -> list[str]:
        """Brings what a patch made of an object into its stored form, in place; answers the paths of unknown fields."""


@dataclass(frozen=True, eq=False)
class Kind:
    """One version of a resource. See the module's story. Its functions, all of plain dicts but for `fields`:

    `defaults(obj)` fills in place what the schema's table of defaults can't say; `prepare(new, old)` sets what the server owns (status on create, fields
    that stay as they were); `validate(new, old)` answers what is wrong (old None: create), `warnings(new, old)` what is legal but hardly meant;
    `allocate(new, old, ranges)` fills in what must be unique in the lab and answers what can't be had, `claims(obj)` names the keys that hold it;
    `grace_s(obj, asked)` is how long a deletion waits for the object's agent; `fields(view)` are the field selectors it answers beside metadata's (of the stored version);
    `type_defaults` and `definitions` are keyed by the names of definitions (schema/): what is filled into which type, and the types of a kind that
    Kubernetes' own schema does not have.
    Two kinds are the same only if they are one: a custom kind may be replaced by another of its name.
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
    allocate: Callable[[Object, Object | None, Ranges], Iterable[FieldError]] | None = None
    claims: Callable[[Object], Iterable[str]] = lambda _obj: ()
    grace_s: Callable[[Object, int | None], int] = lambda _obj, _asked: 0
    fields: Callable[[Any], Mapping[str, str]] = lambda _view: {}
    acts_on: frozenset[str] = frozenset()  # dotted paths labctl acts on; a set field outside gets a Warning
    name_rule: str = "subdomain"  # subdomain, label (RFC 1123), service (RFC 1035), path: how metadata.name is checked
    has_generation: bool = False  # metadata.generation counts the changes of spec
    orphans: bool = False  # a deletion that says nothing of its dependents leaves them
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
    slow: bool = False  # its validation may take long, so it runs in a thread whatever the object's size
    deprecated: str = ""  # a warning that every request to this version is answered with

    @property
    def resource(self) -> str:
        """How plans and clients name it: `pods`, `endpointslices.discovery.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def stored(self) -> Kind:
        """The version whose objects lie in the store."""
        return self.storage or self

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def key(self, namespace: str, name: str) -> str:
        """The store's key: `pods/default/web-1`, `nodes/minion-1`."""
        resource = self.stored.resource
        return f"{resource}/{namespace}/{name}" if self.namespaced else f"{resource}/{name}"

    def prefix(self, namespace: str = "") -> str:
        resource = self.stored.resource
        return f"{resource}/{namespace}/" if namespace else f"{resource}/"
