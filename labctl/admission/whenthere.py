"""A step that counts only while objects are stored that configure it: a lab without policies, webhooks, limits and quotas neither imports nor asks it."""

from __future__ import annotations

from collections.abc import Callable

from labctl.resources.admission import AdmissionStep, Attributes, Verb
from labctl.resources.client import Client


class WhenThere:
    """`resource` are the objects that configure the step; `make` imports it."""

    def __init__(
        self,
        name: str,
        client: Client,
        resource: str,
        make: Callable[[], AdmissionStep],
        kinds: frozenset[str] | None = None,
        verbs: frozenset[Verb] = frozenset({"create", "update", "delete"}),
    ) -> None:
        self.name = name
        self.kinds = kinds
        self.verbs = verbs
        self._store = client.resources.store
        self._prefix = resource + "/"
        self._make = make
        self._step: AdmissionStep | None = None
        self._there, self._as_of = False, -1  # whether such objects were stored, as of a `changed_at`

    async def admit(self, attributes: Attributes) -> None:
        changed_at = self._store.changed_at(self._prefix)
        if changed_at != self._as_of:
            self._there, self._as_of = self._store.has(self._prefix), changed_at
        if not self._there:
            return
        if self._step is None:
            self._step = self._make()
        await self._step.admit(attributes)
