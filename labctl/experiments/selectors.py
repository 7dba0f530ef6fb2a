"""Who is hit, and who asks: targets and sources as people write them, and which machine or pod they mean in one repetition.

    minion-1 · master · client/USER · pod/NAMESPACE/NAME[/CONTAINER]             named
    pod of web · container nginx of pod of web · minion of pod of web            chosen in each repetition, by the experiment's seed
    host · every minion · other minions                                          sources only; the others are those that no fault hits

`web` is a Service in the namespace default; `service/NAMESPACE/NAME`, `deployment/NAME` and other workloads may be named as well. The same words mean the same
pod or minion within one repetition, as long as it is there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

import msgspec

from labctl.errors import LabctlError
from labctl.experiments.stage import Stage

WORKLOADS = {
    "deploy": "deployment",
    "deployment": "deployment",
    "rc": "replicationcontroller",
    "replicationcontroller": "replicationcontroller",
    "rs": "replicaset",
    "replicaset": "replicaset",
    "sts": "statefulset",
    "statefulset": "statefulset",
    "ds": "daemonset",
    "daemonset": "daemonset",
}
KINDS = {"svc": "service", "se": "service", "service": "service", **WORKLOADS}
_PART = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_CHOSEN = re.compile(rf"(?:(?P<minion>minion) of |container (?P<container>{_PART}) of )?pod of (?P<what>\S+)")
_MINION = re.compile(r"minion-[1-9][0-9]{0,4}")
_POD = re.compile(rf"pod/{_PART}/{_PART}(/{_PART})?")
_CLIENT = re.compile(r"client/\S{1,253}")
TARGETS = "minion-1, master, client/USER, pod/NAMESPACE/NAME, `pod of SERVICE` or `minion of pod of SERVICE`"
SOURCES = "host, minion-1, `every minion`, `other minions`, pod/NAMESPACE/NAME, `pod of SERVICE` or `minion of pod of SERVICE`"


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    """A target that is chosen: a pod of `what` (KIND/NAMESPACE/NAME), one of its containers, or its minion."""

    what: str
    minion: bool = False
    container: str = ""


def reference(text: str, default: str = "service") -> str:
    """Return `KIND/NAMESPACE/NAME` for `web`, `namespace/web` of the default kind, `deployment/web` or `deployment/namespace/web`.

    ValueError says what to write.
    """
    parts = text.split("/")
    if not all(re.fullmatch(_PART, part) for part in parts) or len(parts) > 3:
        raise ValueError(f"{text[:100]!r} is no object: write NAME, KIND/NAME or KIND/NAMESPACE/NAME")
    if parts[0] in KINDS and len(parts) > 1:
        kind, rest = KINDS[parts[0]], parts[1:]
    elif len(parts) == 3:
        raise ValueError(f"unknown kind {parts[0]}: there are {', '.join(sorted(set(KINDS.values())))}")
    else:
        kind, rest = default, parts
    return "/".join((kind, *(["default", *rest] if len(rest) == 1 else rest)))


def target(text: str) -> str | Selector:
    """Return a target as the Fault kind has it, or the selector that will find it. ValueError says what may be written."""
    if text == "master" or _MINION.fullmatch(text) or _POD.fullmatch(text) or _CLIENT.fullmatch(text):
        return text
    match = _CHOSEN.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:100]!r} is no target: write {TARGETS}")
    return Selector(what=reference(match["what"]), minion=bool(match["minion"]), container=match["container"] or "")


def source(text: str) -> str | Selector:
    """Return a source, or the selector that will find it. ValueError says what may be written."""
    if text in ("host", "every minion", "other minions") or _MINION.fullmatch(text) or (_POD.fullmatch(text) and text.count("/") == 2):
        return text
    match = _CHOSEN.fullmatch(text)
    if not match or match["container"]:
        raise ValueError(f"{text[:100]!r} is no source: write {SOURCES}")
    return Selector(what=reference(match["what"]), minion=bool(match["minion"]))


class Chooser:
    """Finds what selectors mean in one repetition. What it chose it keeps, as long as that is there."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage = stage
        self._seed = seed
        self._chosen: dict[str, tuple[str, str, str]] = {}

    def target(self, text: str) -> str:
        """Return the target that a text means now. Raises LabctlError if there is none."""
        found = target(text)
        return found if isinstance(found, str) else self._choose(found)

    def sources(self, texts: Sequence[str], hit: Sequence[str]) -> tuple[str, ...]:
        """Return the sources; `hit` are the targets of the faults, whose minions take no part in `other minions`."""
        names: dict[str, None] = {}
        for text in texts:
            if text in ("every minion", "other minions"):
                minions = [name for name in self._stage.minions() if text == "every minion" or name not in hit]
                names.update(dict.fromkeys(minions))
            else:
                found = source(text)
                names[found if isinstance(found, str) else self._choose(found)] = None
        if not names:
            raise LabctlError("no minion is left to send requests from", mend="write `sources: [host]`, or take more minions")
        return tuple(names)

    def _choose(self, selector: Selector) -> str:
        pods = {(pod.namespace, pod.name): pod for pod in self._stage.pods(selector.what)}
        namespace, name, node = self._chosen.get(selector.what, ("", "", ""))
        if (namespace, name) not in pods and not (selector.minion and node):
            ready = [pod for pod in pods.values() if pod.ready]
            if not ready:
                raise LabctlError(f"{selector.what} has no pod that is Ready, so none can be chosen")
            pod = random.Random(f"{self._seed}/{selector.what}/{len(self._chosen)}").choice(ready)
            namespace, name, node = pod.namespace, pod.name, pod.node
            self._chosen[selector.what] = (namespace, name, node)
        if selector.minion:
            return node
        return f"pod/{namespace}/{name}" + (f"/{selector.container}" if selector.container else "")


def made_by(manifests: Sequence[Mapping], kind_: str = "") -> set[str]:
    """Return the objects that the manifests make, as KIND/NAMESPACE/NAME."""
    return {
        f"{str(item['kind']).lower()}/{item['metadata'].get('namespace') or 'default'}/{item['metadata']['name']}"
        for item in manifests
        if not kind_ or str(item["kind"]).lower() == kind_
    }
