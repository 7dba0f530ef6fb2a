"""What a pod may say about where it runs, refused word for word as a real server does; what of it may change; and label keys in their selectors."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from tests.resources.conftest import Lab, pod

REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
NODES, NEAR = f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms", f"spec.affinity.podAffinity.{REQUIRED}[0]"
SPREAD = "spec.topologySpreadConstraints[0]"
WEB = {"matchLabels": {"app": "web"}}
LABEL_NAME = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def nodes(*expressions: Any, **more: Any) -> dict[str, Any]:
    term = {"matchExpressions": list(expressions), **more} if expressions else more
    return pod(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}})


def near(**term: Any) -> dict[str, Any]:
    return pod(affinity={"podAffinity": {REQUIRED: [{"topologyKey": "zone", "labelSelector": WEB, **term}]}})


def spread(**said: Any) -> dict[str, Any]:
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": WEB, **said}
    return pod(topologySpreadConstraints=[{name: value for name, value in constraint.items() if value is not None}])


CASES = [
    (
        pod(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}}),
        f"{NODES}: Required value: must have at least one node selector term",
    ),
    (
        nodes({"key": "a", "operator": "In"}),
        f"{NODES}[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
    ),
    (
        nodes({"key": "a", "operator": "Exists", "values": ["b"]}),
        f"{NODES}[0].matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
    ),
    (
        nodes({"key": "a", "operator": "Gt", "values": ["1", "2"]}),
        f"{NODES}[0].matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'",
    ),
    (
        nodes({"key": "a", "operator": "Near"}),
        f'{NODES}[0].matchExpressions[0].operator: Invalid value: "Near": not a valid selector operator',
    ),
    (
        nodes(matchFields=[{"key": "spec.x", "operator": "In", "values": ["b"]}]),
        f'{NODES}[0].matchFields[0].key: Invalid value: "spec.x": not a valid field selector key',
    ),
    (
        nodes(matchFields=[{"key": "metadata.name", "operator": "In", "values": ["a", "b"]}]),
        f"{NODES}[0].matchFields[0].values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
    ),
    (
        pod(affinity={"nodeAffinity": {PREFERRED: [{"weight": 101, "preference": {}}]}}),
        f"spec.affinity.nodeAffinity.{PREFERRED}[0].weight: Invalid value: 101: must be in the range 1-100",
    ),
    (near(topologyKey=""), f"{NEAR}.topologyKey: Required value: can not be empty"),
    (near(topologyKey="-"), f'{NEAR}.topologyKey: Invalid value: "-": {LABEL_NAME}'),
    (
        near(labelSelector={"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}),
        f'{NEAR}.labelSelector.matchExpressions[0].operator: Invalid value: "Gt": not a valid selector operator',
    ),
    (
        near(matchLabelKeys=["a"], mismatchLabelKeys=["a"]),
        f'{NEAR}.matchLabelKeys[0]: Invalid value: "a": exists in both matchLabelKeys and mismatchLabelKeys',
    ),
    (
        near(labelSelector=None, matchLabelKeys=["a"]),
        f"{NEAR}.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
    ),
    (
        pod(affinity={"podAntiAffinity": {PREFERRED: [{"weight": 0, "podAffinityTerm": {"topologyKey": "zone"}}]}}),
        f"spec.affinity.podAntiAffinity.{PREFERRED}[0].weight: Invalid value: 0: must be in the range 1-100",
    ),
    (spread(maxSkew=0), f"{SPREAD}.maxSkew: Invalid value: 0: must be greater than zero"),
    (spread(topologyKey=""), f"{SPREAD}.topologyKey: Required value: can not be empty"),
    (
        spread(whenUnsatisfiable="Maybe"),
        f'{SPREAD}.whenUnsatisfiable: Unsupported value: "Maybe": supported values: "DoNotSchedule", "ScheduleAnyway"',
    ),
    (spread(minDomains=0), f"{SPREAD}.minDomains: Invalid value: 0: must be greater than zero"),
    (
        spread(minDomains=2, whenUnsatisfiable="ScheduleAnyway"),
        f"{SPREAD}.minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
    ),
    (spread(nodeTaintsPolicy="Obey"), f'{SPREAD}.nodeTaintsPolicy: Unsupported value: "Obey": supported values: "Honor", "Ignore"'),
    (
        pod(topologySpreadConstraints=[spread()["spec"]["topologySpreadConstraints"][0]] * 2),
        f'{SPREAD}.{{topologyKey, whenUnsatisfiable}}: Duplicate value: "{{zone, DoNotSchedule}}"',
    ),
    (pod(schedulingGates=[{"name": "a"}, {"name": "a"}]), 'spec.schedulingGates[1]: Duplicate value: "a"'),
    (
        pod(schedulingGates=[{"name": "a"}], nodeName="n1"),
        "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
    ),
]


async def refusal(lab: Lab, obj: dict[str, Any]) -> str:
    with pytest.raises(ApiError) as caught:
        await lab.create("pods", obj)
    return caught.value.message.partition("is invalid: ")[2]


@pytest.mark.parametrize("obj, words", CASES, ids=[words[:60] for _, words in CASES])
async def test_bad_placement(lab: Lab, obj: dict[str, Any], words: str) -> None:
    assert await refusal(lab, obj) == words


async def test_label_keys_become_a_part_of_the_selectors(lab: Lab) -> None:
    obj = near(matchLabelKeys=["hash", "absent"], mismatchLabelKeys=["tenant"])
    obj["metadata"]["labels"] = {"hash": "1", "tenant": "t"}
    obj["spec"]["topologySpreadConstraints"] = spread(matchLabelKeys=["hash"])["spec"]["topologySpreadConstraints"]
    written = await lab.create("pods", obj)
    stored = lab.get("pods", "web")
    assert stored is not None and not written.warnings, "all of it is acted on"
    [term] = stored["spec"]["affinity"]["podAffinity"][REQUIRED]
    same, other = ({"key": key, "operator": how, "values": [value]} for key, how, value in (("hash", "In", "1"), ("tenant", "NotIn", "t")))
    assert term["labelSelector"] == {**WEB, "matchExpressions": [same, other]}
    assert stored["spec"]["topologySpreadConstraints"][0]["labelSelector"] == {**WEB, "matchExpressions": [same]}


async def test_a_key_in_both_is_refused(lab: Lab) -> None:
    obj = near(matchLabelKeys=["app"])
    obj["metadata"]["labels"] = {"app": "web"}
    assert await refusal(lab, obj) == f'{NEAR}[0]: Invalid value: "app": exists in both matchLabelKeys and labelSelector'


async def test_a_gated_pod_can_be_narrowed_and_let_go(lab: Lab) -> None:
    obj = nodes({"key": "a", "operator": "In", "values": ["b"]})
    obj["spec"] |= {"schedulingGates": [{"name": "one"}, {"name": "two"}], "nodeSelector": {"disk": "ssd"}}
    await lab.create("pods", obj)
    stored = lab.get("pods", "web")
    assert stored and stored["status"]["conditions"][0]["reason"] == "SchedulingGated"

    async def refused(spec: dict[str, Any]) -> str:
        with pytest.raises(ApiError) as caught:
            await lab.patch("pods", "web", {"spec": spec})
        return caught.value.message.partition("is invalid: ")[2]

    assert await refused({"schedulingGates": [{"name": "three"}]}) == (
        "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'three'"
    )
    assert await refused({"nodeSelector": None}) == (
        "spec.nodeSelector: Invalid value: {}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
    )
    assert (await refused({"affinity": None})).endswith("no additions/deletions to non-empty NodeSelectorTerms list are allowed")
    other = nodes({"key": "a", "operator": "In", "values": ["c"]})["spec"]["affinity"]
    assert (await refused({"affinity": other})).endswith("only additions are allowed (no mutations or deletions)")
    narrower = nodes({"key": "a", "operator": "In", "values": ["b"]}, {"key": "c", "operator": "Exists"})["spec"]["affinity"]
    await lab.patch("pods", "web", {"spec": {"nodeSelector": {"zone": "a"}, "affinity": narrower}})
    with pytest.raises(ApiError, match="pod web has non-empty .spec.schedulingGates"):
        await lab.client.bind("default/web", "n1")
    await lab.patch("pods", "web", {"spec": {"schedulingGates": [{"name": "two"}]}})
    await lab.patch("pods", "web", {"spec": {"schedulingGates": None}})
    assert "spec: Forbidden: pod updates may not change fields" in await refused({"nodeSelector": {"zone": "b"}})
    await lab.client.bind("default/web", "n1")
