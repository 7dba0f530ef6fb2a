"""Ephemeral containers: added by their subresource, in Kubernetes' words, and by nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from tests.resources.conftest import Lab, controller, pod

STRATEGIC = "application/strategic-merge-patch+json"
DEBUGGER: dict[str, Any] = {"name": "debugger", "image": "busybox:1", "targetContainerName": "c"}
SUB = "ephemeralcontainers"


def web(**spec: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "c", "image": "nginx:1"}], **spec)


async def add(lab: Lab, *containers: dict[str, Any]) -> Any:
    return await lab.patch("pods", "web", {"spec": {"ephemeralContainers": list(containers)}}, SUB, STRATEGIC)


async def why(lab: Lab, **container: Any) -> str:
    with pytest.raises(ApiError) as caught:
        await add(lab, {**DEBUGGER, **container})
    assert caught.value.code == 422
    return str(caught.value)


async def test_they_are_added_with_defaults_and_count_as_a_new_generation(lab: Lab) -> None:
    await lab.create("pods", web())
    written = await add(lab, DEBUGGER)
    assert not written.warnings
    found = lab.get("pods", "web")
    assert found
    [added] = found["spec"]["ephemeralContainers"]
    assert (added["imagePullPolicy"], added["terminationMessagePath"]) == ("IfNotPresent", "/dev/termination-log")
    assert found["metadata"]["generation"] == 2
    await add(lab, {"name": "second", "image": "busybox"})
    found = lab.get("pods", "web")
    assert found
    assert sorted(each["name"] for each in found["spec"]["ephemeralContainers"]) == ["debugger", "second"]


async def test_nothing_else_is_written_by_their_subresource(lab: Lab) -> None:
    await lab.create("pods", web())
    found = lab.get("pods", "web")
    assert found
    found["metadata"]["labels"] = {"a": "b"}
    found["spec"].update(ephemeralContainers=[DEBUGGER], nodeName="minion-9")
    found["status"] = {"phase": "Failed"}
    await lab.update("pods", found, SUB)
    after = lab.get("pods", "web")
    assert after
    assert after["metadata"]["labels"] != {"a": "b"} and "nodeName" not in after["spec"] and after["status"]["phase"] == "Pending"
    assert len(after["spec"]["ephemeralContainers"]) == 1


async def test_they_can_not_be_changed_or_removed(lab: Lab) -> None:
    await lab.create("pods", web())
    await add(lab, DEBUGGER)
    assert 'existing ephemeral containers "debugger" may not be changed' in await why(lab, image="other:1")
    found = lab.get("pods", "web")
    assert found
    del found["spec"]["ephemeralContainers"]
    with pytest.raises(ApiError, match='existing ephemeral containers "debugger" may not be removed'):
        await lab.update("pods", found, SUB)


async def test_they_can_not_come_any_other_way(lab: Lab) -> None:
    with pytest.raises(ApiError, match="spec.ephemeralContainers: Forbidden: cannot be set on create"):
        await lab.create("pods", web(ephemeralContainers=[DEBUGGER]))
    template = {"metadata": {"labels": {"app": "web"}}, "spec": web(ephemeralContainers=[DEBUGGER])["spec"]}
    with pytest.raises(ApiError, match="ephemeral containers not allowed in pod template"):
        await lab.create("replicationcontrollers", controller(template=template))
    await lab.create("pods", web())
    with pytest.raises(ApiError, match="pod updates may not change fields other than"):
        await lab.patch("pods", "web", {"spec": {"ephemeralContainers": [DEBUGGER]}})


async def test_what_a_pod_rests_on_is_forbidden_to_them(lab: Lab) -> None:
    await lab.create("pods", web(volumes=[{"name": "v"}]))
    probe = {"tcpSocket": {"port": 80}}
    for field, value in {
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "1"}},
        "livenessProbe": probe,
        "readinessProbe": probe,
        "startupProbe": probe,
        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
    }.items():
        assert f"spec.ephemeralContainers[0].{field}: Forbidden: cannot be set for an Ephemeral Container" in await why(
            lab, **{field: value}
        )
    mounts = [{"name": "v", "mountPath": "/v", "subPath": "x"}]
    assert "spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden" in await why(lab, volumeMounts=mounts)


async def test_names_are_shared_with_all_containers_and_targets_must_be_there(lab: Lab) -> None:
    await lab.create("pods", web())
    assert 'spec.ephemeralContainers[0].name: Duplicate value: "c"' in await why(lab, name="c")
    assert 'spec.ephemeralContainers[0].targetContainerName: Not found: "x"' in await why(lab, targetContainerName="x")


async def test_a_static_pod_has_none(lab: Lab) -> None:
    mirror = web()
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    mirror["spec"]["nodeName"] = "n"
    await lab.create("pods", mirror)
    assert "static pods do not support ephemeral containers" in await why(lab)
