"""ResourceQuota and LimitRange as people meet them, with the real kubectl and all controllers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        yield running


def pod(name: str, **resources: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "i", **({"resources": resources} if resources else {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}


async def used(api: ApiServer, **wanted: str) -> None:
    """Wait until the quota says so."""
    for _ in range(200):
        status = json.loads(await ok(api, "get", "quota", "q", "-o", "json"))["status"].get("used", {})
        if {name: status.get(name) for name in wanted} == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(status)


async def test_a_quota_counts_and_refuses(api: ApiServer) -> None:
    await ok(api, "create", "quota", "q", "--hard=pods=2,requests.cpu=1,count/configmaps=3")
    await used(api, pods="0")
    await ok(api, "create", "-f", "-", stdin=pod("a", requests={"cpu": "600m"}))
    said = await refused(api, "create", "-f", "-", stdin=pod("b", requests={"cpu": "500m"}))
    assert (
        'pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1' in said
    )
    assert "failed quota: q: must specify requests.cpu for: c" in await refused(api, "create", "-f", "-", stdin=pod("c"))
    await ok(api, "create", "-f", "-", stdin=pod("b", requests={"cpu": "400m"}))
    assert "requested: pods=1" in await refused(api, "create", "-f", "-", stdin=pod("d", requests={"cpu": "0"}))
    await used(api, **{"pods": "2", "requests.cpu": "1"})
    await ok(api, "delete", "pod", "a", "--now")
    await used(api, **{"pods": "1", "requests.cpu": "400m"})
    header, row = (await ok(api, "get", "quota")).splitlines()
    assert header.split()[:3] == ["NAME", "REQUEST", "LIMIT"] and "pods: 1/2" in row


async def test_a_pod_with_resources_of_its_own_is_asked_for_no_more(api: ApiServer) -> None:
    await ok(api, "create", "quota", "q", "--hard=requests.cpu=1,requests.memory=1Gi")
    await used(api, **{"requests.cpu": "0"})
    whole = pod("a")
    assert "must specify requests.cpu for: c; requests.memory for: c" in await refused(api, "create", "-f", "-", stdin=whole)
    whole["spec"]["resources"] = {"requests": {"cpu": "200m"}}
    await ok(api, "create", "-f", "-", stdin=whole)
    await used(api, **{"requests.cpu": "200m", "requests.memory": "0"})


async def test_many_at_once_never_take_more_than_there_is(api: ApiServer) -> None:
    await ok(api, "create", "quota", "q", "--hard=count/configmaps=6")
    await used(api, **{"count/configmaps": "1"})  # kube-root-ca.crt
    kind = api.resources.registry["configmaps"]
    made = await asyncio.gather(
        *(api.resources.create(kind, "default", {"metadata": {"name": f"c{number}"}}) for number in range(20)), return_exceptions=True
    )
    assert sum(not isinstance(each, Exception) for each in made) == 5
    await used(api, **{"count/configmaps": "6"})


async def test_scopes_choose_which_pods_count(api: ApiServer) -> None:
    await ok(api, "create", "quota", "q", "--hard=pods=1", "--scopes=BestEffort")
    await used(api, pods="0")
    await ok(api, "create", "-f", "-", stdin=pod("a"))
    assert "exceeded quota" in await refused(api, "create", "-f", "-", stdin=pod("b"))
    await ok(api, "create", "-f", "-", stdin=pod("c", requests={"cpu": "1"}))


LIMITS = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "l"},
    "spec": {
        "limits": [
            {
                "type": "Container",
                "default": {"cpu": "500m", "memory": "128Mi"},
                "defaultRequest": {"cpu": "100m"},
                "min": {"cpu": "50m"},
                "max": {"cpu": "1"},
            }
        ]
    },
}


async def test_a_limit_range_fills_in_and_bounds(api: ApiServer) -> None:
    await ok(api, "create", "-f", "-", stdin=LIMITS)
    await ok(api, "create", "-f", "-", stdin=pod("a"))
    stored = json.loads(await ok(api, "get", "pod", "a", "-o", "json"))
    resources = stored["spec"]["containers"][0]["resources"]
    assert resources == {"limits": {"cpu": "500m", "memory": "128Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}}
    assert stored["metadata"]["annotations"]["kubernetes.io/limit-ranger"].startswith("LimitRanger plugin set: cpu, memory")
    await ok(api, "create", "-f", "-", stdin=pod("own", limits={"cpu": "300m"}))
    resources = json.loads(await ok(api, "get", "pod", "own", "-o", "json"))["spec"]["containers"][0]["resources"]
    assert resources["requests"]["cpu"] == "300m", "who writes a limit requests as much"
    said = await refused(api, "create", "-f", "-", stdin=pod("b", limits={"cpu": "2"}))
    assert 'pods "b" is forbidden: maximum cpu usage per Container is 1, but limit is 2' in said
    said = await refused(api, "create", "-f", "-", stdin=pod("c", requests={"cpu": "10m"}))
    assert "minimum cpu usage per Container is 50m, but request is 10m" in said
    said = await refused(
        api,
        "create",
        "-f",
        "-",
        stdin=LIMITS | {"metadata": {"name": "x"}, "spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}},
    )
    assert "min value 2 is greater than max value 1" in said


async def test_a_quota_in_bytes_counts_in_the_units_it_was_written_in(api: ApiServer) -> None:
    await ok(api, "create", "quota", "q", "--hard=memory=500Mi,cpu=1")
    await used(api, memory="0")
    await ok(api, "create", "-f", "-", stdin=pod("a", requests={"memory": "252Mi", "cpu": "100m"}))
    await used(api, memory="252Mi", cpu="100m")
    said = await refused(api, "create", "-f", "-", stdin=pod("b", requests={"memory": "1Gi", "cpu": "100m"}))
    assert "requested: memory=1Gi, used: memory=252Mi, limited: memory=500Mi" in said


async def test_only_pods_that_look_into_other_namespaces_count_for_cross_namespace_affinity(api: ApiServer) -> None:
    await ok(api, "create", "quota", "q", "--hard=pods=5", "--scopes=CrossNamespacePodAffinity")
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}
    for name, terms in (("own", [term]), ("others", [{**term, "namespaces": ["kube-system"]}])):
        body = pod(name)
        body["spec"]["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
        await ok(api, "create", "-f", "-", stdin=body)
    await used(api, pods="1")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}, "unsupported scope applied to resource"),
        ({"hard": {"services": "1"}, "scopes": ["NotTerminating"]}, "unsupported scope applied to resource"),
        ({"hard": {"pods": "1"}, "scopes": ["Terminating", "NotTerminating"]}, "conflicting scopes"),
        (
            {"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}},
            "must be at least one value",
        ),
        (
            {"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [{"scopeName": "BestEffort", "operator": "DoesNotExist"}]}},
            "must be 'Exist'",
        ),
    ],
)
async def test_scopes_that_bound_nothing_are_refused(api: ApiServer, spec: dict[str, Any], why: str) -> None:
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": spec}
    assert why in await refused(api, "create", "-f", "-", stdin=body)


async def test_a_deployment_whose_pods_are_refused_says_so_and_keeps_others_conditions(api: ApiServer) -> None:
    await ok(api, "create", "quota", "q", "--hard=pods=1")
    await used(api, pods="0")
    await ok(api, "create", "deployment", "web", "--image=i", "--replicas=2")
    for kind in ("replicaset", "deployment"):
        await ok(api, "wait", "--for=condition=ReplicaFailure", kind, "--all", "--timeout=10s")
    mine = json.dumps([{"op": "add", "path": "/status/conditions/-", "value": {"type": "Mine", "status": "True"}}])
    await ok(api, "patch", "deployment", "web", "--subresource=status", "--type=json", "-p", mine)
    await ok(api, "delete", "quota", "q")
    await ok(api, "scale", "deployment", "web", "--replicas=3")
    await ok(api, "wait", "--for=jsonpath={.status.replicas}=3", "deployment/web", "--timeout=20s")
    for _ in range(200):
        conditions = json.loads(await ok(api, "get", "deployment", "web", "-o", "json"))["status"]["conditions"]
        if {each["type"] for each in conditions} == {"Available", "Progressing", "Mine"}:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(conditions)
