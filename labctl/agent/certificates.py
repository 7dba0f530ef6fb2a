"""Certificates for the pods on this machine (KEP-4317): the source `podCertificate` of a projected volume.

Who calls it: worker.py begins (`ask`), so that the signer can answer while the pod's sandbox is made; volumes.py takes the key and the chain (`bundle`) and writes them
into the pod's files. For each source this module makes a key, asks the source's signer with a PodCertificateRequest, waits for the answer, and asks again, with a fresh key,
when the signer said that it is time to (`beginRefreshAt`, and up to five minutes later, so that not all pods ask at once).

As with the kubelet, a request that was denied or has failed is an end: a signer that says no is not asked again. What a pod has already it keeps until it ends; an Event
says when it is overdue, and when it has expired. Unlike a kubelet, an agent that starts anew goes on with what it gave before (`POD/certificates/`, for root alone), so
that its own restart neither stops a pod nor floods signers. The key of a request that is under way is in memory only: after a restart another one is asked for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import re
import time
import traceback
from dataclasses import asdict, dataclass
from typing import Any, Awaitable, Callable, Dict, Iterator, Optional, Tuple

from . import keys
from .answers import Answers
from .client import Api, Delays, Refused
from .deadlines import wait_for
from .environment import ConfigError
from .events import of_pod
from .http import Unreachable
from .runtime.records import read_json
from .times import parse
from .titles import pod_title

Object = Dict[str, Any]
Name = Tuple[str, str, int]  # a pod's uid, a volume's name, which of its sources

PATH = "/apis/certificates.k8s.io/v1/namespaces/{}/podcertificaterequests"
JITTER_S = 300.0
OVERDUE_S = 600.0  # after the time to renew
LOOK_S = 30.0  # the clock on the wall may jump: nobody sleeps longer than this without a look at it
PATIENCE_S = 2.0  # so long a pod's volumes wait for a quick signer before they say why they don't start
RETRY_FIRST_S, RETRY_MOST_S = 1.0, 300.0
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")

Record = Callable[[Object, str, str, str], None]
Make = Callable[[str], Awaitable[keys.Made]]


@dataclass(frozen=True)
class Issued:
    """What a pod gets, and when it is worth nothing any more. Times are seconds of this machine's clock."""

    key: str
    chain: str
    renew_s: float
    expires_s: float


class PodCertificates:
    """Of all pods. `heard` is told the uid of a pod for which there is news."""

    def __init__(
        self,
        api: Api,
        node: str,
        record: Record,
        pod_dir: Callable[[str], str],
        say: Callable[[str], None],
        wall: Callable[[], float] = time.time,
        make: Optional[Make] = None,
        rng: Optional[random.Random] = None,
    ) -> None:
        self.api, self.node, self.record, self.pod_dir, self.say, self.wall = api, node, record, pod_dir, say, wall
        self.answers = Answers(api, node, say)
        self.make = make or _OneByOne()
        self.rng = rng or random.Random()
        self.heard: Callable[[str], None] = lambda uid: None
        self._all: Dict[Name, _Certificate] = {}
        self._turns: Dict[str, asyncio.Lock] = {}  # by the uid of a pod

    def ask(self, pod: Object) -> None:
        """Begins to ask for every certificate that the pod's volumes need and that is not here yet; returns at once."""
        for volume, index, source in sources(pod):
            name = (pod["metadata"]["uid"], volume, index)
            if name not in self._all:
                self._all[name] = _Certificate(self, pod, name, source)

    async def bundle(self, pod: Object, volume: str, index: int) -> Tuple[bytes, bytes]:
        """Return the private key and the chain of certificates, both PEM. Raises ConfigError, with the reason, while there are none."""
        self.ask(pod)
        return await self._all[pod["metadata"]["uid"], volume, index].bundle()

    def forget(self, uid: str) -> None:
        """Forget the keys of a pod that is gone."""
        for name in [name for name in self._all if name[0] == uid]:
            self._all.pop(name).end()
        self._turns.pop(uid, None)

    def turn(self, uid: str) -> asyncio.Lock:
        """Return the pod's turn: it makes one key at a time, and one request. So a pod with a thousand sources holds up no other pod."""
        return self._turns.setdefault(uid, asyncio.Lock())


