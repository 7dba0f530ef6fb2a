"""ResourceQuota: what a write would add to a namespace's usage is taken from its quotas, or the write is refused.

The usage stands in each quota's status. It is taken by an update at the revision that was read, so two writes never take the same rest. The controller
counts anew whenever objects go, and so gives back what a write took that failed afterwards.
"""

from __future__ import annotations

from fractions import Fraction

from labctl.errors import ApiError, Conflict
from labctl.resources import failures, quantities, quota
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kinds.core_v1.resourcequota import ResourceQuota as Quota
from labctl.resources.quota import Usage

QUOTAS = "resourcequotas"
_TRIES = 20
_NEVER = frozenset({"events", "resourcequotas", "bindings"})


class ResourceQuota:
    """A validating step, and the last one: what it takes is taken for a write that nothing else refuses."""

    name = "ResourceQuota"
    kinds: frozenset[str] | None = None
    verbs: frozenset[Verb] = frozenset({"create", "update"})

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        if (
            not attributes.kind.namespaced
            or attributes.subresource not in ("", "resize")
            or attributes.kind.resource in _NEVER
            or not attributes.kind.persisted
            or attributes.new is None
        ):
            return
        for each in self._client.list(QUOTAS, attributes.namespace):
            await self._charge(attributes, each)

    async def _charge(self, attributes: Attributes, each: Quota) -> None:
        assert attributes.new is not None
        if not quota.in_scope(attributes.kind, attributes.new, each.spec.requirements()):
            return
        delta = _added(attributes, each)
        if attributes.kind.resource == "pods" and attributes.verb == "create":
            missing = quota.missing(attributes.new.get("spec") or {}, each.spec.hard)
            if missing:
                raise _refused(attributes, f"failed quota: {each.metadata.name}: must specify {missing}")
        if not delta:
            return
        for _ in range(_TRIES):
            current: Quota | None = self._client.get(QUOTAS, each.metadata.key)
            if current is None:
                return
            status = _taken(attributes, current, delta)
            if getattr(attributes.options, "dry_run", False):
                return
            try:
                await self._client.patch(QUOTAS, current.metadata.key, {"status": {"used": status}}, "status", current.metadata.revision)
                return
            except (Conflict, ApiError) as error:
                if isinstance(error, ApiError) and error.reason != "Conflict":
                    raise
        raise _refused(attributes, f"quota {each.metadata.name} is busy: try again")


def _added(attributes: Attributes, each: Quota) -> Usage:
    """Return what the write adds to what the quota limits. The controller sees what it takes away."""
    assert attributes.new is not None
    new = quota.usage(attributes.kind, attributes.new)
    old = quota.usage(attributes.kind, attributes.old) if attributes.old is not None else {}
    changes = {name: new.get(name, Fraction(0)) - old.get(name, Fraction(0)) for name in each.spec.hard}
    return {name: change for name, change in changes.items() if change > 0}


def _taken(attributes: Attributes, current: Quota, delta: Usage) -> dict[str, str]:
    """Return the new usage. Raises ApiError if it would be too much."""
    used = {name: quantities.parse(current.status.used.get(name, 0)) for name in delta}
    hard = current.spec.hard
    over = sorted(name for name in delta if used[name] + delta[name] > quantities.parse(hard[name]))
    if over:
        parts = (("requested", delta), ("used", used), ("limited", {name: quantities.parse(hard[name]) for name in over}))
        shown = ", ".join(
            f"{word}: {','.join(f'{name}={quantities.text(amounts[name], hard[name])}' for name in over)}" for word, amounts in parts
        )
        raise _refused(attributes, f"exceeded quota: {current.metadata.name}, {shown}")
    return {name: quantities.text(used[name] + delta[name], hard[name]) for name in delta}


def _refused(attributes: Attributes, why: str) -> ApiError:
    return failures.forbidden(attributes.kind, attributes.name, why)
