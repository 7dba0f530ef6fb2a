"""StorageClass: who makes the volumes of a kind of claims, when, and what becomes of them afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from labctl.resources import fields, names
from labctl.resources.cells import AGE
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds.core_v1 import outdated
from labctl.resources.labels import key_errors

IS_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
WAIT = "WaitForFirstConsumer"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
MODES = ("Immediate", WAIT)
POLICIES = ("Delete", "Retain")
_MOST_PARAMETERS, _MOST_BYTES = 512, 256 * 1024


class StorageClass(Viewed, frozen=True, rename="camel", gc=False):
    provisioner: str = ""
    reclaim_policy: str = "Delete"
    volume_binding_mode: str = "Immediate"
    allow_volume_expansion: bool = False
    mount_options: tuple[str, ...] = ()

    @property
    def is_default(self) -> bool:
        return any(self.metadata.annotations.get(name) == "true" for name in IS_DEFAULT)

    @property
    def waits(self) -> bool:
        """Tell whether its claims wait for the first pod that uses them."""
        return self.volume_binding_mode == WAIT


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    provisioner = new.get("provisioner", "")
    if not provisioner:
        yield fields.required("provisioner")
    else:
        yield from (fields.invalid("provisioner", provisioner, why) for why in key_errors(provisioner.lower()))
    yield from parameters(new.get("parameters") or {})
    for name, allowed in (("reclaimPolicy", POLICIES), ("volumeBindingMode", MODES)):
        if new.get(name) not in allowed:
            yield fields.not_supported(name, new.get(name), allowed)
    yield from _topologies(new.get("allowedTopologies") or ())
    for name in ("provisioner", "parameters", "reclaimPolicy"):
        if old is not None and (new.get(name) or None) != (old.get(name) or None):
            yield fields.forbidden(name, f"updates to {name} are forbidden.")
    if old is not None and new.get("volumeBindingMode") != old.get("volumeBindingMode"):
        yield fields.invalid("volumeBindingMode", new.get("volumeBindingMode"), "field is immutable")


def parameters(said: Mapping[str, str]) -> Iterator[FieldError]:
    """Check what a provisioner or a driver is told: there are bounds to it."""
    if len(said) > _MOST_PARAMETERS:
        yield fields.too_long("parameters", _MOST_PARAMETERS)
        return
    if "" in said:
        yield fields.invalid("parameters", "", "field can not be empty.")
    if sum(len(key.encode()) + len(value.encode()) for key, value in said.items()) > _MOST_BYTES:
        yield fields.too_long("parameters", _MOST_BYTES)


def _topologies(terms: Sequence[Object]) -> Iterator[FieldError]:
    seen: list[Mapping[str, frozenset[str]]] = []
    for number, term in enumerate(terms):
        at = f"allowedTopologies[{number}].matchLabelExpressions"
        wanted: dict[str, frozenset[str]] = {}
        for index, one in enumerate(term.get("matchLabelExpressions") or ()):
            key, values = one.get("key", ""), one.get("values") or []
            if not values:
                yield fields.required(f"{at}[{index}].values")
            for position, value in enumerate(values):
                if value in values[:position]:
                    yield fields.duplicate(f"{at}[{index}].values[{position}]", value)
            yield from names.checked(f"{at}[{index}].key", key, key_errors)
            if key in wanted:
                yield fields.duplicate(f"{at}[{index}].key", key)
            wanted[key] = frozenset(values)
        if not wanted or wanted in seen:
            yield fields.duplicate(at, "")
        seen.append(wanted)


def _name(view: StorageClass, _now_s: float) -> str:
    return f"{view.metadata.name} (default)" if view.is_default else view.metadata.name


def warnings(new: Object, _old: Object | None) -> Iterator[str]:
    for number, topology in enumerate(new.get("allowedTopologies") or ()):
        for index, expression in enumerate(topology.get("matchLabelExpressions") or ()):
            if why := outdated.NODE_LABELS.get(expression.get("key", "")):
                yield f"allowedTopologies[{number}].matchLabelExpressions[{index}]: {why}"


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="StorageClass",
    plural="storageclasses",
    singular="storageclass",
    namespaced=False,
    view=StorageClass,
    short_names=("sc",),
    columns=(
        Column("Name", _name, format="name", description="Name must be unique."),
        Column("Provisioner", lambda view, _now: view.provisioner, description="Who makes its volumes."),
        Column("ReclaimPolicy", lambda view, _now: view.reclaim_policy, description="What becomes of a volume when its claim is gone."),
        Column("VolumeBindingMode", lambda view, _now: view.volume_binding_mode, description="When volumes are bound and made."),
        Column(
            "AllowVolumeExpansion",
            lambda view, _now: "true" if view.allow_volume_expansion else "false",
            description="Whether a claim may grow.",
        ),
        AGE,
    ),
    validate=validate,
    warnings=warnings,
    acts_on=frozenset({"allowVolumeExpansion", "mountOptions", "parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"}),
    type_defaults={
        "io.k8s.api.storage.v1.StorageClass": TypeDefaults(absent={"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})
    },
)
