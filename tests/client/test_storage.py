"""What kubectl prints of claims, volumes and classes, and in which words it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer

TERMS = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["minion-1"]}]}]
LOCAL = {"local": {"path": "/mnt"}, "nodeAffinity": {"required": {"nodeSelectorTerms": TERMS}}}


def volume(**spec: Any) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **(spec or LOCAL)}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"}, "spec": spec}


def claim(**spec: Any) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}


def class_(**parts: Any) -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "mine"},
        "provisioner": "example.com/x",
        **parts,
    }


async def test_the_columns(api: ApiServer) -> None:
    marked = class_(reclaimPolicy="Retain", allowVolumeExpansion=True)
    marked["metadata"] = {"name": "mine", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    for thing in (volume(), class_(metadata={"name": "plain"}), claim(storageClassName="plain"), marked):
        await ok(api, "create", "-f", "-", stdin=thing)
    rows = [line.split() for line in (await ok(api, "get", "pv")).splitlines()]
    assert " ".join(rows[0]) == "NAME CAPACITY ACCESS MODES RECLAIM POLICY STATUS CLAIM STORAGECLASS VOLUMEATTRIBUTESCLASS REASON AGE"
    assert rows[1][:6] == ["disk", "1Gi", "RWO", "Retain", "Pending", "<unset>"]
    rows = [line.split() for line in (await ok(api, "get", "pvc", "-o", "wide")).splitlines()]
    assert " ".join(rows[0]) == "NAME STATUS VOLUME CAPACITY ACCESS MODES STORAGECLASS VOLUMEATTRIBUTESCLASS AGE VOLUMEMODE"
    assert [rows[1][0], rows[1][1], rows[1][2], rows[1][-1]] == ["data", "Pending", "plain", "Filesystem"]
    rows = [line.split() for line in (await ok(api, "get", "sc")).splitlines()]
    assert rows[1][:6] == ["mine", "(default)", "example.com/x", "Retain", "Immediate", "true"]
    for name in ("pv/disk", "pvc/data", "sc/mine"):
        assert "Name:" in await ok(api, "describe", name)
        assert "KIND:" in await ok(api, "explain", name.partition("/")[0])


async def test_the_default_class_is_filled_in_where_nobody_said_one(api: ApiServer) -> None:
    marked = class_(metadata={"name": "mine", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}})
    await ok(api, "create", "-f", "-", stdin=marked)
    for name, spec, wanted in (("a", {}, "mine"), ("b", {"storageClassName": ""}, ""), ("c", {"storageClassName": "x"}, "x")):
        made = await ok(
            api, "create", "-o", "jsonpath={.spec.storageClassName}", "-f", "-", stdin=claim(**spec) | {"metadata": {"name": name}}
        )
        assert made == wanted


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (volume(nfs={"server": "", "path": "x"}), "spec.nfs.server: Required value"),
        (volume(nfs={"server": "s", "path": "x"}), 'spec.nfs.path: Invalid value: "x": must be an absolute path'),
        (volume(local={"path": "/x"}), "spec.nodeAffinity: Required value: Local volume requires node affinity"),
        (volume(**LOCAL, hostPath={"path": "/x"}), "may not specify more than 1 volume type"),
        (volume(storageClassName="x"), "spec: Required value: must specify a volume type"),
        (volume(hostPath={"path": "/x/../y"}), "must not contain '..'"),
        (volume(**LOCAL, capacity={}), "spec.capacity: Required value"),
        (volume(**LOCAL, accessModes=["Once"]), 'spec.accessModes: Unsupported value: "Once"'),
        (volume(**LOCAL, persistentVolumeReclaimPolicy="Burn"), 'supported values: "Delete", "Recycle", "Retain"'),
        (class_(provisioner=""), "provisioner: Required value"),
        (class_(volumeBindingMode="Later"), 'volumeBindingMode: Unsupported value: "Later"'),
        (class_(reclaimPolicy="Recycle"), 'reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"'),
    ],
)
async def test_what_is_refused(api: ApiServer, thing: Any, words: str) -> None:
    assert words in await refused(api, "create", "-f", "-", stdin=thing)


async def test_what_may_not_change(api: ApiServer) -> None:
    for thing in (volume(), class_(), claim(storageClassName="mine")):
        await ok(api, "create", "-f", "-", stdin=thing)
    for name, patch, words in (
        ("pv/disk", '{"spec":{"local":{"path":"/other"}}}', "spec.persistentvolumesource is immutable after creation"),
        ("pv/disk", '{"spec":{"nodeAffinity":null}}', "field is immutable"),
        ("sc/mine", '{"provisioner":"example.com/y"}', "updates to provisioner are forbidden."),
        ("sc/mine", '{"volumeBindingMode":"WaitForFirstConsumer"}', "field is immutable"),
        ("pvc/data", '{"spec":{"storageClassName":"x"}}', "spec is immutable after creation except"),
        ("pvc/data", '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}', "spec is immutable after creation except"),
    ):
        assert words in await refused(api, "patch", name, "--type=merge", "-p", patch)
    await ok(api, "patch", "pv/disk", "-p", '{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}')


async def test_a_volume_of_a_type_that_nobody_mounts_is_stored_with_a_warning(api: ApiServer) -> None:
    thing = volume(csi={"driver": "x.example.com", "volumeHandle": "1"})
    ran = await api.kubectl("create", "-f", "-", stdin=thing)
    assert ran.code == 0 and "spec.csi" in ran.err


async def test_apply_prune_looks_at_claims_and_volumes_too(api: ApiServer) -> None:
    for name in ("kept", "pruned"):
        thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "x"}}}
        await ok(api, "apply", "-f", "-", stdin=thing)
    thing["metadata"]["name"] = "kept"  # type: ignore[index]
    said = await ok(api, "apply", "--prune", "-l", "app=x", "-f", "-", stdin=thing)
    assert "configmap/pruned pruned" in said


async def test_a_dump_of_the_whole_lab_has_no_gap(api: ApiServer) -> None:
    assert "DaemonSetList" in await ok(api, "cluster-info", "dump")
