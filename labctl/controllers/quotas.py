"""The quota controller: what each ResourceQuota's namespace uses, counted from what is there.

The admission step (admission/resourcequota.py) adds to the usage when something is made; this controller counts all of it anew whenever something
changes or goes, as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from random import Random

from labctl.reconcile.plan import EVERY, NOTHING, Index, Key, Patch, Plan, Seen, View
from labctl.resources import quantities, quota
from labctl.resources.kinds.core_v1.resourcequota import ResourceQuota
from labctl.resources.registry import Registry

QUOTAS = "resourcequotas"


class Quotas:
    name = "resourcequota-controller"
    kind = QUOTAS

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.watches: Mapping[str, Callable[[View, Seen], Iterable[Key]]] = {EVERY: _of_namespace, QUOTAS: lambda _view, seen: (seen.key,)}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        wanted: ResourceQuota | None = view.get(QUOTAS, key)
        if wanted is None or wanted.metadata.deletion_timestamp is not None:
            return NOTHING
        used = self._used(view, wanted)
        hard = {name: quantities.canonical(value) for name, value in wanted.spec.hard.items()}
        status = wanted.status
        if dict(status.hard) == hard and dict(status.used) == used:
            return NOTHING
        gone = dict.fromkeys({*status.hard, *status.used} - set(hard))
        patch = {"status": {"hard": {**gone, **hard}, "used": {**gone, **used}}}
        return Plan([Patch(QUOTAS, key, patch, "status", revision=wanted.metadata.revision)])

    def _used(self, view: View, wanted: ResourceQuota) -> dict[str, str]:
        total = dict.fromkeys(wanted.spec.hard, Fraction(0))
        requirements = wanted.spec.requirements()
        for kind in self._registry:
            if not kind.namespaced or not _bounded(kind.resource, total):
                continue
            for each in view.all(kind.resource, wanted.metadata.namespace):
                whole = view.raw(kind.resource, each.metadata.key)
                if whole is not None and quota.in_scope(kind, whole, requirements):
                    for name, amount in quota.usage(kind, whole).items():
                        if name in total:
                            total[name] += amount
        return {name: quantities.text(amount, wanted.spec.hard[name]) for name, amount in total.items()}


def _bounded(resource: str, names: Iterable[str]) -> bool:
    """Tell whether a quota with these names counts objects of this resource at all."""
    pods = ("pods", "cpu", "memory", "ephemeral-storage", "requests.", "limits.")
    for name in names:
        if name in (f"count/{resource}", resource) or (resource == "pods" and name.startswith(pods)):
            return True
        if resource == "services" and name.startswith("services."):
            return True
        if resource == "persistentvolumeclaims" and (name == "requests.storage" or ".storageclass.storage.k8s.io/" in name):
            return True
    return False


def _of_namespace(view: View, seen: Seen) -> Iterable[Key]:
    """Return a namespace with quotas in which something changed that may count."""
    namespace, slash, _ = seen.key.partition("/")
    if not slash or seen.kind in (QUOTAS, "events", "leases.coordination.k8s.io"):
        return ()
    if seen.kind == "pods" and seen.old is not None and seen.new is not None and seen.old.finished == seen.new.finished:
        return ()
    return [each.metadata.key for each in view.all(QUOTAS, namespace)]
