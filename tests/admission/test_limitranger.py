"""Bounds of a LimitRange, in the cases and words of Kubernetes' plugin: containers, whole pods with their init containers and sidecars, claims."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.resources.client import Client
from tests.admission.test_pod_steps import client, made  # noqa: F401 - a fixture

CPU = "cpu"


def container(name: str = "c", requests: str = "", limits: str = "", **more: Any) -> dict[str, Any]:
    resources = {part: {CPU: amount} for part, amount in (("requests", requests), ("limits", limits)) if amount}
    return {"name": name, "image": "x", "resources": resources, **more}


async def limited(client: Client, type_: str, **bounds: str) -> None:  # noqa: F811
    item = {"type": type_, **{name: {CPU: amount} for name, amount in bounds.items()}}
    await client.create("limitranges", {"metadata": {"name": "l", "namespace": "default"}, "spec": {"limits": [item]}})


REFUSED = [
    ({"min": "50m"}, ("10m", ""), "minimum cpu usage per Container is 50m, but request is 10m"),
    ({"min": "50m", "max": "1"}, ("", ""), ""),  # a minimum and a maximum make defaults
    ({"max": "1"}, ("500m", "2"), "maximum cpu usage per Container is 1, but limit is 2"),
    (
        {"maxLimitRequestRatio": "2"},
        ("", ""),
        "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
    ),
    (
        {"maxLimitRequestRatio": "2"},
        ("1", ""),
        "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
    ),
    ({"maxLimitRequestRatio": "2"}, ("1", "3"), "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"),
    ({"maxLimitRequestRatio": "2"}, ("100m", "150m"), ""),
]


@pytest.mark.parametrize(("bounds", "said", "words"), REFUSED)
async def test_a_container_is_held_to_its_bounds(client: Client, bounds: dict[str, str], said: tuple[str, str], words: str) -> None:  # noqa: F811
    await limited(client, "Container", **bounds)
    if not words:
        await made(client, containers=[container("c", *said)])
        return
    with pytest.raises(ApiError) as refused:
        await made(client, containers=[container("c", *said)])
    assert str(refused.value) == f'pods "p" is forbidden: {words}'


async def test_a_pods_init_containers_and_sidecars_count_as_they_run(client: Client) -> None:  # noqa: F811
    await limited(client, "Pod", max="1")
    alone = container("first", "900m", "900m")
    await made(client, "fine", [container("a", "500m", "500m"), container("b", "500m", "500m")], initContainers=[alone])
    with pytest.raises(ApiError, match="maximum cpu usage per Pod is 1, but limit is 1100m"):
        await made(client, "init", [container("a", "100m", "100m")], initContainers=[container("first", "1100m", "1100m")])
    sidecar = container("side", "600m", "600m", restartPolicy="Always")
    late = container("late", "500m", "500m")
    with pytest.raises(ApiError, match="maximum cpu usage per Pod is 1, but limit is 1100m"):
        await made(client, "late", [container("a", "100m", "100m")], initContainers=[sidecar, late])
    await made(client, "early", [container("a", "100m", "100m")], initContainers=[late, sidecar])
    with pytest.raises(ApiError, match="maximum cpu usage per Pod is 1, but limit is 1100m"):
        await made(client, "side", [container("a", "500m", "500m")], initContainers=[sidecar])


async def test_what_is_there_is_held_to_a_range_only_when_it_is_made_or_resized(client: Client) -> None:  # noqa: F811
    await made(client, "there", [container("c", "10m", "10m")])
    await limited(client, "Container", min="50m")
    await client.patch("pods", "default/there", {"metadata": {"labels": {"a": "b"}}})
