"""Programs that call the API as a ServiceAccount: kubectl with a token, the Python client as it is configured inside a pod, kopf's and helm's way too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config.incluster_config import InClusterConfigLoader

from tests.inprocess import ApiServer


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as api:
        for words in (
            ("create", "serviceaccount", "robot"),
            ("create", "rolebinding", "views", "--clusterrole=view", "--serviceaccount=default:robot"),
        ):
            ran = await api.kubectl(*words)
            assert ran.code == 0, ran.err
        yield api


async def token_of(api: ApiServer) -> str:
    ran = await api.kubectl("create", "token", "robot")
    assert ran.code == 0, ran.err
    return ran.out.strip()


async def test_kubectl_with_a_token(api: ApiServer) -> None:
    """By the flag, and by a kubeconfig that holds it."""
    token = await token_of(api)
    ca = api.directory / "pki" / "ca.crt"
    nothing = api.directory / "nothing"
    nothing.write_text("")
    by_flag = (f"--kubeconfig={nothing}", f"--server={api.url}", f"--certificate-authority={ca}", f"--token={token}")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": api.url, "certificate-authority": str(ca)}}],
        "users": [{"name": "robot", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "robot"}}],
        "current-context": "lab",
    }
    (api.directory / "robot.yaml").write_text(yaml.safe_dump(config))
    for way in (by_flag, (f"--kubeconfig={api.directory / 'robot.yaml'}",)):
        who = await api.kubectl("auth", "whoami", *way)
        assert "system:serviceaccount:default:robot" in who.out, who.err
        assert (await api.kubectl("get", "pods", *way)).code == 0
        refused = await api.kubectl("create", "configmap", "x", *way)
        words = 'User "system:serviceaccount:default:robot" cannot create resource "configmaps" in API group "" in the namespace "default"'
        assert refused.code == 1 and words in refused.err
    wrong = await api.kubectl("get", "pods", *by_flag[:3], "--token=nonsense")
    assert wrong.code == 1 and "Unauthorized" in wrong.err


async def test_the_python_client_as_in_a_pod(api: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(await token_of(api))
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api.port)}
    settings = client.Configuration()
    loader = InClusterConfigLoader(str(tmp_path / "token"), str(api.directory / "pki" / "ca.crt"), environ=environment)
    loader.load_and_set(settings)
    core = client.CoreV1Api(client.ApiClient(settings))
    assert (await away(core.list_namespaced_pod, "default")).items == []
    with pytest.raises(ApiException) as refused:
        await away(core.list_namespaced_secret, "default")
    assert refused.value.status == 403


async def away(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(call, *arguments), 20)