def sources(pod: Object) -> Iterator[Tuple[str, int, Object]]:
    """The name of the volume, the place among its sources, and the source itself, of all that ask for a certificate."""
    for volume in pod["spec"].get("volumes") or ():
        for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            if source.get("podCertificate") is not None:
                yield volume["name"], index, source["podCertificate"]


class _OneByOne:
    """Makes keys in a thread, one after the other: those of a hundred pods shall not take all processors of a machine."""

    def __init__(self) -> None:
        self._turn: "asyncio.Lock | None" = None

    async def __call__(self, kind: str) -> keys.Made:
        self._turn = self._turn or asyncio.Lock()
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(None, keys.make, kind)


class _Certificate:
    """One source of one pod, from the first request until the pod is forgotten."""

    def __init__(self, all_: PodCertificates, pod: Object, name: Name, source: Object) -> None:
        self._all, self._pod, self._name, self._source = all_, pod, name, source
        self._began = time.monotonic()
        self._issued = self._kept()
        self._why = "credential bundle is not issued yet"
        self._ended = False  # the signer said no
        self._said = ""  # the last Event about its age
        self._news = asyncio.Event()
        self._life = asyncio.ensure_future(self._live())

    async def bundle(self) -> Tuple[bytes, bytes]:
        left_s = self._began + PATIENCE_S - time.monotonic()
        if self._issued is None and not self._ended and left_s > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await wait_for(self._news.wait(), left_s)
        if self._issued is None:
            raise ConfigError(self._why)
        self._keep(self._issued)
        return self._issued.key.encode(), self._issued.chain.encode()

    def end(self) -> None:
        self._life.cancel()
        self._issued = None

    async def _live(self) -> None:
        """Runs until it is cancelled."""
        asking: "asyncio.Future[None] | None" = None
        try:
            while True:
                left_s = self._issued.renew_s - self._all.wall() if self._issued else 0.0
                if left_s <= 0 and not self._ended and asking is None:
                    asking = asyncio.ensure_future(self._obtain())
                self._say_its_age()
                pause_s = min(left_s, LOOK_S) if left_s > 0 else LOOK_S
                if asking is None:
                    await asyncio.sleep(pause_s)
                elif (await asyncio.wait({asking}, timeout=pause_s))[0]:
                    asking.result()
                    asking = None
        finally:
            if asking is not None:
                asking.cancel()

    async def _obtain(self) -> None:
        """Ask until a signer has answered."""
        delays = Delays(RETRY_FIRST_S, RETRY_MOST_S, self._all.rng)
        while True:
            try:
                async with self._all.turn(self._name[0]):
                    made = await self._all.make(self._source["keyType"])
                    asked_s = self._all.wall()
                    request = await self._requested(made)
                name = f"{request['metadata']['namespace']}/{request['metadata']['name']}"
                self._why = (
                    f'PodCertificateRequest {name} waits for the signer "{self._source["signerName"]}": credential bundle is not issued yet'
                )
                answered = await self._all.answers.of(request)
                if answered is not None:
                    return self._take(answered, made, asked_s)
                self._why = f"PodCertificateRequest {name} appears to have been deleted"
            except (Refused, Unreachable, keys.KeyFailure) as error:
                self._why = f"while creating PodCertificateRequest: {error}"
            except Exception as error:  # a mistake of ours must not leave the pod without a certificate for good
                self._why = f"while creating PodCertificateRequest: {error!r}"
                self._all.say(traceback.format_exc())
            self._all.say(f"pod {pod_title(self._pod)}: {self._why}")
            await self._all.api.pause(delays.next())

    async def _requested(self, made: keys.Made) -> Object:
        """Return the new request as the API has it. Raises Refused, Unreachable."""
        meta, spec = self._pod["metadata"], self._pod["spec"]
        account = spec.get("serviceAccountName") or "default"
        found = await self._all.api.get(f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}")
        node = await self._all.api.get(f"/api/v1/nodes/{self._all.node}")
        asked: Object = {
            "signerName": self._source["signerName"],
            "podName": meta["name"],
            "podUID": meta["uid"],
            "serviceAccountName": account,
            "serviceAccountUID": found["metadata"]["uid"],
            "nodeName": self._all.node,
            "nodeUID": node["metadata"]["uid"],
            "stubPKCS10Request": base64.b64encode(made.request).decode(),
        }
        if self._source.get("maxExpirationSeconds") is not None:
            asked["maxExpirationSeconds"] = self._source["maxExpirationSeconds"]
        if self._source.get("userAnnotations"):
            asked["unverifiedUserAnnotations"] = self._source["userAnnotations"]
        owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        named = {"generateName": "req-", "namespace": meta["namespace"], "ownerReferences": [owner]}
        body = {"apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest", "metadata": named, "spec": asked}
        return await self._all.api.create(PATH.format(meta["namespace"]), body)

    def _take(self, request: Object, made: keys.Made, asked_s: float) -> None:
        status = request["status"]
        end = next(each for each in status["conditions"] if each["type"] in Answers.ENDS)
        if end["type"] == "Issued":
            created_s = parse(request["metadata"]["creationTimestamp"])  # by the master's clock: this machine's may be wrong
            renew_s = asked_s + parse(status["beginRefreshAt"]) - created_s + self._all.rng.uniform(0, JITTER_S)
            chain = "".join(block + "\n" for block in _BLOCK.findall(status["certificateChain"]))
            self._issued = Issued(made.key.decode(), chain, renew_s, asked_s + parse(status["notAfter"]) - created_s)
            self._said = ""
        else:
            self._ended = True
            name = f"{request['metadata']['namespace']}/{request['metadata']['name']}"
            said = f"reason={_quoted(end.get('reason', ''))}, message={_quoted(end.get('message', ''))}"
            verb = "was denied" if end["type"] == "Denied" else "failed"
            self._why = f"PodCertificateRequest {name} {verb} for good: {said}"
            self._all.record(of_pod(self._pod), "Warning", end["type"], f"PodCertificateRequest {name} {verb}, {said}")
        self._news.set()
        self._all.heard(self._name[0])

    def _say_its_age(self) -> None:
        """Records an Event once when the certificate should have been renewed long ago, and once when it has expired."""
        if self._issued is None:
            return
        now_s, reason, message = self._all.wall(), "", ""
        if now_s > self._issued.expires_s:
            reason, message = "CertificateExpired", "PodCertificate expired"
        elif now_s > self._issued.renew_s + OVERDUE_S:
            reason, message = "CertificateOverdueForRefresh", "PodCertificate refresh overdue"
        if reason and reason != self._said:
            self._said = reason
            self._all.record(
                of_pod(self._pod), "Warning", reason, f"{message} (volume {self._name[1]}, signer {self._source['signerName']})"
            )

    # -- what outlives the agent

    def _file(self) -> str:
        uid, volume, index = self._name
        return os.path.join(self._all.pod_dir(uid), "certificates", f"{volume}-{index}.json")

    def _kept(self) -> Optional[Issued]:
        found = read_json(self._file()) or {}
        key, chain, renew_s, expires_s = (found.get(name) for name in ("key", "chain", "renew_s", "expires_s"))
        if isinstance(key, str) and isinstance(chain, str) and isinstance(renew_s, (int, float)) and isinstance(expires_s, (int, float)):
            return Issued(key, chain, renew_s, expires_s)
        return None

    def _keep(self, issued: Issued) -> None:
        if self._kept() == issued:
            return
        path = self._file()
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_private(path, asdict(issued))


def write_private(path: str, value: Object) -> None:
    """Whole or not at all, and readable by root alone from the first byte on."""
    with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(path + ".new", path)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
