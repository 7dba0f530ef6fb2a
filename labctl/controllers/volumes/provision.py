"""The built-in provisioner: a volume is a folder on the disk of one minion. Pure functions.

The volume's object is all that is made here. The agent of its node makes the folder when the first pod mounts it, and removes it when the object goes.
"""

from __future__ import annotations

from labctl.controllers.indexes import CLAIMS, VOLUMES
from labctl.reconcile.plan import Action, Create, Record
from labctl.resources.kinds.core_v1.persistentvolume import HOSTNAME, LOCAL_DATA, LOCAL_PROVISIONER, PROTECTION, PROVISIONED_BY
from labctl.resources.kinds.core_v1.persistentvolumeclaim import PersistentVolumeClaim
from labctl.resources.kinds.storage_v1.storageclass import StorageClass
from labctl.resources.volumes import claim_reference

FOLDER = "/var/lib/labctl/volumes"
"""Where the folders lie on each minion. The agent's settings say the same."""
_ONE_NODE = {"ReadWriteOnce", "ReadWriteOncePod"}


def refusal(claim: PersistentVolumeClaim) -> str:
    """Why no folder can be what the claim asks for; "": one can."""
    if not set(claim.spec.access_modes) <= _ONE_NODE:
        return "a minion's disk is reached from that minion only: the access modes may be ReadWriteOnce and ReadWriteOncePod"
    if claim.spec.volume_mode != "Filesystem":
        return "a minion's disk gives folders, no block devices: volumeMode must be Filesystem"
    if bytes(claim.spec.selector) != b"null":
        return "claim.Spec.Selector is not supported for dynamic provisioning"
    return ""


def volume(claim: PersistentVolumeClaim, class_: StorageClass, node: str) -> Action:
    """Makes the volume, which names its claim from the beginning."""
    name = f"pvc-{claim.metadata.uid}"
    terms = [{"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [node]}]}]
    spec = {
        "accessModes": list(claim.spec.access_modes),
        "capacity": {"storage": claim.spec.resources.requests.get("storage", 0)},
        "claimRef": claim_reference(claim),
        "local": {"path": f"{FOLDER}/{name}"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        "persistentVolumeReclaimPolicy": class_.reclaim_policy,
        "storageClassName": class_.metadata.name,
        "volumeMode": "Filesystem",
    }
    metadata = {"name": name, "annotations": {PROVISIONED_BY: LOCAL_PROVISIONER}, "finalizers": [PROTECTION, LOCAL_DATA]}
    event = Record(CLAIMS, claim.metadata.key, "ProvisioningSucceeded", f"Successfully provisioned volume {name}")
    why = f"made for claim {claim.metadata.key} on {node}"
    return Create(VOLUMES, {"metadata": metadata, "spec": spec}, why, event)
