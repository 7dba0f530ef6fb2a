"""What every pod worker is given: the machine, the API, images, events, settings. One value, made once in main.py."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from . import linux, trust
from .backoff import Backoff
from .certificates import PodCertificates
from .client import Api, Refused
from .events import Recorder
from .images import Images
from .ownusers import OwnUsers
from .runtime.interface import Runtime
from .settings import Settings
from .titles import log_folder
from .tokens import Tokens
from .volumes import Sources

Object = Dict[str, Any]
ROOT_CERTIFICATE = "kube-root-ca.crt"
CERTIFICATE_KEPT_S = 600.0
CERTIFICATES_MAX = 1000


@dataclass
class Tools:
    settings: Settings
    api: Api
    runtime: Runtime
    images: Images
    events: Recorder
    say: Callable[[str], None]
    host_ip: str = ""
    allocatable: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = 0  # of the whole machine
    recursive_read_only: bool = field(default_factory=linux.has_mount_setattr)
    own_users: OwnUsers = field(default_factory=OwnUsers)
    taken: Dict[str, Dict[str, int]] = field(default_factory=dict)  # by pod: what it was given (thousandths of "cpu", bytes of "memory")
    _certificates: Dict[str, Tuple[float, Object]] = field(default_factory=dict)  # by namespace: when it was read, and the ConfigMap

    def __post_init__(self) -> None:
        self.tokens = Tokens(self.api)
        self.certificates = PodCertificates(self.api, self.settings.node, self.events.record, self.pod_dir, self.say)
        anchors = functools.partial(trust.anchors, self.api)
        self.sources = Sources(self.fetch, self.tokens.token, anchors, self.certificates.bundle, self.settings.volumes_dir)

    @property
    def backoff(self) -> Backoff:
        return Backoff(self.settings.backoff_first_s, self.settings.backoff_most_s, self.settings.backoff_reset_s)

    def pod_dir(self, uid: str) -> str:
        return os.path.join(self.settings.state_dir, "pods", uid)

    def logs_dir(self, pod: Object) -> str:
        return os.path.join(self.settings.pod_logs_dir, log_folder(pod))

    async def fetch(self, kind: str, namespace: str, name: str) -> Optional[Object]:
        """Return an object of the core API that a pod uses, or None if there is none. The volume of a claim has no namespace."""
        if name == ROOT_CERTIFICATE and kind == "configmaps":
            return await self._root_certificate(namespace)
        return await self._get(kind, namespace, name)

    async def _root_certificate(self, namespace: str) -> Optional[Object]:
        """Return the lab's CA, which nearly every pod has among its files. It is read once in a while for all pods of a namespace."""
        read_s, found = self._certificates.get(namespace, (0.0, None))
        if found is not None and time.monotonic() < read_s + CERTIFICATE_KEPT_S:
            return found
        fresh = await self._get("configmaps", namespace, ROOT_CERTIFICATE)
        if fresh is not None:
            if len(self._certificates) >= CERTIFICATES_MAX:
                self._certificates.clear()
            self._certificates[namespace] = (time.monotonic(), fresh)
        return fresh

    async def _get(self, kind: str, namespace: str, name: str) -> Optional[Object]:
        try:
            return await self.api.get(f"/api/v1/{f'namespaces/{namespace}/' if namespace else ''}{kind}/{name}")
        except Refused as error:
            if error.code == 404:
                return None
            raise
