"""pods/resize: what it changes, and what it refuses in Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from tests.resources.conftest import Lab, pod

STRATEGIC = "application/strategic-merge-patch+json"
ASKED: dict[str, Any] = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}


def web(resources: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "nginx:1", "resources": ASKED if resources is None else resources}
    return pod(containers=[container], **spec)


async def resize(lab: Lab, resources: dict[str, Any], **container: Any) -> dict[str, Any]:
    await lab.patch("pods", "web", {"spec": {"containers": [{"name": "c", "resources": resources, **container}]}}, "resize", STRATEGIC)
    found = lab.get("pods", "web")
    assert found
    return found


async def why(lab: Lab, resources: dict[str, Any]) -> str:
    with pytest.raises(ApiError) as caught:
        await resize(lab, resources)
    assert caught.value.code == 422
    return str(caught.value)


async def test_it_changes_resources_and_counts_as_a_new_generation(lab: Lab) -> None:
    await lab.create("pods", web())
    found = await resize(lab, {"requests": {"cpu": "300m"}, "limits": {"cpu": "400m"}})
    [container] = found["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "300m", "memory": "64Mi"}, "limits": {"cpu": "400m", "memory": "128Mi"}}
    assert found["metadata"]["generation"] == 2
    policy = [{"resourceName": name, "restartPolicy": "NotRequired"} for name in ("cpu", "memory")]
    assert container["resizePolicy"] == policy


async def test_nothing_else_is_written_by_it(lab: Lab) -> None:
    await lab.create("pods", web())
    found = await resize(lab, {"requests": {"cpu": "150m"}}, image="other:1", command=["false"])
    [container] = found["spec"]["containers"]
    assert container["image"] == "nginx:1" and "command" not in container and container["resources"]["requests"]["cpu"] == "150m"


async def test_the_pod_itself_still_refuses_other_resources(lab: Lab) -> None:
    await lab.create("pods", web())
    with pytest.raises(ApiError) as caught:
        await lab.patch("pods", "web", {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}}, "", STRATEGIC)
    assert "pod updates may not change fields other than" in str(caught.value)


@pytest.mark.parametrize(
    ("had", "asked", "words"),
    [
        (ASKED, {"requests": {"cpu": "200m", "memory": "128Mi"}}, 'spec: Invalid value: "Guaranteed": Pod QOS Class may not change as a result of resizing'),
        (ASKED, {"requests": {"cpu": None}, "limits": {"cpu": None}}, "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"),
        (ASKED, {"limits": {"memory": None}}, "resource limits cannot be removed"),
        (ASKED, {"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}}, "only cpu and memory resources are mutable"),
        (ASKED, {"requests": {"cpu": "300m"}}, "must be less than or equal to cpu limit"),
        ({}, {"requests": {"cpu": "1"}}, "Pod QOS Class may not change"),
    ],
)  # fmt: skip
async def test_what_is_refused(lab: Lab, had: dict[str, Any], asked: dict[str, Any], words: str) -> None:
    await lab.create("pods", web(had))
    assert words in await why(lab, asked)


async def test_init_containers_are_resized_too_but_not_by_a_restart(lab: Lab) -> None:
    inits: list[dict[str, Any]] = [{"name": name, "image": "busybox:1", "resources": ASKED} for name in ("plain", "again", "sidecar")]
    inits[1]["resizePolicy"] = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    inits[2]["restartPolicy"] = "Always"
    await lab.create("pods", web(initContainers=inits))
    more = {"requests": {"cpu": "120m"}}
    for name in ("plain", "sidecar"):
        await lab.patch("pods", "web", {"spec": {"initContainers": [{"name": name, "resources": more}]}}, "resize", STRATEGIC)
    with pytest.raises(ApiError, match="non-sidecar init containers with a resize policy of RestartContainer cannot be resized"):
        await lab.patch("pods", "web", {"spec": {"initContainers": [{"name": "again", "resources": more}]}}, "resize", STRATEGIC)
    found = lab.get("pods", "web")
    assert found and [each["resources"]["requests"]["cpu"] for each in found["spec"]["initContainers"]] == ["120m", "100m", "120m"]


@pytest.mark.parametrize(
    ("policy", "restart", "words"),
    [
        ([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}], "Never", "must be 'NotRequired' when `restartPolicy` is 'Never'"),
        ([{"resourceName": "disk", "restartPolicy": "NotRequired"}], "Always", 'Unsupported value: "disk"'),
        ([{"resourceName": "cpu", "restartPolicy": "Sometimes"}], "Always", 'Unsupported value: "Sometimes"'),
        ([{"resourceName": "cpu", "restartPolicy": "NotRequired"}] * 2, "Always", 'Duplicate value: "cpu"'),
    ],
)
async def test_policies_that_are_refused(lab: Lab, policy: Any, restart: str, words: str) -> None:
    whole = web(restartPolicy=restart)
    whole["spec"]["containers"][0]["resizePolicy"] = policy
    with pytest.raises(ApiError) as caught:
        await lab.create("pods", whole)
    assert words in str(caught.value)
