"""What `kubectl explain` says of the fields that every object has. Other fields of Kubernetes' kinds have no prose; custom kinds bring their own."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.resources.schema.definitions import META, Definition

OBJECT: Mapping[str, str] = {
    "apiVersion": "APIVersion defines the group and version of the API in which this object is written.",
    "kind": "Kind names the resource that this object is one of, in CamelCase. It can't change.",
    "metadata": "Standard object's metadata: its name, labels, owners and times.",
}

_METADATA: Mapping[str, str] = {
    "annotations": "Annotations are values that programs and people keep with the object. Nobody can select by them.",
    "creationTimestamp": "CreationTimestamp is a timestamp of when the server made this object, in UTC. Clients can't set it.",
    "deletionGracePeriodSeconds": "DeletionGracePeriodSeconds says how many seconds the object is given to end, once its deletion was asked for.",
    "deletionTimestamp": "DeletionTimestamp is set by the server when somebody asks for the deletion: the time at which the object may be gone.",
    "finalizers": "Finalizers must all be removed, each by who set it, before the object goes.",
    "generateName": "GenerateName is the beginning of a name that the server completes, where no name is given.",
    "generation": "Generation counts the changes of what is wanted (the spec). The server sets it.",
    "labels": "Labels are short values by which objects can be selected.",
    "managedFields": "ManagedFields say which program set which fields, for server-side apply.",
    "name": "Name is unique among the objects of this kind in the namespace. It can't change.",
    "namespace": "Namespace is where the name must be unique. Cluster-wide objects have none.",
    "ownerReferences": "OwnerReferences name the objects that this one depends on: when all are gone, it goes. One of them may manage it.",
    "resourceVersion": "ResourceVersion is the server's word for this state of the object. Compare it, and send it back with an update.",
    "selfLink": "SelfLink is not filled in any more.",
    "uid": "UID is unique in time and space: an object that is made anew under the same name has another one.",
}


def told(name: str, definition: Definition) -> Definition:
    """Returns a definition with the prose that it has; `name` is the definition's name."""
    if name != META + "ObjectMeta":
        return definition
    properties = {
        field: {**node, "description": _METADATA[field]} if field in _METADATA else node for field, node in definition["properties"].items()
    }
    return {**definition, "properties": properties}
