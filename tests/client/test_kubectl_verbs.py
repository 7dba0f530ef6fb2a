"""Verbs and flags of kubectl 1.35 to 1.37 that scripts use: what they print, and with which status they end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.inprocess import ApiServer

MAPS: tuple[dict[str, Any], ...] = tuple(
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"set": "x"}}, "data": {"a": "b"}}
    for name in ("one", "two")
)
RULES: list[dict[str, Any]] = [
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "r", "namespace": "default"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
    },
]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        yield running


def listed(*objects: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}


async def said(api: ApiServer, *arguments: str, stdin: Any = "", code: int = 0) -> str:
    """Return what kubectl printed, on either way."""
    ran = await api.kubectl(*arguments, stdin=stdin)
    assert ran.code == code, (arguments, ran)
    return ran.out + ran.err


async def test_a_workload_is_scaled_and_rolled_back_by_number(api: ApiServer) -> None:
    await said(api, "create", "deployment", "web", "--image=nginx:1", "--replicas=2")
    assert (await said(api, "wait", "--for=create", "deploy/web", "--timeout=5s")).endswith("condition met\n")
    scale = (await said(api, "get", "deploy", "web", "--subresource=scale")).splitlines()
    assert scale[0].split() == ["NAME", "DESIRED", "AVAILABLE", "AGE"] and scale[1].split()[:2] == ["web", "2"]
    assert "Expected replicas to be 7, was 2" in await said(api, "scale", "deploy/web", "--replicas=3", "--current-replicas=7", code=1)
    await said(api, "scale", "deploy/web", "--replicas=3", "--current-replicas=2")
    assert "Expected resource version" in await said(api, "scale", "deploy/web", "--replicas=4", "--resource-version=1", code=1)
    await said(api, "wait", "--for=jsonpath={.spec.replicas}=3", "deploy/web", "--timeout=5s")
    assert "scale.autoscaling/web patched" in await said(
        api, "patch", "deploy", "web", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":1}}'
    )
    await said(api, "wait", "--for=jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}=1", "deploy/web", "--timeout=9s")
    await said(api, "set", "image", "deploy/web", "nginx=nginx:2")
    await said(api, "wait", "--for=jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}=2", "deploy/web", "--timeout=9s")
    assert "nginx:2" in await said(api, "rollout", "history", "deploy/web", "--revision=2")
    assert "unable to find specified revision 77" in await said(api, "rollout", "undo", "deploy/web", "--to-revision=77", code=1)
    await said(api, "rollout", "undo", "deploy/web", "--to-revision=1")
    assert await said(api, "get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}") == "nginx:1"
    await said(api, "rollout", "pause", "deploy/web")
    assert "already paused" in await said(api, "rollout", "pause", "deploy/web", code=1)


async def test_what_is_no_longer_named_is_pruned(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    await said(api, "apply", "-f", "-", stdin=listed(*MAPS))
    allowed = "--prune-allowlist=core/v1/ConfigMap"
    assert "configmap/two pruned" in await said(api, "apply", "-f", "-", "--prune", "-l", "set=x", allowed, stdin=MAPS[0])
    monkeypatch.setenv("KUBECTL_APPLYSET", "true")
    whole = ("apply", "-f", "-", "--prune", "--applyset=parent", "-n", "default")
    await said(api, *whole, stdin=listed(*MAPS))
    assert "configmap/two pruned" in await said(api, *whole, stdin=MAPS[0])
    parent = json.loads(await said(api, "get", "secret", "parent", "-o", "json"))["metadata"]
    assert parent["annotations"]["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap"
    assert "applyset.kubernetes.io/id" in parent["labels"]


async def test_an_object_is_compared_shown_and_deleted_as_a_person_does_it(api: ApiServer) -> None:
    await said(api, "apply", "-f", "-", stdin=MAPS[0])
    other = {**MAPS[0], "data": {"a": "c"}}
    assert "+  a: c" in await said(api, "diff", "-f", "-", "--concurrency=2", stdin=other, code=1)
    assert "+  a: c" in await said(api, "diff", "-f", "-", "--server-side", "--force-conflicts", stdin=other, code=1)
    assert await said(api, "diff", "-f", "-", stdin=MAPS[0]) == ""
    shown = await said(api, "get", "cm", "one", "-o", "kyaml")
    assert shown.startswith("---\n{\n") and '    name: "one",\n' in shown
    await said(api, "apply", "-f", "-", stdin=shown)
    assert await said(api, "label", "--list", "cm", "one") == "set=x\n"
    assert "'set' already has a value (x)" in await said(api, "label", "cm", "one", "set=y", code=1)
    assert "modified" in await said(api, "label", "cm", "one", "set=y", "--overwrite", "--resource-version=1", code=1)
    assert "deletion is cancelled" in await said(api, "delete", "cm", "one", "--interactive", stdin="n\n")
    assert '"one" deleted' in await said(api, "delete", "cm", "one", "--interactive", stdin="y\n")
    await said(api, "wait", "--for=delete", "cm/one", "--timeout=5s")


async def test_rights_are_reconciled_and_taken_back(api: ApiServer) -> None:
    first = await said(api, "auth", "reconcile", "-f", "-", stdin=listed(*RULES))
    assert first.count("reconciliation required create") == 2
    assert "required" not in await said(api, "auth", "reconcile", "-f", "-", stdin=listed(*RULES))
    lists = {**RULES[0], "rules": [{**RULES[0]["rules"][0], "verbs": ["list"]}]}
    changed = await said(api, "auth", "reconcile", "-f", "-", "--remove-extra-permissions", "--remove-extra-subjects", stdin=listed(lists))
    assert "missing rules added" in changed and "extra rules removed" in changed
    assert await said(api, "auth", "can-i", "list", "pods", "--as=jane") == "yes\n"
    assert await said(api, "auth", "can-i", "get", "pods", "--as=jane", code=1) == "no\n"
    await said(api, "set", "subject", "rolebinding", "b", "--user=bob")
    assert await said(api, "auth", "can-i", "list", "pods", "--as=bob") == "yes\n"
    assert "X509SHA256=" in await said(api, "auth", "whoami")


async def test_tokens_are_bound_to_objects_that_are_there(api: ApiServer) -> None:
    await said(api, "create", "sa", "robot")
    await said(api, "create", "secret", "generic", "s")
    bound = ("create", "token", "robot", "--bound-object-kind=Secret")
    assert await said(api, *bound, "--bound-object-name=s", "-o", "name") == "tokenrequest.authentication.k8s.io/robot\n"
    assert 'secrets "none" not found' in await said(api, *bound, "--bound-object-name=none", code=1)
    assert "does not match the UID in record" in await said(api, *bound, "--bound-object-name=s", "--bound-object-uid=x", code=1)


async def test_nodes_are_tainted_once(api: ApiServer) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    await said(api, "create", "-f", "-", stdin=node)
    assert await said(api, "taint", "node", "n1", "a=b:NoSchedule") == "node/n1 tainted\n"
    assert "already has a taint" in await said(api, "taint", "node", "n1", "a=c:NoSchedule", code=1)
    assert await said(api, "taint", "node", "n1", "a=c:NoSchedule", "--overwrite") == "node/n1 modified\n"
    assert await said(api, "taint", "node", "n1", "a-") == "node/n1 untainted\n"
    assert await said(api, "cordon", "n1") == "node/n1 cordoned\n"
    assert "node/n1 drained (server dry run)" in await said(api, "drain", "n1", "--dry-run=server")


async def test_preferences_of_the_person_are_kubectls_own(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    file = api.directory / "kuberc"
    file.write_text("apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\n")
    monkeypatch.setenv("KUBERC", str(file))
    alias = ("kuberc", "set", "--section", "aliases", "--name", "spaces", "--command", "get", "--option", "output=name")
    await said(api, *alias, "--prependarg", "namespaces")
    assert "namespace/default\n" in await said(api, "spaces")


async def test_a_resize_of_what_no_node_has_says_so(api: ApiServer) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}}
    await said(api, "create", "-f", "-", stdin=node)
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [container]}}
    await said(api, "create", "-f", "-", stdin=pod)
    patch = '{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"%s"}}}]}}'
    await said(api, "patch", "pod", "p", "--subresource=resize", "-p", patch % "1500m")
    words = 'pods "p" is forbidden: node didn\'t have enough allocatable resources: cpu, requested: 900000, allocatable: 2000'
    assert words in await said(api, "patch", "pod", "p", "--subresource=resize", "-p", patch % "900", code=1)
