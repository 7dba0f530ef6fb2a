"""Claims and their volumes on real machines: data outlives pods, machines' deaths, halt and snapshot, and goes when it should."""

import json

import pytest

from tests.e2e.cluster import condition, wait

KINDS = "statefulsets,deployments,pods,pvc,pv"
FOLDER = "/var/lib/labctl/volumes"


def claim(name, size="64Mi", **spec):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def pod(name, *volumes, **spec):
    """A pod that mounts each volume, `{name: its source}`, under its name."""
    mounts = [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes]
    container = {"name": "main", "image": "busybox", "command": ["sleep", "100000"], "volumeMounts": mounts}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": list(volumes), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def of_claim(name):
    return {"name": "data", "persistentVolumeClaim": {"claimName": name}}


def stateful_set(name, replicas):
    template = pod("x")
    template["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    wanted = {"serviceName": name, "replicas": replicas, "selector": {"matchLabels": {"app": name}}}
    wanted["template"] = {"metadata": {"labels": {"app": name}}, "spec": template["spec"]}
    wanted["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": claim("x")["spec"]}]
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": wanted}


@pytest.fixture
def made(cluster):
    """A function that creates objects; all of the kinds here are removed afterwards."""

    def make(*objects):
        for thing in objects:
            cluster.kubectl("create", "-f", "-", input=json.dumps(thing))

    yield make
    cluster.kubectl("delete", KINDS, "--all", "--wait=false", check=False)
    cluster.kubectl("delete", "sc", "-l", "test", "--wait=false", check=False)
    wait(lambda: not cluster.items(KINDS), "nothing is left", 60)


def ready(cluster, name):
    return wait(lambda: condition(cluster.get("pod", name), "Ready") == "True" and cluster.get("pod", name), f"{name} is Ready", 40)


def node_of(cluster, name):
    return cluster.get("pod", name)["spec"]["nodeName"]


def write(cluster, name, text):
    cluster.kubectl("exec", name, "--", "sh", "-c", f"echo {text} > /data/file && sync")


def read(cluster, name):
    return cluster.kubectl("exec", name, "--", "cat", "/data/file").stdout.strip()


def test_the_columns_of_claims_volumes_and_classes(cluster, made):
    made(claim("data"), pod("p", of_claim("data")))
    ready(cluster, "p")
    wait(lambda: cluster.items("pv")[0]["status"]["phase"] == "Bound", "the volume is bound")
    volume = cluster.items("pv")[0]["metadata"]["name"]
    rows = [line.split() for line in cluster.kubectl("get", "pvc").stdout.splitlines()]
    assert " ".join(rows[0]) == "NAME STATUS VOLUME CAPACITY ACCESS MODES STORAGECLASS VOLUMEATTRIBUTESCLASS AGE"
    assert rows[1][:7] == ["data", "Bound", volume, "64Mi", "RWO", "standard", "<unset>"]
    rows = [line.split() for line in cluster.kubectl("get", "pv").stdout.splitlines()]
    assert " ".join(rows[0]) == "NAME CAPACITY ACCESS MODES RECLAIM POLICY STATUS CLAIM STORAGECLASS VOLUMEATTRIBUTESCLASS REASON AGE"
    assert rows[1][:8] == [volume, "64Mi", "RWO", "Delete", "Bound", "default/data", "standard", "<unset>"]
    rows = [line.split() for line in cluster.kubectl("get", "sc").stdout.splitlines()]
    assert " ".join(rows[0]) == "NAME PROVISIONER RECLAIMPOLICY VOLUMEBINDINGMODE ALLOWVOLUMEEXPANSION AGE"
    assert rows[1][:6] == ["standard", "(default)", "labctl.internal/local", "Delete", "WaitForFirstConsumer", "false"]
    for kind, name in (("pvc", "data"), ("pv", volume), ("sc", "standard"), ("pod", "p")):
        assert name in cluster.kubectl("describe", kind, name).stdout
    grown = cluster.kubectl("patch", "pvc", "data", "-p", '{"spec":{"resources":{"requests":{"storage":"1Gi"}}}}', check=False)
    assert "only dynamically provisioned pvc can be resized" in grown.stderr


