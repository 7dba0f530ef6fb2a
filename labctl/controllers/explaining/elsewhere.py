"""Why a pod is not on the node where somebody expected it: `labctl why pod/NAME --not-on NODE`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from labctl.controllers.indexes import NODES, PODS
from labctl.journal import Line
from labctl.reconcile.plan import Key, View
from labctl.resources.cells import duration
from labctl.resources.kinds.core_v1.pod_view import Pod

Refusal = Callable[[View, Key, str], Sequence[str] | None]
"""Why a node would not take a pod now, in the scheduler's words; nothing if it would; None if the scheduler does not know the node."""


def not_on(view: View, lines: Sequence[Line], key: Key, name: str, refusal: Refusal) -> Iterator[str]:
    """Yield why the pod is not on the node. The pod exists."""
    pod: Pod = view.get(PODS, key)
    node = view.get(NODES, name)
    if pod.spec.node_name == name:
        yield f"It is on {name}."
        return
    if node is None:
        there = ", ".join(each.metadata.name for each in view.all(NODES))
        yield f"There is no node {name}: there are {there or 'none'}."
        return
    if pod.finished:
        yield "It has ended, so nothing decides about it any more."
    reasons = refusal(view, key, name)
    if reasons is None:
        yield f"The scheduler does not know {name} yet."
    elif reasons:
        yield f"{name} would not take it now: {', '.join(reasons)}."
    elif pod.spec.node_name:
        yield f"{name} would take it now, but a pod stays where it was placed: delete it, and its controller's next pod is placed anew."
    else:
        yield f"{name} would take it now."
    if pod.spec.node_name:
        yield from _decision(view, lines, pod)


def _decision(view: View, lines: Sequence[Line], pod: Pod) -> Iterator[str]:
    """Yield what the scheduler said when it placed the pod, if the journal still has that."""
    about = f"{PODS}/{pod.metadata.key}"
    for line in reversed(lines):
        if line.about == about and line.did == "bind":
            yield f"It was placed {duration(max(0.0, view.wall() - line.at))} ago: {line.text} [{line.room}]"
            return
    yield f"It was placed on {pod.spec.node_name}; the journal no longer has the reason."
