"""Labels of nodes and types of volumes that Kubernetes has given up, with its words about each."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources.kind import Object

NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
STORAGE_CLASS = "volume.beta.kubernetes.io/storage-class"
_VOLUMES = {
    "photonPersistentDisk": ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    "gitRepo": ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    "scaleIO": ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    "flocker": ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    "storageos": ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    "quobyte": ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    "glusterfs": ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    "cephfs": ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    "rbd": ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
}
"""The field's name, its name in Kubernetes' warning, and the warning."""


def volume_types(path: str, volume: Object) -> Iterator[str]:
    """Yields a warning about a volume, or a PersistentVolume's spec, of a type that is given up."""
    for field, (told, why) in _VOLUMES.items():
        if volume.get(field) is not None:
            yield f"{path}.{told}: {why}"


def expressions(path: str, term: Object) -> Iterator[str]:
    """Yields a warning about each expression over a label that is given up."""
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        if (key := expression.get("key", "")) in NODE_LABELS:
            yield f"{path}.matchExpressions[{index}].key: {key} is {NODE_LABELS[key]}"


def storage_class_annotation(new: Object) -> Iterator[str]:
    """Yields a warning about a volume, or a claim, that names its class in an annotation."""
    if STORAGE_CLASS in (new["metadata"].get("annotations") or {}):
        yield f'metadata.annotations[{STORAGE_CLASS}]: deprecated since v1.8; use "storageClassName" attribute instead'
