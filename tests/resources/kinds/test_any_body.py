"""Whatever a body holds, it is taken or refused with a Status: never an exception of Python's, never an object that can't be shown."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import ApiError
from labctl.resources.bootstrap import BootstrapSettings, ensure_bootstrap
from labctl.resources.verbs.match import supported_fields
from tests.resources.conftest import Lab, config, controller, pod, service
from tests.resources.kinds.bodies import ODD, changed, places

RICH_POD = pod(
    containers=[
        {
            "name": "main",
            "image": "nginx",
            "command": ["a"],
            "ports": [{"containerPort": 80, "hostPort": 80, "name": "web", "protocol": "TCP"}],
            "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}, {"name": "B", "value": "1"}],
            "envFrom": [{"secretRef": {"name": "s"}, "prefix": "P_"}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "x"}],
            "livenessProbe": {"httpGet": {"port": "web", "path": "/"}, "periodSeconds": 5},
            "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
            "securityContext": {"privileged": True, "capabilities": {"add": ["NET_ADMIN"]}},
        }
    ],
    volumes=[{"name": "data", "configMap": {"name": "cm", "items": [{"key": "a", "path": "b"}]}}, {"name": "tmp"}],
    tolerations=[{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
    nodeSelector={"a": "b"},
    affinity={
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]
            }
        }
    },
    hostNetwork=True,
)
RICH_POD["metadata"] |= {
    "annotations": {"a": "b"},
    "finalizers": ["example.com/x"],
    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}],
}

BODIES = {
    "pods": RICH_POD,
    "replicationcontrollers": controller(replicas=2, minReadySeconds=1, selector={"app": "web"}),
    "services": service(
        type="NodePort",
        clusterIP="10.247.0.9",
        clusterIPs=["10.247.0.9"],
        ipFamilies=["IPv4"],
        externalIPs=["1.2.3.4"],
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 5}},
        ports=[{"name": "a", "port": 80, "targetPort": "web", "nodePort": 30080}, {"name": "b", "port": 81, "protocol": "UDP"}],
    ),
    "nodes": {
        "metadata": {"name": "web"},
        "spec": {"podCIDR": "10.246.1.0/24", "podCIDRs": ["10.246.1.0/24"], "taints": [{"key": "a", "effect": "NoSchedule", "value": "b"}]},
        "status": {"capacity": {"cpu": "1"}, "conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}]},
    },
    "endpoints": {"metadata": {"name": "web"}, "subsets": [{"addresses": [{"ip": "10.246.1.2", "nodeName": "n"}], "ports": [{"port": 80, "name": "a"}]}]},
    "endpointslices.discovery.k8s.io": {
        "metadata": {"name": "web"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.246.1.2"], "conditions": {"ready": True}}],
        "ports": [{"port": 80}],
    },
    "configmaps": {**config(a="1"), "binaryData": {"b": "MQ=="}, "immutable": True},
    "secrets": {"metadata": {"name": "web"}, "type": "Opaque", "data": {"a": "MQ=="}, "stringData": {"b": "x"}},
    "namespaces": {"metadata": {"name": "web"}, "spec": {"finalizers": ["kubernetes"]}},
    "events": {"metadata": {"name": "web"}, "involvedObject": {"kind": "Pod", "namespace": "default"}, "count": 1, "series": {"count": 2}, "source": {"component": "x"}},
    "leases.coordination.k8s.io": {"metadata": {"name": "web"}, "spec": {"holderIdentity": "x", "leaseDurationSeconds": 40, "renewTime": "2026-01-02T15:04:05.000000Z"}},
    "machines.labctl.internal": {"metadata": {"name": "web"}, "spec": {"number": 1, "memory": "1Gi", "cpus": 1, "power": "On"}},
}  # fmt: skip


@pytest.mark.parametrize("resource", sorted(BODIES))
@settings(max_examples=40)
@given(data=st.data())
def test_taken_or_refused(resource: str, data: st.DataObject) -> None:
    body = BODIES[resource]
    for _ in range(data.draw(st.integers(0, 2))):
        every = list(places(body))
        if every:
            body = changed(body, data.draw(st.sampled_from(every)), data.draw(st.sampled_from(ODD)))
    asyncio.run(_try(resource, body))


async def _try(resource: str, body: dict[str, Any]) -> None:
    lab = Lab()
    await ensure_bootstrap(lab.client, BootstrapSettings())
    kind = lab.kind(resource)
    try:
        written = await lab.create(resource, body)
        name = json.loads(written.entry.value)["metadata"]["name"]
        await lab.update(resource, {**body, "metadata": {**body["metadata"], "name": name}})
        await lab.delete(resource, name)
    except ApiError as error:
        assert 400 <= error.code < 500, error
        return
    view = lab.resources.view(written.entry)
    for column in kind.columns:
        assert isinstance(column.cell(view, lab.clock.wall()), (str, int))
    assert set(kind.fields(view)) <= set(supported_fields(kind))


@pytest.mark.parametrize("resource", sorted(BODIES))
async def test_the_bodies_themselves_are_good(lab: Lab, resource: str) -> None:
    assert (await lab.create(resource, BODIES[resource])).created
