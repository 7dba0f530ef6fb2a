"""The steps of claims: a new one without a class gets the default class, and one may grow only where its class can make its volume grow.

They are Kubernetes' plugins of the same names. labctl's own provisioner can't make a volume grow: its volumes are folders without a bound on their
size, so that a larger number would promise what nobody keeps.
"""

from __future__ import annotations

from labctl.resources import failures
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kinds.core_v1.persistentvolume import LOCAL_PROVISIONER
from labctl.resources.plurals import CLAIMS, STORAGE_CLASSES
from labctl.resources.quantities import parse
from labctl.resources.volumes import BETA_CLASS, default_class

_CAN_NOT = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"


class DefaultStorageClass:
    """A mutating step. A claim that says `storageClassName: ""` wants no class, and is left as it is."""

    name = "DefaultStorageClass"
    kinds: frozenset[str] | None = frozenset({CLAIMS})
    verbs: frozenset[Verb] = frozenset({"create"})

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.new is not None
        spec = attributes.new.setdefault("spec", {})
        if spec.get("storageClassName") is not None or BETA_CLASS in attributes.new["metadata"].get("annotations", {}):
            return
        found = default_class(self._client.list(STORAGE_CLASSES))
        if found is not None:
            spec["storageClassName"] = found.metadata.name


class PersistentVolumeClaimResize:
    """A validating step."""

    name = "PersistentVolumeClaimResize"
    kinds: frozenset[str] | None = frozenset({CLAIMS})
    verbs: frozenset[Verb] = frozenset({"update"})

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.new is not None and attributes.old is not None
        asked, before = (
            each["spec"].get("resources", {}).get("requests", {}).get("storage", 0) for each in (attributes.new, attributes.old)
        )
        if parse(asked) <= parse(before):
            return
        name = attributes.new["metadata"].get("annotations", {}).get(BETA_CLASS) or attributes.new["spec"].get("storageClassName")
        found = self._client.get(STORAGE_CLASSES, name) if name else None
        if found is None or not found.allow_volume_expansion:
            raise failures.forbidden(attributes.kind, attributes.name, _CAN_NOT)
        if found.provisioner == LOCAL_PROVISIONER:
            why = f'provisioner "{LOCAL_PROVISIONER}" makes folders on a minion\'s disk and can not resize them'
            raise failures.forbidden(attributes.kind, attributes.name, why)
