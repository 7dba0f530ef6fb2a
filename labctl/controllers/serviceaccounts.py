"""Each namespace has a ServiceAccount `default` and a ConfigMap `kube-root-ca.crt`: what a pod needs to call the API as somebody, and to trust it.

Both are made with the namespace and again when somebody deletes them; the ConfigMap is also mended. Keys: names of namespaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any

from labctl.controllers.indexes import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import NOTHING, Action, Create, Index, Key, Patch, Plan, Seen, View

DEFAULT = "default"
ROOT_CERTIFICATE = "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or "
    "kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)


class ServiceAccounts:
    name = "service-account-controller"
    kind = NAMESPACES

    def __init__(self, settings: ControllerSettings) -> None:
        self._certificate = settings.root_certificate
        self.watches = {NAMESPACES: lambda _view, seen: (seen.key,), SERVICE_ACCOUNTS: _of(DEFAULT), CONFIG_MAPS: _of(ROOT_CERTIFICATE)}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        namespace = view.get(NAMESPACES, key)
        if namespace is None or namespace.metadata.deletion_timestamp:
            return NOTHING
        return Plan([*self._account(view, key), *self._root_certificate(view, key)])

    def _account(self, view: View, namespace: str) -> Iterator[Action]:
        if view.get(SERVICE_ACCOUNTS, f"{namespace}/{DEFAULT}") is None:
            yield Create(SERVICE_ACCOUNTS, {"metadata": {"name": DEFAULT, "namespace": namespace}})

    def _root_certificate(self, view: View, namespace: str) -> Iterator[Action]:
        if not self._certificate:
            return
        there = view.get(CONFIG_MAPS, f"{namespace}/{ROOT_CERTIFICATE}")
        data = {"ca.crt": self._certificate}
        if there is None:
            metadata = {"name": ROOT_CERTIFICATE, "namespace": namespace, "annotations": {"kubernetes.io/description": _DESCRIPTION}}
            yield Create(CONFIG_MAPS, {"metadata": metadata, "data": data})
        elif there.data != data:
            gone = dict.fromkeys(there.data)
            yield Patch(CONFIG_MAPS, f"{namespace}/{ROOT_CERTIFICATE}", {"data": {**gone, **data}}, why="it is the lab's own again")


def _of(name: str) -> Any:
    def concerned(_view: View, seen: Seen) -> Iterable[Key]:
        namespace, _, its_name = seen.key.partition("/")
        return (namespace,) if its_name == name else ()

    return concerned
