"""What a fault led to, found in the journal by following causes.

A line of the journal has the revision that was written (`rev`) and those that led to it (`cause`, `also`). So the first lines about the fault's target begin a
chain: whatever names one of their revisions as its cause follows from the fault, and so on, until a minion confirms rules that come from such a revision.
Pods that were lost or created on the way are followed until they are ready, because their agents' reports name no cause. A write of somebody else at the same
time is in no chain.

A plan may have several causes, of which the latest may be somebody else's, and a step on the way may be no mark. A mark's `cause` leads through both: it is the
revision of the mark that led to it, or 0 if nothing but the fault itself did.
"""

from __future__ import annotations

from collections.abc import Iterable

from labctl.journal import Line, read_came_and_went
from labctl.measure.marks import FaultFacts, Mark

PODS, NODES, SLICES = "pods/", "nodes/", "endpointslices."
NODE_CONTROLLER = "node-controller"
_TOLD_ABOUT_PODS = {"ended": "agent", "unready": "agent", "probe": "probe"}
_REPORTED = frozenset(("image", "started"))
_EVICTORS = frozenset(("taint-eviction-controller", "pod-garbage-collector"))
"""They say that a pod failed before they delete it, so that its replacement follows from their patch, not from the deletion."""
CLOCK_STEP_S = 1e-6  # the journal's times are rounded to it
_HEALTHY = "no longer "  # so begins the node controller's sentence when a node is well again


class Story:
    """What was found so far, and what it is found with: the revisions that follow from the fault, and the pods whose agents are listened to."""

    def __init__(self, fault: FaultFacts) -> None:
        self.fault = fault
        self.marks: list[Mark] = []
        self.lost: dict[str, None] = {}  # pods that were ready, or there, and are not because of the fault
        self.ready: dict[str, float] = {}  # pod -> when it became ready again, or its replacement did
        self._explained: dict[
            int, int
        ] = {}  # each revision of the chain -> that of the mark that tells of it, or of the last one before it
        self._listened: set[str] = set()
        self._waiting: dict[str, list[_Awaited]] = {}  # Service -> revisions of its slices whose rules minions have to confirm
        self._known: set[tuple[str, str]] = set()

    def take(self, line: Line) -> None:
        """Take the next line in, if it follows from the fault."""
        if line.did == "rules":
            self._rules(line)
            return
        known_by = self._known_by(line)
        if not (known_by or self._follows(line)):
            return
        cause, marks = self._explanation(line), len(self.marks)
        self._tell(line, known_by, cause)
        if line.rev:
            self._explained[line.rev] = line.rev if len(self.marks) > marks else cause

    def _explanation(self, line: Line) -> int:
        """Return the revision of the latest mark that led to the line; 0 if there is none."""
        return next((mark for rev in (line.cause, *reversed(line.also)) if (mark := self._explained.get(rev, 0))), 0)

    def _tell(self, line: Line, known_by: str, cause: int) -> None:
        """Note the marks that a line of the chain makes."""
        if known_by and (known_by, line.about) not in self._known:
            self._known.add((known_by, line.about))
            self._mark("known", line, cause, by=known_by)
        if known_by == "restart":
            self.lost.setdefault(line.about)
            self.ready.setdefault(line.about, self._at(line))
            self._mark("ready", line, cause)
        elif line.about.startswith(PODS):
            self._pod(line, cause)
        elif line.about.startswith(NODES) and line.room == NODE_CONTROLLER and line.did == "patch" and not line.text.startswith(_HEALTHY):
            if all(mark.what != "fenced" or mark.about != line.about for mark in self.marks):
                self._mark("fenced", line, cause)
        elif line.about.startswith(SLICES):
            self._slice(line, cause)

    def _follows(self, line: Line) -> bool:
        """Tell whether a cause of the line is in the chain, or it is about the target, or was part of a plan for it."""
        if line.about in self._listened or _is_about(self.fault, line.about) or (line.of and _is_about(self.fault, line.of)):
            return True
        if line.did in _REPORTED and line.about in self.ready:  # Events are sent when there is time: often after the pod is ready
            return self._at(line) <= self.ready[line.about]
        return any(rev in self._explained for rev in (line.cause, *line.also))

    def _known_by(self, line: Line) -> str:
        """Say who noticed the fault itself with this line; empty if nobody did."""
        machines, about_it = machines_of(self.fault), _is_about(self.fault, line.about)
        if line.did == "up" and self.fault.target == "master":
            return "restart"
        if line.did in ("off", "ssh-lost", "repaired") and line.where in machines:
            return {"off": "provider", "ssh-lost": "ssh", "repaired": "digest"}[line.did]
        if line.did in _TOLD_ABOUT_PODS and (about_it or line.where in machines) and line.about not in self.ready:
            return _TOLD_ABOUT_PODS[line.did]
        if line.room == "resources" and about_it:
            return "user"
        if line.did == "leaving" and about_it:
            return "api"
        silent = line.room == NODE_CONTROLLER and about_it and line.about.startswith(NODES) and not line.text.startswith(_HEALTHY)
        told = any(by in ("provider", "lease") for by, _ in self._known)
        return "lease" if silent and line.did == "patch" and not told else ""

    def _pod(self, line: Line, cause: int) -> None:
        pod = line.about
        match line.did:
            case "create":
                self._listened.add(pod)
                self._mark("decided", line, cause)
            case "bind":
                self._mark("scheduled", line, cause)
            case "image" | "started":
                self._mark(line.did, line, cause)
            case "ready":
                self._listened.discard(pod)
                self.ready.setdefault(pod, self._at(line))
                self._mark("ready", line, cause)
            case "patch" | "delete" if line.did == "delete" or line.room in _EVICTORS:
                self._lose(pod)
                if not any(mark.what == "evicted" and mark.about == pod for mark in self.marks):
                    self._mark("evicted", line, cause)
            case "ended" | "unready" | "leaving":
                self._lose(pod)
            case "patch" if line.room == NODE_CONTROLLER:
                self._lose(pod)

    def _lose(self, pod: str) -> None:
        self.lost[pod] = None
        self._listened.add(pod)
        self.ready.pop(pod, None)

    def _slice(self, line: Line, cause: int) -> None:
        came, went = read_came_and_went(line.text)
        service = line.of or line.about
        told = line.rev if went else cause
        for what, some in (("rules", went), ("in-vip", came)):
            for endpoint in some:
                about = _pod_behind(endpoint, service)
                if what == "rules":
                    self._mark("endpoint-removed", line, cause, about=about, text=f"{service}: {endpoint}")
                self._waiting.setdefault(service, []).append(_Awaited(line.rev, told, what, about, f"{service}: {endpoint}"))

    def _rules(self, line: Line) -> None:
        """Take in that a minion confirmed rules from the revision `cause` of a Service's objects, or of all Services' after it read everything anew."""
        services = [line.about] if line.about in self._waiting else list(self._waiting) if line.about == f"machine/{line.where}" else []
        for service in services:
            for awaited in self._waiting[service]:
                if line.cause >= awaited.rev and line.where not in awaited.minions:
                    awaited.minions.add(line.where)
                    self._mark(awaited.what, line, awaited.cause, about=awaited.about, text=awaited.text)

    def _at(self, line: Line) -> float:
        return round(line.t - line.age - self.fault.injected_s, 6) + 0.0  # never -0.0

    def _mark(self, what: str, line: Line, cause: int, *, by: str = "", about: str = "", text: str = "") -> None:
        where = line.where or (line.about.partition("/")[2] if line.about.startswith((PODS, NODES)) else "")
        self.marks.append(
            Mark(
                at_s=self._at(line),
                what=what,
                where=where,
                by=by or line.room,
                about=about or line.about,
                rev=line.rev,
                cause=cause,
                text=text or line.text,
                uncertainty_s=line.unsure,
            )
        )