def test_data_goes_with_its_claim_and_stays_where_the_policy_is_to_retain(cluster, made):
    kept = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "keep", "labels": {"test": ""}}}
    kept |= {"provisioner": "labctl.internal/local", "reclaimPolicy": "Retain"}
    made(kept, claim("goes"), claim("stays", storageClassName="keep"))
    where = {}
    for name in ("goes", "stays"):
        made(pod(name, of_claim(name)))
        ready(cluster, name)
        write(cluster, name, name)
        where[name] = node_of(cluster, name), cluster.get("pvc", name)["spec"]["volumeName"]
    deletion = cluster.kubectl("delete", "pvc", "goes", "--timeout=1s", check=False)
    assert deletion.returncode and cluster.kubectl("get", "pvc", "goes").stdout.split()[-7:][0], "a pod uses it"
    assert "Terminating" in cluster.kubectl("get", "pvc", "goes").stdout
    cluster.kubectl("delete", "pod", "goes", "stays")
    cluster.kubectl("delete", "pvc", "stays")
    wait(lambda: not cluster.items("pvc"), "the claims are gone")
    wait(lambda: [each["metadata"]["name"] for each in cluster.items("pv")] == [where["stays"][1]], "one volume is gone")
    assert cluster.items("pv")[0]["status"]["phase"] == "Released"
    node, volume = where["stays"]
    assert cluster.on(node, "cat", f"{FOLDER}/{volume}/file").stdout.strip() == "stays"
    assert where["goes"][1] not in cluster.on(where["goes"][0], "ls", "-A", FOLDER).stdout
    cluster.on(node, "rm", "-rf", f"{FOLDER}/{volume}")


def test_static_volumes_and_what_a_machine_can_not_mount(cluster, made):
    cluster.on("minion-2", "mkdir", "-p", "/srv/disk")
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["minion-2"]}]}]
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "", "local": {"path": "/srv/disk"}}
    spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
    made({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"}, "spec": spec}, claim("data", storageClassName=""))
    made(pod("p", of_claim("data")))
    ready(cluster, "p")
    assert node_of(cluster, "p") == "minion-2"
    write(cluster, "p", "here")
    assert cluster.on("minion-2", "cat", "/srv/disk/file").stdout.strip() == "here"
    if cluster.on("minion-1", "sh", "-c", "command -v mount.nfs", check=False).returncode:
        made(pod("n", {"name": "far", "nfs": {"server": "10.245.1.1", "path": "/x"}}))
        told = wait(lambda: cluster.kubectl("get", "events", "--field-selector", "reason=FailedMount").stdout, "the reason is told")
        assert "nfs volumes are not supported on this machine" in told


def test_an_ephemeral_volume_goes_with_its_pod(cluster, made):
    made(pod("p", {"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": claim("x")["spec"]}}}))
    ready(cluster, "p")
    write(cluster, "p", "scratch")
    node, volume = node_of(cluster, "p"), cluster.get("pvc", "p-data")["spec"]["volumeName"]
    assert volume in cluster.on(node, "ls", "-A", FOLDER).stdout
    cluster.kubectl("delete", "pod", "p")
    wait(lambda: not cluster.items("pvc,pv"), "claim and volume are gone")
    assert volume not in cluster.on(node, "ls", "-A", FOLDER).stdout


def test_a_database_survives_its_pod_and_the_death_and_return_of_machines(cluster, made):
    made(stateful_set("db", 2))
    for name in ("db-0", "db-1"):
        ready(cluster, name)
        write(cluster, name, name)
    where = {name: node_of(cluster, name) for name in ("db-0", "db-1")}
    assert set(where.values()) == {"minion-1", "minion-2"}
    dies, lives = sorted(where, key=lambda name: where[name] != "minion-2")
    cluster.kubectl("delete", "pod", lives)
    ready(cluster, lives)
    assert (read(cluster, lives), node_of(cluster, lives)) == (lives, "minion-1")
    cluster.labctl("fault", "power-off", "minion-2")
    said = wait(
        lambda: (text := cluster.labctl("why", f"pod/{dies}").stdout) and "can run nowhere else" in text and text, "why it waits", 40
    )
    assert f"The data of its claim data-{dies} is on minion-2" in said and "That node is not ready" in said
    assert "didn't match PersistentVolume's node affinity" in said
    assert read(cluster, lives) == lives, "the other one serves on"
    cluster.labctl("up")
    ready(cluster, dies)
    assert (read(cluster, dies), node_of(cluster, dies)) == (dies, "minion-2")
    cluster.labctl("halt")
    cluster.labctl("up")
    for name in ("db-0", "db-1"):
        ready(cluster, name)
        assert (read(cluster, name), node_of(cluster, name)) == (name, where[name])
    cluster.labctl("snapshot", "save", "with-data")
    try:
        write(cluster, "db-0", "later")
        cluster.labctl("up", "--from", "with-data")
        for name in ("db-0", "db-1"):
            ready(cluster, name)
            assert read(cluster, name) == name
    finally:
        cluster.labctl("snapshot", "delete", "with-data")
