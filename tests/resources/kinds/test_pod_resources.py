"""Resources of a whole pod (KEP-2837), and what may stand in the resources of a container."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from labctl.errors import ApiError
from labctl.resources import quota
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.scheduler.demand import demand_of
from tests.resources.conftest import Lab, pod

STRATEGIC = "application/strategic-merge-patch+json"
Resources = dict[str, Any]


def asking(own: Resources | None, *containers: Resources, **spec: Any) -> dict[str, Any]:
    made = [{"name": f"c{number}", "image": "nginx:1", "resources": each} for number, each in enumerate(containers or ({},))]
    return pod(containers=made, **({"resources": own} if own is not None else {}), **spec)


async def stored(lab: Lab, whole: dict[str, Any]) -> dict[str, Any]:
    await lab.create("pods", whole)
    found = lab.get("pods", "web")
    assert found
    return found


@pytest.mark.parametrize(
    ("own", "containers", "requests", "qos"),
    [
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, [{}], {"cpu": "1", "memory": "1Gi"}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, [{"requests": {"cpu": "200m"}}, {"requests": {"cpu": "100m"}}], {"cpu": "300m", "memory": "1Gi"}, "Burstable"),
        ({"requests": {"memory": "1Gi"}}, [{"requests": {"memory": "128Mi"}}], {"memory": "1Gi"}, "Burstable"),
        ({"limits": {"memory": "1Gi"}}, [{"requests": {"memory": "128Mi"}}], {"memory": "128Mi"}, "Burstable"),
        (None, [{"limits": {"cpu": "1", "memory": "1Gi"}}], None, "Guaranteed"),
    ],
)  # fmt: skip
async def test_what_a_pod_requests_follows_its_containers_and_else_its_limit(
    lab: Lab, own: Resources | None, containers: list[Resources], requests: Resources | None, qos: str
) -> None:
    found = await stored(lab, asking(own, *containers))
    assert (found["spec"].get("resources") or {}).get("requests") == requests
    assert found["status"]["qosClass"] == qos


@pytest.mark.parametrize(
    ("own", "containers", "words"),
    [
        (
            {"requests": {"cpu": "1"}},
            [{"requests": {"cpu": "800m"}}, {"requests": {"cpu": "700m"}}],
            'spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 1500m',
        ),
        (
            {"limits": {"memory": "1Gi"}},
            [{"limits": {"memory": "2Gi"}, "requests": {"memory": "1Mi"}}],
            'Invalid value: "2Gi": must be less than or equal to pod limits of 1Gi',
        ),
        (
            {"limits": {"ephemeral-storage": "1Gi"}},
            [{}],
            'spec.resources.limits[ephemeral-storage]: Unsupported value: "ephemeral-storage"',
        ),
        ({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}, [{}], 'Invalid value: "2": must be less than or equal to cpu limit of 1'),
        ({"limits": {"hugepages-2Mi": "2Mi"}}, [{}], "spec.resources: Forbidden: HugePages require cpu or memory"),
        (
            None,
            [{"requests": {"example.com/gpu": "1"}}],
            "resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (None, [{"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "2"}}], "must be equal to example.com/gpu limit of 2"),
        (None, [{"limits": {"example.com/gpu": "500m"}}], "must be an integer"),
        (None, [{"limits": {"cpus": "1"}}], 'limits[cpus]: Invalid value: "cpus": must be a standard resource for containers'),
        (None, [{"limits": {"storage": "1"}}], 'limits[storage]: Invalid value: "storage": must be a standard resource for containers'),
        (None, [{"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}}], "3Mi is not positive integer multiple of hugepages-2Mi"),
    ],
)
async def test_what_is_refused(lab: Lab, own: Resources | None, containers: list[Resources], words: str) -> None:
    with pytest.raises(ApiError) as caught:
        await lab.create("pods", asking(own, *containers))
    assert caught.value.code == 422 and words in str(caught.value)


async def test_the_scheduler_and_quotas_count_the_pods_own_and_its_overhead(lab: Lab) -> None:
    own = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    found = await stored(lab, asking(own, {"requests": {"cpu": "100m", "ephemeral-storage": "1Gi"}}))
    used = quota.usage(lab.kind("pods"), found)
    assert (used["requests.cpu"], used["limits.cpu"], used["memory"], used["ephemeral-storage"]) == (1, 2, 1 << 30, 1 << 30)
    assert quota.missing(found["spec"], ("limits.cpu", "requests.memory")) == ""
    costly = {**found, "spec": {**found["spec"], "overhead": {"cpu": "250m"}}}
    used = quota.usage(lab.kind("pods"), costly)
    assert (float(used["cpu"]), float(used["limits.cpu"])) == (1.25, 2.25)
    demand = demand_of(msgspec.convert(costly, Pod))
    assert (demand.millicores, demand.bytes, demand.others) == (1250, 1 << 30, (("ephemeral-storage", 1 << 30),))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"resources": {"requests": {"cpu": "600m"}}}, ""),
        ({"resources": None}, "spec.resources: Forbidden: pod-level resources cannot be removed"),
        ({"resources": {"limits": {"cpu": None}}}, "spec.resources.limits: Forbidden: pod-level resource limits cannot be removed"),
        ({"resources": {"requests": {"hugepages-2Mi": "2Mi"}, "limits": {"hugepages-2Mi": "2Mi"}}}, "only cpu and memory resources are mutable at pod-level"),
        ({"resources": {"requests": {"cpu": "10m"}}}, "must be greater than or equal to aggregate container requests of 100m"),
        ({"containers": [{"name": "other", "image": "nginx:1"}]}, "spec.containers: Forbidden: containers may not be added or removed on resize"),
        (
            {"$setElementOrder/containers": [{"name": "c1"}, {"name": "c0"}], "containers": []},
            "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize, "
            "spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize",
        ),
    ],
)  # fmt: skip
async def test_a_pod_itself_is_resized_and_nothing_else(lab: Lab, asked: dict[str, Any], words: str) -> None:
    own = {"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    await lab.create("pods", asking(own, {"requests": {"cpu": "100m"}}, {}))
    if words:
        with pytest.raises(ApiError) as caught:
            await lab.patch("pods", "web", {"spec": asked}, "resize", STRATEGIC)
        assert caught.value.code == 422 and words in str(caught.value)
    else:
        await lab.patch("pods", "web", {"spec": asked}, "resize", STRATEGIC)
    found = lab.get("pods", "web")
    assert found and found["spec"]["resources"]["requests"]["cpu"] == ("500m" if words else "600m")