class _Awaited:
    """An endpoint that came or went with the revision `rev`, the mark that tells of it (`cause`), and the minions that have the rules for it."""

    def __init__(self, rev: int, cause: int, what: str, about: str, text: str) -> None:
        self.rev, self.cause, self.what, self.about, self.text = rev, cause, what, about, text
        self.minions: set[str] = set()


def follow(fault: FaultFacts, lines: Iterable[Line]) -> Story:
    """Follow the fault through the journal. A line that was noted before the fault is passed over."""
    story = Story(fault)
    for line in lines:
        if line.t >= fault.injected_s - CLOCK_STEP_S:
            story.take(line)
    return story


def reaction(story: Story) -> float | None:
    """Return when the control plane first reacted. A lost SSH connection is known, but nothing is decided from it."""
    return min((mark.at_s for mark in story.marks if mark.what == "known" and mark.by != "ssh"), default=None)


def repair(story: Story) -> float | None:
    """Return how long after the reaction as many pods were ready as had been lost; None if none was lost, or not so many came back."""
    reacted = reaction(story)
    back = sorted(story.ready.values())
    if reacted is None or not story.lost or len(back) < len(story.lost):
        return None
    return back[len(story.lost) - 1] - reacted


def machines_of(fault: FaultFacts) -> tuple[str, ...]:
    """Return the machines that the fault hits: its target and, for a link, the other end."""
    return tuple(name for name in (fault.target, fault.peer) if name and "/" not in name and name != "master")


def _is_about(fault: FaultFacts, about: str) -> bool:
    """Tell whether the journal's name of an object is the fault's target. `pod/NAMESPACE/NAME/CONTAINER` is about the pod."""
    for machine in machines_of(fault):
        if about in (f"machine/{machine}", f"{NODES}{machine}") or about == f"machines.labctl.internal/{machine}":
            return True
    kind, _, name = fault.target.partition("/")
    if not name or kind == "client":
        return False
    plural, _, key = about.partition("/")
    name = "/".join(name.split("/")[:2]) if kind == "pod" else name
    return plural.partition(".")[0] == f"{kind}s" and name in (key, key.partition("/")[2])


def _pod_behind(endpoint: str, service: str) -> str:
    """Return the journal's name of the pod that an endpoint (`ADDRESS` or `ADDRESS POD`) is; the Service, if it is none."""
    pod = endpoint.partition(" ")[2]
    namespace = service.partition("/")[2].partition("/")[0]
    return f"{PODS}{namespace}/{pod}" if pod else service
