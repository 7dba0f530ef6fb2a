"""What a new pod is given by the admission steps, and which pods they refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from labctl.admission.builtin import builtin_admission
from labctl.clock import SystemClock
from labctl.errors import ApiError
from labctl.journal import MemoryJournal
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.store.memory import memory_store

PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    clock = SystemClock()
    resources = Resources(memory_store(), builtin_registry(), clock, MemoryJournal(clock))
    client = Client(resources)
    resources.use_admission(builtin_admission(client, clock, evict_s=42))
    await client.create("namespaces", {"metadata": {"name": "default"}})
    yield client
    await resources.store.close()


async def made(client: Client, name: str = "p", containers: Any = None, **spec: Any) -> Object:
    listed = containers or [{"name": "c", "image": "x"}]
    await client.create("pods", {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": listed, **spec}})
    found = client.raw("pods", f"default/{name}")
    assert found is not None
    return dict(found["spec"])


async def test_what_every_pod_is_given(client: Client) -> None:
    spec = await made(client)
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    assert spec["priority"] == 0 and spec["preemptionPolicy"] == "PreemptLowerPriority"
    assert spec["tolerations"] == [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 42}
        for key in ("not-ready", "unreachable")
    ]
    [volume] = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-") and len(volume["name"]) == len("kube-api-access-") + 5
    assert [next(iter(source)) for source in volume["projected"]["sources"]] == ["serviceAccountToken", "configMap", "downwardAPI"]
    assert spec["containers"][0]["volumeMounts"] == [{"name": volume["name"], "readOnly": True, "mountPath": PATH}]


async def test_default_tolerations_are_given_again_at_an_update(client: Client) -> None:
    """As `kubectl replace` does with the file that the pod was made from: DefaultTolerationSeconds speaks at updates, too."""
    given = (await made(client))["tolerations"]
    await client.patch("pods", "default/p", {"spec": {"tolerations": None}})
    found = client.raw("pods", "default/p")
    assert found is not None and found["spec"]["tolerations"] == given


async def test_what_its_author_said_stays(client: Client) -> None:
    mounts = [{"name": "mine", "mountPath": PATH}]
    forever = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    containers = [{"name": "c", "image": "x", "volumeMounts": mounts}]
    spec = await made(client, containers=containers, volumes=[{"name": "mine", "emptyDir": {}}], tolerations=[forever])
    assert [volume["name"] for volume in spec["volumes"]] == ["mine"] and spec["containers"][0]["volumeMounts"] == mounts
    assert [each["key"] for each in spec["tolerations"]] == ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"]
    everything = await made(client, "all", tolerations=[{"operator": "Exists"}])
    assert everything["tolerations"] == [{"operator": "Exists"}]


@pytest.mark.parametrize(
    ("of_account", "of_pod", "mounted"), [(False, None, False), (False, True, True), (None, False, False), (True, None, True)]
)
async def test_automounting(client: Client, of_account: bool | None, of_pod: bool | None, mounted: bool) -> None:
    account: Object = {"metadata": {"name": "robot", "namespace": "default"}, "imagePullSecrets": [{"name": "pull"}]}
    if of_account is not None:
        account["automountServiceAccountToken"] = of_account
    await client.create("serviceaccounts", account)
    spec = await made(client, serviceAccountName="robot", **({} if of_pod is None else {"automountServiceAccountToken": of_pod}))
    assert bool(spec.get("volumes")) is mounted
    assert spec["imagePullSecrets"] == [{"name": "pull"}]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"serviceAccountName": "none"},
            'pods "p" is forbidden: error looking up service account default/none: serviceaccount "none" not found',
        ),
        ({"priorityClassName": "none"}, 'pods "p" is forbidden: no PriorityClass with name none was found'),
        ({"priority": 7}, "the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 0"),
        ({"runtimeClassName": "none"}, 'pods "p" is forbidden: pod rejected: RuntimeClass "none" not found'),
    ],
)
async def test_who_is_refused(client: Client, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError) as refused:
        await made(client, **spec)
    assert refused.value.code == 403 and words in refused.value.message


async def test_priority_classes(client: Client) -> None:
    classes = "priorityclasses.scheduling.k8s.io"
    await client.create(classes, {"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"})
    spec = await made(client, priorityClassName="high")
    assert (spec["priority"], spec["preemptionPolicy"]) == (1000, "Never")
    assert (await made(client, "critical", priorityClassName="system-node-critical"))["priority"] == 2_000_001_000
    await client.create(classes, {"metadata": {"name": "usual"}, "value": 5, "globalDefault": True})
    usual = await made(client, "usual")
    assert (usual["priority"], usual["priorityClassName"]) == (5, "usual")
    with pytest.raises(ApiError, match="PriorityClass usual is already marked as default. Only one default can exist"):
        await client.create(classes, {"metadata": {"name": "other"}, "value": 6, "globalDefault": True})
    for body, words in (
        ({"metadata": {"name": "system-mine"}, "value": 1}, "priority class names with 'system-' prefix are reserved for system use only"),
        ({"metadata": {"name": "huge"}, "value": 1_000_000_001}, "maximum allowed value of a user defined priority is 1000000000"),
    ):
        with pytest.raises(ApiError, match=words):
            await client.create(classes, body)


async def test_a_runtime_class_adds_what_it_says(client: Client) -> None:
    toleration = {"key": "sandbox", "operator": "Exists"}
    scheduling = {"nodeSelector": {"sandbox": "yes"}, "tolerations": [toleration]}
    overhead = {"podFixed": {"cpu": "10m"}}
    body = {"metadata": {"name": "sandboxed"}, "handler": "runsc", "overhead": overhead, "scheduling": scheduling}
    await client.create("runtimeclasses.node.k8s.io", body)
    spec = await made(client, runtimeClassName="sandboxed", nodeSelector={"a": "b"})
    assert spec["nodeSelector"] == {"a": "b", "sandbox": "yes"} and spec["overhead"] == {"cpu": "10m"}
    assert toleration in spec["tolerations"]
    with pytest.raises(ApiError, match="conflict"):
        await made(client, "q", runtimeClassName="sandboxed", nodeSelector={"sandbox": "no"})
