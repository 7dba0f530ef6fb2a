"""Fields of features that are off by default in Kubernetes 1.37: known, never refused, and not stored."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.resources.registry import builtin_registry
from labctl.resources.schema.definitions import builtin_schema
from labctl.resources.schema.disabled import OFF
from labctl.store.interface import Put
from tests.resources.conftest import Lab

CLAIMS, SLICES = "resourceclaims.resource.k8s.io", "resourceslices.resource.k8s.io"


def pod(spec: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "i", **container}], **(spec or {})}}


GATED_POD = pod(
    {
        "schedulingGroup": {"podGroupName": "gang"},
        "evictionResponders": [{"name": "a.example/b", "priority": -1}],  # a wrong value is not looked at either
        "os": {"name": "linux"},
        "volumes": [
            {"name": "scratch", "emptyDir": {"mode": 0o700}},
            {"name": "keys", "secret": {"secretName": "s", "defaultUser": 7, "items": [{"key": "k", "path": "p", "user": 8}]}},
        ],
    },
    lifecycle={"stopSignal": "SIGUSR1"},
    livenessProbe={"httpGet": {"port": 80, "protocol": "H2C"}},
    readinessProbe={"grpc": {"port": 81, "mode": "TLS"}},
    volumeMounts=[{"name": "scratch", "mountPath": "/s", "bindMountOptions": ["noexec"]}],
)


def fields_of(value: Any) -> set[str]:
    """Return the names of all fields in an object, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*(fields_of(each) for each in value.values()))
    return set().union(*(fields_of(each) for each in value)) if isinstance(value, list) else set()


OF_PODS = {"schedulingGroup", "evictionResponders", "mode", "defaultUser", "user", "stopSignal", "protocol", "bindMountOptions"}


def test_every_field_of_the_table_is_one_of_the_schema() -> None:
    schema = builtin_schema(builtin_registry())
    for feature in OFF:
        for definition, names in feature.fields.items():
            assert set(names) <= set(schema.definitions[f"io.k8s.api.{definition}"]["properties"]), (feature.gate, definition)


async def test_a_pod_has_no_field_of_a_feature_that_is_off(lab: Lab) -> None:
    written = await lab.create("pods", GATED_POD, field_validation="Strict")
    stored = lab.get("pods", "web") or {}
    assert not fields_of(stored["spec"]) & OF_PODS
    assert "lifecycle" not in stored["spec"]["containers"][0], "its stopSignal was all it had"
    assert not [each for each in written.warnings if any(name in each for name in OF_PODS)]


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("podtemplates", ("template",)),
        ("deployments.apps", ("spec", "template")),
        ("jobs.batch", ("spec", "template")),
        ("cronjobs.batch", ("spec", "jobTemplate", "spec", "template")),
    ],
)
async def test_nor_has_a_template_of_pods(lab: Lab, resource: str, path: tuple[str, ...]) -> None:
    template: Any = {"metadata": {"labels": {"app": "web"}}, "spec": {**GATED_POD["spec"]}}
    spec: Any = {"template": template}
    if resource.endswith(".batch"):
        template["spec"]["restartPolicy"] = "Never"
        spec["scheduling"] = {"schedulingPolicy": {"basic": {}}}
    if resource == "deployments.apps":
        spec["selector"] = {"matchLabels": {"app": "web"}}
    if resource == "cronjobs.batch":
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": spec}}
    await lab.create(resource, {"metadata": {"name": "web"}} | (spec if resource == "podtemplates" else {"spec": spec}))
    made: Any = lab.get(resource, "web")
    assert "scheduling" not in fields_of(made)
    for name in path:
        made = made[name]
    assert not fields_of(made["spec"]) & OF_PODS


async def test_an_update_brings_none_and_a_patch_that_would_changes_nothing(lab: Lab) -> None:
    await lab.create("pods", pod(readinessProbe={"grpc": {"port": 81}}))
    before = lab.get("pods", "web")
    await lab.patch("pods", "web", {"spec": {"schedulingGroup": {"podGroupName": "gang"}}})
    assert lab.get("pods", "web") == before


async def test_what_an_object_has_already_it_keeps_and_may_change_but_nothing_of_another_feature(lab: Lab) -> None:
    """As objects from a snapshot of another release have it."""
    group = {"spec": {"strategy": "OldestEmulationVersion", "holderIdentity": "a"}}
    await lab.create("leases.coordination.k8s.io", {"metadata": {"name": "web"}, **group})
    lease = lab.get("leases.coordination.k8s.io", "web") or {}
    assert lease["spec"] == {"holderIdentity": "a"}
    kind = lab.kind("leases.coordination.k8s.io")
    from labctl.resources import encoding

    await lab.store.commit([Put(kind.key("default", "web"), encoding.stored({**lease, **group}))], [])
    await lab.patch("leases.coordination.k8s.io", "web", {"spec": {"strategy": "Other", "preferredHolder": "b"}})
    assert (lab.get("leases.coordination.k8s.io", "web") or {})["spec"] == {"strategy": "Other", "holderIdentity": "a"}


async def test_a_claim_takes_data_from_its_own_namespace_only(lab: Lab) -> None:
    source = {"apiGroup": "example.com", "kind": "Image", "name": "a"}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await lab.create(
        "persistentvolumeclaims", {"metadata": {"name": "other"}, "spec": {**spec, "dataSourceRef": {**source, "namespace": "n"}}}
    )
    await lab.create("persistentvolumeclaims", {"metadata": {"name": "own"}, "spec": {**spec, "dataSourceRef": source}})
    assert "dataSourceRef" not in (lab.get("persistentvolumeclaims", "other") or {})["spec"]
    assert (lab.get("persistentvolumeclaims", "own") or {})["spec"]["dataSourceRef"] == source


async def test_a_status_has_none_either(lab: Lab) -> None:
    await lab.create("pods", pod())
    status = {"phase": "Running", "volumeHealth": [{"name": "v"}]}
    await lab.patch("pods", "web", {"status": status}, subresource="status")
    assert "volumeHealth" not in (lab.get("pods", "web") or {})["status"]


async def test_devices_have_none(lab: Lab) -> None:
    device = {
        "name": "gpu",
        "attributes": {"example.com/one": {"int": 1}},
        "nodeAllocatableResources": {"cpu": {"mapping": {"quantity": "1"}}},
    }
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    spec = {
        "driver": "d.example.com",
        "pool": pool,
        "nodeName": "n",
        "devices": [device],
        "skipNodeOperations": ["*"],
        "partitionTypeAttribute": "x",
    }
    await lab.create(SLICES, {"metadata": {"name": "web"}, "spec": spec})
    exactly = {"deviceClassName": "gpu", "derivedAttributes": [{"name": "a", "expression": "1"}]}
    await lab.create(CLAIMS, {"metadata": {"name": "web"}, "spec": {"devices": {"requests": [{"name": "a", "exactly": exactly}]}}})
    off = {"nodeAllocatableResources", "skipNodeOperations", "partitionTypeAttribute", "derivedAttributes"}
    assert not (fields_of(lab.get(SLICES, "web")) | fields_of(lab.get(CLAIMS, "web"))) & off
