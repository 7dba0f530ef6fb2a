"""The real kubectl against a real server: what people type, and what they read when they typed it wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.inprocess import ApiServer, ended

RC: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ReplicationController",
    "metadata": {"name": "nginx-controller"},
    "spec": {
        "replicas": 2,
        "selector": {"name": "nginx"},
        "template": {
            "metadata": {"labels": {"name": "nginx"}},
            "spec": {"containers": [{"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80}]}]},
        },
    },
}
SERVICE: dict[str, Any] = {
    "kind": "Service",
    "apiVersion": "v1",
    "metadata": {"name": "web-service"},
    "spec": {"selector": {"name": "nginx"}, "ports": [{"protocol": "TCP", "port": 80, "targetPort": 80}]},
}


def with_spec(**spec: Any) -> dict[str, Any]:
    return RC | {"spec": RC["spec"] | spec}


async def ok(api: ApiServer, *arguments: str, stdin: Any = "") -> str:
    ran = await api.kubectl(*arguments, stdin=stdin)
    assert ran.code == 0, (arguments, ran.err)
    return ran.out


async def refused(api: ApiServer, *arguments: str, stdin: Any = "") -> str:
    ran = await api.kubectl(*arguments, stdin=stdin)
    assert ran.code != 0, (arguments, ran.out)
    return ran.err.strip()


async def test_the_seed_scenarios_words(api: ApiServer) -> None:
    assert await ok(api, "create", "-f", "-", stdin=RC) == "replicationcontroller/nginx-controller created\n"
    header, row = (await ok(api, "get", "rc", "-o", "wide")).splitlines()
    assert header.split() == ["NAME", "DESIRED", "CURRENT", "READY", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    assert row.split()[:4] == ["nginx-controller", "2", "0", "0"]
    assert row.split()[5:] == ["nginx", "nginx", "name=nginx"]
    assert await ok(api, "create", "-f", "-", stdin=json.dumps(SERVICE)) == "service/web-service created\n"
    for name in ("services", "svc", "se"):
        header, row = (await ok(api, "get", name)).splitlines()
        assert header.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
        assert row.split()[1] == "ClusterIP" and row.split()[2].startswith("10.247.")
    assert "nginx-controller" in await ok(api, "get", "rc", "-l", "name=nginx")
    assert "replicationcontroller/nginx-controller" in await ok(api, "get", "all")


async def test_it_edits_every_way(api: ApiServer) -> None:
    await ok(api, "create", "-f", "-", stdin=RC)
    assert "scaled" in await ok(api, "scale", "rc", "nginx-controller", "--replicas=5")
    patch = ["patch", "rc", "nginx-controller"]
    await ok(api, *patch, "-p", '{"spec":{"template":{"spec":{"containers":[{"name":"nginx","image":"nginx:2"}]}}}}')
    await ok(api, *patch, "--type=merge", "-p", '{"metadata":{"annotations":{"a":"b"}}}')
    await ok(api, *patch, "--type=json", "-p", '[{"op":"replace","path":"/spec/replicas","value":4}]')
    assert "labeled" in await ok(api, "label", "rc", "nginx-controller", "tier=web")
    assert "annotated" in await ok(api, "annotate", "rc", "nginx-controller", "note=x")
    rc = json.loads(await ok(api, "get", "rc", "nginx-controller", "-o", "json"))
    assert rc["spec"]["replicas"] == 4
    (container,) = rc["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["ports"][0]["containerPort"]) == ("nginx:2", 80)
    assert rc["metadata"]["labels"]["tier"] == "web"
    assert rc["metadata"]["annotations"] == {"a": "b", "note": "x"}
    await ok(api, "replace", "-f", "-", stdin=RC)
    assert json.loads(await ok(api, "get", "rc/nginx-controller", "-o", "json"))["spec"]["replicas"] == 2
    assert "deleted" in await ok(api, "delete", "rc", "nginx-controller")


async def test_apply_on_the_clients_side(api: ApiServer) -> None:
    assert await ok(api, "apply", "-f", "-", stdin=SERVICE) == "service/web-service created\n"
    assert await ok(api, "apply", "-f", "-", stdin=SERVICE) == "service/web-service unchanged\n"
    more = SERVICE | {"spec": SERVICE["spec"] | {"ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}]}}
    assert await ok(api, "apply", "-f", "-", stdin=more) == "service/web-service configured\n"
    assert "443" in await ok(api, "get", "svc", "web-service")
    diff = await api.kubectl("diff", "-f", "-", stdin=SERVICE)
    assert diff.code == 1 and "443" in diff.out


async def test_apply_on_the_servers_side(api: ApiServer) -> None:
    applied = "replicationcontroller/nginx-controller serverside-applied\n"
    assert await ok(api, "apply", "--server-side", "-f", "-", stdin=RC) == applied
    await ok(api, "apply", "--server-side", "-f", "-", stdin=RC)
    conflict = await refused(api, "apply", "--server-side", "--field-manager=other", "-f", "-", stdin=with_spec(replicas=7))
    assert 'conflict with "kubectl": .spec.replicas' in conflict
    await ok(api, "apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", stdin=with_spec(replicas=7))
    assert json.loads(await ok(api, "get", "rc/nginx-controller", "-o", "json"))["spec"]["replicas"] == 7


async def test_who_names_no_manager_is_its_program(api: ApiServer) -> None:
    await ok(api, "create", "-f", "-", stdin=RC)
    await ok(api, "scale", "rc", "nginx-controller", "--replicas=5")  # the one word of kubectl's that names no manager
    rc = json.loads(await ok(api, "get", "rc/nginx-controller", "-o", "json", "--show-managed-fields"))
    managers = {(entry["manager"], entry.get("subresource", "")) for entry in rc["metadata"]["managedFields"]}
    assert managers == {("kubectl-create", ""), ("kubectl", "scale")}


async def test_what_is_not_served_is_said_in_a_line(api: ApiServer) -> None:
    assert "the server doesn't have a resource type" in await refused(api, "get", "widgets")


async def test_kinds_that_kubectl_sends_as_protobuf(api: ApiServer) -> None:
    await ok(api, "create", "namespace", "shop")
    await ok(api, "create", "configmap", "c", "--from-literal=a=b", "-n", "shop")
    await ok(api, "create", "secret", "generic", "s", "--from-literal=a=b", "-n", "shop")
    await ok(api, "create", "service", "nodeport", "s", "--tcp=80:8080", "-n", "shop")
    assert json.loads(await ok(api, "get", "cm", "c", "-n", "shop", "-o", "json"))["data"] == {"a": "b"}
    assert json.loads(await ok(api, "get", "secret", "s", "-n", "shop", "-o", "json"))["data"] == {"a": "Yg=="}
    (port,) = json.loads(await ok(api, "get", "svc", "s", "-n", "shop", "-o", "json"))["spec"]["ports"]
    assert (port["port"], port["targetPort"], port["nodePort"] >= 30000) == (80, 8080, True)


async def test_watching_ends_with_what_happened(api: ApiServer) -> None:
    process = await api.start_kubectl("get", "cm", "-w", "--no-headers")
    assert process.stdout is not None
    try:
        await asyncio.sleep(0)
        for name in ("first", "second"):
            await ok(api, "create", "cm", name)
        async with asyncio.timeout(10):
            seen = [(await process.stdout.readline()).split()[0] for _ in range(2)]
        assert seen == [b"first", b"second"]
    finally:
        await ended(process)


async def test_wait_and_delete_watch_to_the_end(api: ApiServer) -> None:
    await ok(api, "create", "cm", "c", "--from-literal=a=b")
    await ok(api, "wait", "--for=jsonpath={.data.a}=b", "cm/c", "--timeout=5s")
    assert await ok(api, "delete", "cm", "c", "--timeout=5s") == 'configmap "c" deleted from default namespace\n'


async def test_drain_evicts(api: ApiServer) -> None:
    await api.resources.create(api.resources.registry["nodes"], "", {"metadata": {"name": "minion-1"}})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    pod["spec"] = {"nodeName": "minion-1", "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "x"}]}
    await ok(api, "create", "-f", "-", stdin=pod)
    assert "evict" in await ok(api, "drain", "minion-1", "--force", "--timeout=10s")
    assert "SchedulingDisabled" in await ok(api, "get", "nodes")
    assert await ok(api, "get", "pods", "-o", "name") == ""
    assert "uncordoned" in await ok(api, "uncordon", "minion-1")


async def test_describe_and_explain(api: ApiServer) -> None:
    await ok(api, "create", "-f", "-", stdin=SERVICE)
    described = await ok(api, "describe", "svc", "web-service")
    assert "Selector:                 name=nginx" in described
    explained = await ok(api, "explain", "rc.spec.template.spec.containers.image")
    assert "KIND:       ReplicationController" in explained and "FIELD: image <string>" in explained


async def test_api_resources_and_versions(api: ApiServer) -> None:
    names = {line.split()[0] for line in (await ok(api, "api-resources", "--no-headers")).splitlines()}
    assert names == {kind.plural for kind in api.resources.registry}
    groups = {kind.api_version for kind in api.resources.registry.all_served()}
    assert (await ok(api, "api-versions")).split() == sorted(groups)
    assert "Server Version: v1.37" in await ok(api, "version")
    assert await ok(api, "get", "--raw", "/readyz") == "ok"


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (("get", "pod", "x"), "", 'Error from server (NotFound): pods "x" not found'),
        (("get", "wombats"), "", 'error: the server doesn\'t have a resource type "wombats"'),
        (("get", "--raw", "/nothing"), "", "Error from server (NotFound): the server could not find the requested resource"),
        (("create", "-f", "-"), {"apiVersion": "v1", "kind": "Wombat", "metadata": {"name": "x"}}, 'no matches for kind "Wombat" in version "v1"'),
        (("create", "-f", "-"), "a: b: c", "error: error parsing STDIN: error converting YAML to JSON: yaml: mapping values are not allowed in this context"),
        (("create", "-f", "-"), with_spec(bogus=1), 'strict decoding error: unknown field "spec.bogus"'),
        (("create", "-f", "-"), with_spec(replicas=-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (("create", "-f", "-"), with_spec(selector={"a": "b"}), "`selector` does not match template `labels`"),
        (("create", "-f", "-"), with_spec(replicas="two"), "json: cannot unmarshal string into Go struct field ReplicationControllerSpec.spec.replicas of type int32"),
        (("create", "-f", "-"), RC | {"metadata": {"name": "a;rm -rf /"}}, "a lowercase RFC 1123 subdomain must consist of"),
        (("create", "-f", "-"), SERVICE | {"spec": SERVICE["spec"] | {"clusterIP": "10.1.2.3"}}, "The range of valid IPs is 10.247.0.0/16"),
        (("create", "-f", "-", "-n", "nowhere"), RC, 'Error from server (NotFound): error when creating "STDIN": namespaces "nowhere" not found'),
        (("get", "pods", "-l", "a in"), "", "unable to parse requirement"),
        (("get", "pods", "--field-selector", "spec.bogus=1"), "", 'field label not supported: spec.bogus'),
        (("scale", "rc", "x", "--replicas=1"), "", 'Error from server (NotFound): replicationcontrollers "x" not found'),
        (("logs", "x"), "", 'error: error from server (NotFound): pods "x" not found in namespace "default"'),
        (("exec", "x", "--", "ls"), "", 'Error from server (NotFound): pods "x" not found'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
async def test_bad_input_in_a_real_servers_words(api: ApiServer, arguments: tuple[str, ...], stdin: Any, words: str) -> None:
    assert words in await refused(api, *arguments, stdin=stdin)


async def test_the_same_name_twice(api: ApiServer) -> None:
    await ok(api, "create", "-f", "-", stdin=RC)
    words = 'Error from server (AlreadyExists): error when creating "STDIN": replicationcontrollers "nginx-controller" already exists'
    assert await refused(api, "create", "-f", "-", stdin=RC) == words


async def test_an_object_that_is_too_big(api: ApiServer) -> None:
    big = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"k": "x" * (2 << 20)}}
    assert "Too long: may not be more than 1048576 bytes" in await refused(api, "create", "-f", "-", stdin=big)
    assert "Request entity too large: limit is 3145728" in await refused(
        api, "create", "-f", "-", stdin=json.dumps(big | {"data": {"k": "x" * (4 << 20)}})
    )


async def test_dry_run_changes_nothing(api: ApiServer) -> None:
    assert "created (server dry run)" in await ok(api, "create", "-f", "-", "--dry-run=server", stdin=RC)
    assert await ok(api, "get", "rc", "-o", "name") == ""


async def test_edges_that_scripts_use(api: ApiServer) -> None:
    for name in ("a", "b", "c"):
        await ok(api, "create", "configmap", name, "--from-literal=k=v")
    raw = json.loads(await ok(api, "get", "--raw", "/api/v1/namespaces/default/configmaps?limit=2"))
    assert len(raw["items"]) == 2 and raw["metadata"]["continue"] and raw["metadata"]["remainingItemCount"] == 1
    assert len((await ok(api, "get", "configmaps", "--chunk-size=1", "--no-headers")).splitlines()) == 3
    assert await ok(api, "wait", "--for=jsonpath={.data.k}=v", "configmap/a", "--timeout=5s") == "configmap/a condition met\n"
    assert "timed out" in await refused(api, "wait", "--for=jsonpath={.data.k}=w", "configmap/a", "--timeout=1s")
