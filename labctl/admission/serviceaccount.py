"""ServiceAccount: each new pod has one, and a token of it in the files that Kubernetes' client libraries look for.

A mutating step, as Kubernetes' plugin of the same name: a pod that names no ServiceAccount gets `default`; one that names an absent one is refused;
unless automounting is off, each container gets the volume `kube-api-access-xxxxx` with the files token, ca.crt and namespace. Its name is random, but the same
in all pods that one master makes, so that pods of one template are alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from labctl.resources import failures
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.kinds.core_v1.serviceaccount import ServiceAccount as Account
from labctl.resources.plurals import PODS, SERVICE_ACCOUNTS

DEFAULT = "default"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CERTIFICATE = "kube-root-ca.crt"
_PREFIX = "kube-api-access-"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_LIFE_S = 3607  # an hour, and the odd seconds by which Kubernetes tells its own volumes from others
_JUST_MADE = Account()  # the ServiceAccount `default` of a namespace that its controller has not reached yet
_MIRROR = "kubernetes.io/config.mirror"


class ServiceAccount:
    name = "ServiceAccount"
    kinds: frozenset[str] | None = frozenset({PODS})
    verbs: frozenset[Verb] = frozenset({"create"})

    def __init__(self, client: Client, rng: Random) -> None:
        self._client = client
        self._volume_name = _PREFIX + "".join(rng.choice(_LETTERS) for _ in range(5))

    async def admit(self, attributes: Attributes) -> None:
        pod = attributes.new
        if pod is None or attributes.subresource or _MIRROR in (pod["metadata"].get("annotations") or {}):
            return
        spec = pod.setdefault("spec", {})
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT
        account = self._account(attributes, name)
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        if _automounts(spec, account):
            self._mount(spec)
        if not spec.get("imagePullSecrets") and account.image_pull_secrets:
            spec["imagePullSecrets"] = [{"name": secret.name} for secret in account.image_pull_secrets]

    def _account(self, attributes: Attributes, name: str) -> Account:
        """Raises 403 if there is none. `default` is made with its namespace: who is quicker than its controller is not refused."""
        namespace = attributes.namespace
        found: Account | None = self._client.get(SERVICE_ACCOUNTS, f"{namespace}/{name}")
        if found is None and name == DEFAULT:
            return _JUST_MADE
        if found is None:
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise failures.forbidden(attributes.kind, attributes.name, why)
        return found

    def _mount(self, spec: Object) -> None:
        there = (each.get("name") or "" for each in spec.get("volumes") or () if isinstance(each, dict))
        found = next((name for name in there if name.startswith(_PREFIX)), "")  # of an earlier round, or the author's own
        volume = found or self._volume_name
        containers = [each for each in _containers(spec) if not _has_mount(each)]
        for container in containers:
            mounts = container.get("volumeMounts") or []
            container["volumeMounts"] = [*mounts, {"name": volume, "readOnly": True, "mountPath": MOUNT_PATH}]
        if containers and not found:
            spec["volumes"] = [*(spec.get("volumes") or []), _volume(volume)]


def _automounts(spec: Object, account: Account) -> bool:
    asked = spec.get("automountServiceAccountToken")
    if asked is None:
        asked = account.automount_service_account_token
    return asked is None or bool(asked)


def _containers(spec: Object) -> Iterator[Any]:
    for part in ("initContainers", "containers"):
        yield from (each for each in spec.get(part) or () if isinstance(each, dict))


def _has_mount(container: Object) -> bool:
    return any(mount.get("mountPath") == MOUNT_PATH for mount in container.get("volumeMounts") or ())


def _volume(name: str) -> Object:
    sources = [
        {"serviceAccountToken": {"expirationSeconds": _LIFE_S, "path": "token"}},
        {"configMap": {"name": ROOT_CERTIFICATE, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]
    return {"name": name, "projected": {"defaultMode": 0o644, "sources": sources}}
