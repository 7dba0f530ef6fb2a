"""Secrets of type kubernetes.io/service-account-token, as tutorials write them: filled with a token, gone with their ServiceAccount."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.inprocess import ApiServer

SECRET: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "type": "kubernetes.io/service-account-token",
    "metadata": {"name": "robot-token", "annotations": {"kubernetes.io/service-account.name": "robot"}},
}
WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as api:
        assert (await api.kubectl("create", "serviceaccount", "robot")).code == 0
        yield api


async def whoami(api: ApiServer, token: str) -> int:
    async with api.session(None) as http, http.post(WHOAMI, json={}, headers={"Authorization": f"Bearer {token}"}) as answered:
        return answered.status


async def test_it_is_filled_and_ends_with_its_account(api: ApiServer) -> None:
    assert (await api.kubectl("apply", "-f", "-", stdin=SECRET)).code == 0
    ran = await api.kubectl("wait", "--for=jsonpath={.data.token}", "secret/robot-token", "--timeout=10s")
    assert ran.code == 0, ran.err
    token = (await api.kubectl("get", "secret", "robot-token", "-o", "go-template={{.data.token | base64decode}}")).out
    assert await whoami(api, token) == 201
    described = (await api.kubectl("describe", "secret", "robot-token")).out
    assert "ca.crt" in described and "namespace" in described
    assert (await api.kubectl("delete", "serviceaccount", "robot")).code == 0
    assert (await api.kubectl("wait", "--for=delete", "secret/robot-token", "--timeout=10s")).code == 0
    assert await whoami(api, token) == 401


async def test_a_token_ends_with_its_secret(api: ApiServer) -> None:
    await api.kubectl("apply", "-f", "-", stdin=SECRET)
    await api.kubectl("wait", "--for=jsonpath={.data.token}", "secret/robot-token", "--timeout=10s")
    token = (await api.kubectl("get", "secret", "robot-token", "-o", "go-template={{.data.token | base64decode}}")).out
    await api.kubectl("delete", "secret", "robot-token")
    assert await whoami(api, token) == 401


async def test_it_must_say_whose(api: ApiServer) -> None:
    ran = await api.kubectl("create", "-f", "-", stdin={**SECRET, "metadata": {"name": "x"}})
    assert ran.code == 1 and "metadata.annotations[kubernetes.io/service-account.name]: Required value" in ran.err
