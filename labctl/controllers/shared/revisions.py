"""The history of a template: a ControllerRevision for each template that a DaemonSet or StatefulSet had.

The revision with the present template is the update revision. It always has the highest number, even if an older template came back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import msgspec

from labctl.controllers.indexes import REVISIONS
from labctl.controllers.shared import templates
from labctl.controllers.shared.ownership import OwnerKind, claim
from labctl.reconcile.plan import Action, Create, Delete, Patch, View
from labctl.resources.kinds.apps_v1.controllerrevision import ControllerRevision

REVISION_LABEL = "controller-revision-hash"


class History(NamedTuple):
    """The revisions. `name` is that of the update revision, `known` are all, the lowest number first.

    `collided` means that another template has the name.
    """

    name: str
    known: Sequence[ControllerRevision]
    actions: Sequence[Action]
    collided: bool = False


def history(view: View, of: OwnerKind, owner: Any, collisions: int) -> History:
    """Find the revision of the owner's template, or make it. For an owner that is being deleted none is made.

    Revisions that an owner left behind are adopted, so that its pods, which are named after them, still count as what they are.
    """
    found, claims = claim(view, of, owner, owner.pod_selector, REVISIONS, lambda _revision: True)
    known = sorted(found, key=lambda each: (each.revision, each.metadata.creation_timestamp or "", each.metadata.name))
    data = templates.canonical(bytes(owner.spec.template))
    highest = known[-1].revision if known else 0
    same = [each for each in known if templates.canonical(_template(each)) == data]
    if same:
        update = same[-1]
        due = update.revision < highest
        bump = (
            [Patch(REVISIONS, update.metadata.key, {"revision": highest + 1}, why=f"{of.named(owner)} has this template again")]
            if due
            else []
        )
        return History(update.metadata.name, known, [*claims, *bump])
    name = f"{owner.metadata.name}-{templates.hash_of(owner.spec.template, collisions)}"
    taken = view.get(REVISIONS, f"{owner.metadata.namespace}/{name}") is not None
    if taken or owner.metadata.deletion_timestamp is not None:
        return History(name, known, claims, taken)
    return History(name, known, [*claims, _revision(of, owner, name, highest + 1)])


def word(owner: Any, name: str) -> str:
    """Return the hash in a revision's name."""
    return name.removeprefix(f"{owner.metadata.name}-")


def template_of(known: Sequence[ControllerRevision], name: str) -> bytes | None:
    """Return the template in a revision, or None if there is no such revision."""
    return next((_template(each) for each in known if each.metadata.name == name), None)


def superfluous(known: Sequence[ControllerRevision], used: Collection[str], limit: int | None) -> list[Action]:
    """Delete the oldest revisions above the limit, among those that nothing uses; none if the limit is negative, as a StatefulSet's may be."""
    free = [each for each in known if each.metadata.name not in used and each.metadata.deletion_timestamp is None]
    over = len(free) - (10 if limit is None else limit) if limit is None or limit >= 0 else 0
    return [Delete(REVISIONS, each.metadata.key, each.metadata.uid, why="the history is full") for each in free[: max(0, over)]]


def _revision(of: OwnerKind, owner: Any, name: str, number: int) -> Create:
    # Kubernetes' clients compare these bytes with those that they make themselves, in which keys are sorted.
    data = msgspec.json.encode({"spec": {"template": {**msgspec.json.decode(owner.spec.template), "$patch": "replace"}}}, order="sorted")
    labels = {**owner.spec.pod_template().metadata.labels, REVISION_LABEL: word(owner, name)}
    metadata = {"name": name, "namespace": owner.metadata.namespace, "labels": labels, "ownerReferences": [of.reference(owner)]}
    kept = ("kubectl.kubernetes.io/last-applied-configuration",)
    metadata["annotations"] = {key: value for key, value in owner.metadata.annotations.items() if key not in kept}
    whole = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": msgspec.json.decode(data),
        "revision": number,
    }
    return Create(REVISIONS, whole, f"created by {of.named(owner)} for its template of now")


def _template(revision: ControllerRevision) -> bytes:
    data = msgspec.json.decode(revision.data) or {}
    template = (data.get("spec") or {}).get("template") or {}
    return msgspec.json.encode({key: value for key, value in template.items() if key != "$patch"})
