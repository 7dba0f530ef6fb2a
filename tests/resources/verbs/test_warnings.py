"""Warnings: for people, about what they set and nothing comes of."""

from __future__ import annotations

from labctl.resources.service import SYSTEM
from tests.resources.conftest import Lab, controller, pod, service

LEVEL = {"seLinuxOptions": {"level": "s0"}}
NOT_ACTED_ON = "labctl stores this field but does not act on it"


async def test_a_field_labctl_does_not_act_on(lab: Lab) -> None:
    written = await lab.create("pods", pod(securityContext=LEVEL))
    assert written.warnings == [f"spec.securityContext.seLinuxOptions: {NOT_ACTED_ON}"]
    assert lab.get("pods", "web")["spec"]["securityContext"] == LEVEL, "it is stored as it was sent"  # type: ignore[index]


async def test_inside_lists_and_templates(lab: Lab) -> None:
    rc = controller()
    rc["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {"procMount": "Default", "runAsUser": 5}
    written = await lab.create("replicationcontrollers", rc)
    assert written.warnings == [f"spec.template.spec.containers[0].securityContext.procMount: {NOT_ACTED_ON}"]


async def test_what_is_beside_the_acted_on_fields_of_a_volume(lab: Lab) -> None:
    volumes = [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "w", "csi": {"driver": "a.example"}}]
    items = [{"key": "k", "path": "p", "mode": 0o400}]
    volumes += [
        {"name": "x", "configMap": {"name": "m", "optional": True, "defaultMode": 0o400, "items": items}},
        {"name": "y", "projected": {"sources": [{"secret": {"name": "s", "items": items}}, {"serviceAccountToken": {"path": "t"}}]}},
    ]
    assert (await lab.create("pods", pod(volumes=volumes))).warnings == [
        f"spec.volumes[1].csi: {NOT_ACTED_ON}",
    ]


async def test_empty_and_default_values_cause_no_warning(lab: Lab) -> None:
    container = {"name": "a", "image": "b", "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 10}}
    written = await lab.create("pods", pod(hostUsers=False, priorityClassName="", preemptionPolicy=None, containers=[container]))
    assert written.warnings == []
    assert (await lab.create("services", service(internalTrafficPolicy="Cluster"))).warnings == []


async def test_a_field_that_was_set_before_causes_no_second_warning(lab: Lab) -> None:
    await lab.create("pods", pod(securityContext=LEVEL))
    written = await lab.patch("pods", "web", {"metadata": {"labels": {"x": "y"}}})
    assert written.warnings == []


async def test_programs_are_not_warned(lab: Lab) -> None:
    assert (await lab.create("pods", pod(securityContext=LEVEL), SYSTEM)).warnings == []


async def test_at_most_ten(lab: Lab) -> None:
    containers = [{"name": f"c{i}", "image": "b", "securityContext": {"procMount": "Unmasked"}} for i in range(12)]
    assert len((await lab.create("pods", pod(containers=containers, hostUsers=False))).warnings) == 10


async def test_kubernetes_own_warnings(lab: Lab) -> None:
    container = {
        "name": "a",
        "image": "b",
        "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
        "ports": [{"containerPort": 80}, {"containerPort": 80, "name": "x"}],
    }
    written = await lab.create("pods", pod(containers=[container]))
    assert written.warnings == [
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
        "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
    ]


async def test_an_unknown_field_warns_unless_it_is_refused(lab: Lab) -> None:
    written = await lab.create("pods", pod(foo=1), field_validation="Warn")
    assert written.warnings == ['unknown field "spec.foo"']
    assert "foo" not in lab.get("pods", "web")["spec"]  # type: ignore[index]


async def test_of_many_notes_a_few_are_told(lab: Lab) -> None:
    made = pod()
    made["spec"]["containers"][0]["ports"] = [{"containerPort": 80}] * 2000
    told = (await lab.create("pods", made)).warnings
    assert len(told) == 10 and told[0] == "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"
