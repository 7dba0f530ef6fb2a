"""The status of each kind has rules too, in a real server's words: others act upon what a controller, an agent or a person writes there."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from labctl.errors import ApiError
from labctl.store.interface import Compare, Put
from tests.resources.conftest import Lab, controller, pod, service

LONG_AGO = "2026-01-01T00:00:00Z"
LATER = "2026-01-02T00:00:00Z"
NO_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def selecting(**spec: Any) -> dict[str, Any]:
    return controller(selector={"matchLabels": {"app": "web"}}, **spec)


def job(**spec: Any) -> dict[str, Any]:
    made = controller(**spec)
    made["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    return made


def ends(*states: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, "state": state, "image": "", "imageID": "", "ready": False, "restartCount": 0} for name, state in states]


ENDED, FAILED, RUNS = {"terminated": {"exitCode": 0}}, {"terminated": {"exitCode": 1}}, {"running": {}}


def conditions(*types: str) -> list[dict[str, Any]]:
    return [{"type": type_, "status": "True", "lastTransitionTime": LONG_AGO} for type_ in types]


def claim() -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}


def ingress() -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}


def quota() -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"hard": {"pods": "3"}}}


def budget() -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}}


def autoscaler() -> dict[str, Any]:
    return {
        "metadata": {"name": "web"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    }


REFUSED = [
    ("pods", pod(), {"podIPs": [{"ip": "10.1.1"}]}, f'status.podIPs[0]: Invalid value: "10.1.1": {NO_ADDRESS}'),
    ("pods", pod(), {"podIP": "here"}, f'status.podIPs[0]: Invalid value: "here": {NO_ADDRESS}'),
    (
        "pods",
        pod(),
        {"podIP": "::ffff:127.0.0.1"},
        'status.podIPs[0]: Invalid value: "::ffff:127.0.0.1": must not be an IPv4-mapped IPv6 address',
    ),
    (
        "pods",
        pod(),
        {"podIPs": [{"ip": "10.1.1.1"}, {"ip": "10.1.1.2"}]},
        'status.podIPs: Invalid value: [{"IP":"10.1.1.1"},{"IP":"10.1.1.2"}]: may specify no more than one IP for each IP family',
    ),
    (
        "pods",
        pod(),
        {"hostIP": "10.1.1.1", "hostIPs": [{"ip": "10.1.1.2"}]},
        'status.hostIPs[0].ip: Invalid value: "10.1.1.2": must be equal to `hostIP`',
    ),
    (
        "pods",
        pod(),
        {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": -1}]},
        "status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer",
    ),
    ("pods", pod(), {"observedGeneration": -1}, "status.observedGeneration: Invalid value: -1: must be a non-negative integer"),
    ("pods", pod(), {"qosClass": "Guaranteed"}, 'status.qosClass: Invalid value: "Guaranteed": field is immutable'),
    (
        "pods",
        pod(nodeName="minion-1"),
        {"nominatedNodeName": "minion-2"},
        "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node",
    ),
    (
        "pods",
        pod(),
        {"resourceClaimStatuses": [{"name": "gpu"}]},
        'status.resourceClaimStatuses[0].name: Invalid value: "gpu": must match the name of an entry in `spec.resourceClaims`',
    ),
    (
        "pods",
        pod(),
        {"containerStatuses": [{**ends(("main", RUNS))[0], "user": {"linux": {"uid": -1, "gid": 0}}}]},
        "status.containerStatuses[0].user.linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive",
    ),
    (
        "nodes",
        {"metadata": {"name": "web"}},
        {"capacity": {"cpu": "-1"}},
        '[status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0, '
        'status.allocatable.cpu: Invalid value: "-1": must be greater than or equal to 0]',
    ),
    (
        "nodes",
        {"metadata": {"name": "web"}},
        {"addresses": [{"type": "InternalIP", "address": "10.1.1.1"}] * 2},
        'status.addresses[1]: Duplicate value: {"Type":"InternalIP","Address":"10.1.1.1"}',
    ),
    (
        "namespaces",
        {"metadata": {"name": "web"}},
        {"phase": "Terminating"},
        "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
    ),
    (
        "services",
        service(),
        {"loadBalancer": {"ingress": [{"ip": "10.1.1.1"}]}},
        "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'",
    ),
    (
        "services",
        service(type="LoadBalancer"),
        {"loadBalancer": {"ingress": [{"ip": "10.1.1.1", "ipMode": "Some"}]}},
        'status.loadBalancer.ingress[0].ipMode: Unsupported value: "Some": supported values: "Proxy", "VIP"',
    ),
    (
        "services",
        service(type="LoadBalancer"),
        {"loadBalancer": {"ingress": [{"hostname": "10.1.1.1"}]}},
        'status.loadBalancer.ingress[0].hostname: Invalid value: "10.1.1.1": must be a DNS name, not an IP address',
    ),
    (
        "ingresses.networking.k8s.io",
        ingress(),
        {"loadBalancer": {"ingress": [{"ip": "1.2.3"}]}},
        f'status.loadBalancer.ingress[0].ip: Invalid value: "1.2.3": {NO_ADDRESS}',
    ),
    (
        "persistentvolumeclaims",
        claim(),
        {"capacity": {"storage": "-1Gi"}},
        "status.capacity[storage]: Invalid value: -1073741824: must be a valid resource quantity",
    ),
    (
        "persistentvolumeclaims",
        claim(),
        {"allocatedResourceStatuses": {"storage": "Soon"}},
        'status.allocatedResourceStatuses: Unsupported value: "storage": supported values: "ControllerResizeInProgress", '
        '"ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending"',
    ),
    (
        "resourcequotas",
        quota(),
        {"used": {"pods": "1.5"}},
        'status.used[pods]: Invalid value: "1500m": must be an integer',
    ),
    (
        "replicasets.apps",
        selecting(),
        {"replicas": -1},
        "[status.replicas: Invalid value: -1: must be greater than or equal to 0, "
        "status.fullyLabeledReplicas: Invalid value: 0: cannot be greater than status.replicas, "
        "status.readyReplicas: Invalid value: 0: cannot be greater than status.replicas, "
        "status.availableReplicas: Invalid value: 0: cannot be greater than status.replicas]",
    ),
    (
        "replicasets.apps",
        selecting(),
        {"replicas": 1, "readyReplicas": 2},
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
    ),
    (
        "replicationcontrollers",
        controller(selector={"app": "web"}),
        {"replicas": 3, "availableReplicas": 2, "readyReplicas": 1},
        "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
    ),
    (
        "deployments.apps",
        selecting(),
        {"replicas": 1, "updatedReplicas": 2},
        "status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas",
    ),
    (
        "statefulsets.apps",
        selecting(serviceName="web"),
        {"replicas": 3, "availableReplicas": 2, "readyReplicas": 1},
        "status.availableReplicas: Invalid value: 2: cannot be greater than status.readyReplicas",
    ),
    ("daemonsets.apps", selecting(), {"numberReady": -1}, "status.numberReady: Invalid value: -1: must be greater than or equal to 0"),
    (
        "horizontalpodautoscalers.autoscaling",
        autoscaler(),
        {"desiredReplicas": -1, "currentReplicas": 0},
        "status.desiredReplicas: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        "poddisruptionbudgets.policy",
        budget(),
        {"conditions": [{**conditions("Some")[0], "reason": "2 words", "message": ""}]},
        'status.conditions[0].reason: Invalid value: "2 words": a condition reason must start with alphabetic character, optionally followed '
        "by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  "
        "or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
    ),
]


async def refusal(lab: Lab, resource: str, status: dict[str, Any], name: str = "web") -> str:
    with pytest.raises(ApiError) as refused:
        await lab.patch(resource, name, {"status": status}, "status")
    assert refused.value.code == 422
    return str(refused.value.message).partition(" is invalid: ")[2]


@pytest.mark.parametrize(("resource", "obj", "status", "words"), REFUSED)
async def test_a_status_that_a_real_server_refuses(
    lab: Lab, resource: str, obj: dict[str, Any], status: dict[str, Any], words: str
) -> None:
    await lab.create(resource, obj)
    before = lab.get(resource, "web")
    assert await refusal(lab, resource, status) == words
    assert lab.get(resource, "web") == before


async def test_a_custom_condition_of_a_pod_has_a_qualified_name(lab: Lab) -> None:
    await lab.create("pods", pod())
    said = await refusal(lab, "pods", {"conditions": [{"type": "is it", "status": "True"}]})
    assert said.startswith('status.conditions[0].Type: Invalid value: "is it": name part must consist of')
    await lab.patch("pods", "web", {"status": {"conditions": [{"type": "example.com/Warm", "status": "True"}]}}, "status")


@pytest.mark.parametrize(
    ("policy", "own", "before", "allowed"),
    [
        ("Always", {}, ENDED, True),
        ("Never", {}, FAILED, False),
        ("OnFailure", {}, FAILED, True),
        ("OnFailure", {}, ENDED, False),
        ("Never", {"restartPolicy": "Always"}, ENDED, True),
        ("Always", {"restartPolicy": "Never"}, FAILED, False),
        ("Never", {"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]}, FAILED, True),
        ("Never", {"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [2]}}]}, FAILED, False),
        (
            "Never",
            {"restartPolicy": "Never", "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [7]}}]},
            ENDED,
            True,
        ),
    ],
)  # fmt: skip
async def test_what_has_ended_runs_again_as_its_restart_policy_says(
    lab: Lab, policy: str, own: dict[str, Any], before: dict[str, Any], allowed: bool
) -> None:
    made = pod(restartPolicy=policy)
    made["spec"]["containers"][0].update(own)
    await lab.create("pods", made)
    await lab.patch("pods", "web", {"status": {"containerStatuses": ends(("main", before))}}, "status")
    again = {"containerStatuses": ends(("main", RUNS))}
    if allowed:
        await lab.patch("pods", "web", {"status": again}, "status")
    else:
        assert (
            await refusal(lab, "pods", again)
            == "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
        )


@pytest.mark.parametrize("policy, allowed", [("OnFailure", True), ("Never", False)])
async def test_what_a_boot_repeats_may_be_reported(lab: Lab, policy: str, allowed: bool) -> None:
    """The agent runs init containers again after a boot of its machine; were its report refused, the pod would never be Ready again."""
    inits = [{"name": "first", "image": "i"}]
    await lab.create("pods", pod(restartPolicy=policy, initContainers=inits))
    await lab.patch("pods", "web", {"status": {"initContainerStatuses": ends(("first", ENDED))}}, "status")
    again = {"initContainerStatuses": ends(("first", RUNS))}
    if allowed:
        await lab.patch("pods", "web", {"status": again}, "status")
    else:
        assert "may not be transitioned" in await refusal(lab, "pods", again)


async def test_an_ephemeral_container_never_runs_again(lab: Lab) -> None:
    await lab.create("pods", pod())
    await lab.patch("pods", "web", {"status": {"ephemeralContainerStatuses": ends(("look", ENDED))}}, "status")
    said = await refusal(lab, "pods", {"ephemeralContainerStatuses": ends(("look", RUNS))})
    assert said == "status.ephemeralContainerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"


async def test_numbers_that_names_are_made_of_only_grow(lab: Lab) -> None:
    await lab.create("deployments.apps", selecting())
    await lab.patch("deployments.apps", "web", {"status": {"collisionCount": 2}}, "status")
    for number in (1, None):
        said = await refusal(lab, "deployments.apps", {"collisionCount": number})
        assert said == f"status.collisionCount: Invalid value: {number or 0}: cannot be decremented"


async def test_the_mode_of_a_balancers_address_has_a_default(lab: Lab) -> None:
    await lab.create("services", service(type="LoadBalancer"))
    await lab.patch("services", "web", {"status": {"loadBalancer": {"ingress": [{"ip": "10.1.1.1"}]}}}, "status")
    assert lab.get("services", "web")["status"]["loadBalancer"] == {"ingress": [{"ip": "10.1.1.1", "ipMode": "VIP"}]}  # type: ignore[index]


DONE = {"startTime": LONG_AGO, "completionTime": LATER, "conditions": conditions("SuccessCriteriaMet", "Complete")}
NOT_DONE = {"startTime": LONG_AGO, "conditions": conditions("FailureTarget", "Failed")}

JOBS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, {"active": -1}, "status.active: Invalid value: -1: must be greater than or equal to 0"),
    ({}, {}, {"active": 1, "ready": 2}, "status.ready: Invalid value: 2: cannot set more ready pods than active"),
    ({}, {"failed": 2}, {"failed": 1}, "status.failed: Invalid value: 1: cannot decrease the failed counter"),
    ({}, {"succeeded": 2}, {"succeeded": 1}, "status.succeeded: Invalid value: 1: cannot decrease the succeeded counter"),
    ({}, {}, {**DONE, "active": 1}, "status.active: Invalid value: 1: active>0 is invalid for finished job"),
    ({}, {}, {**DONE, "terminating": 1}, "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job"),
    ({}, {}, {**NOT_DONE, "startTime": None}, "status.startTime: Required value: startTime is required for finished job"),
    ({}, {}, {**DONE, "completionTime": None}, "status.completionTime: Required value: completionTime is required for Complete jobs"),
    (
        {},
        {},
        {**DONE, "completionTime": "2025-01-01T00:00:00Z"},
        "status.completionTime: Invalid value: 2025-01-01 00:00:00 +0000 UTC: completionTime cannot be set before startTime",
    ),
    (
        {},
        {},
        {"completionTime": LATER},
        "status.completionTime: Invalid value: 2026-01-02 00:00:00 +0000 UTC: cannot set completionTime when there is no Complete=True condition",
    ),
    (
        {},
        {},
        {**NOT_DONE, "conditions": conditions("Failed")},
        "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
    ),
    (
        {},
        {},
        {**DONE, "conditions": conditions("Complete")},
        "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    ),
    (
        {},
        {},
        {"conditions": conditions("SuccessCriteriaMet", "FailureTarget")},
        "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    ),
    (
        {},
        NOT_DONE,
        {"conditions": conditions("FailureTarget")},
        "status.conditions: Invalid value: cannot disable the terminal Failed=True condition",
    ),
    (
        {},
        {"startTime": LONG_AGO},
        {"startTime": LATER},
        "status.startTime: Required value: startTime cannot be removed for unsuspended job",
    ),
    (
        {},
        {},
        {"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["a"]}},
        'status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"',
    ),
    (
        {},
        {},
        {"completedIndexes": "0"},
        'status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed completion mode',
    ),
    (
        {"completionMode": "Indexed", "completions": 9},
        {},
        {"completedIndexes": "1-3,2"},
        'status.completedIndexes: Invalid value: "1-3,2": error parsing completedIndexes: non-increasing order, previous: 3, current: 2',
    ),
    (
        {"completionMode": "Indexed", "completions": 3},
        {},
        {"completedIndexes": "2-3"},
        'status.completedIndexes: Invalid value: "2-3": error parsing completedIndexes: too large index: "3"',
    ),
    (
        {"completionMode": "Indexed", "completions": 9, "backoffLimitPerIndex": 1},
        {},
        {"completedIndexes": "0-2,5", "failedIndexes": "3,4-6"},
        'status.failedIndexes: Invalid value: "3,4-6": failedIndexes and completedIndexes overlap at index: 5',
    ),
    (
        {"completionMode": "Indexed", "completions": 9},
        {},
        {"failedIndexes": "1"},
        'status.failedIndexes: Invalid value: "1": cannot set non-null failedIndexes when backoffLimitPerIndex is null',
    ),
]


@pytest.mark.parametrize(("spec", "before", "status", "words"), JOBS)
async def test_a_status_of_a_job_that_a_real_server_refuses(
    lab: Lab, spec: dict[str, Any], before: dict[str, Any], status: dict[str, Any], words: str
) -> None:
    await lab.create("jobs.batch", job(**spec))
    await lab.patch("jobs.batch", "web", {"status": before}, "status")
    assert await refusal(lab, "jobs.batch", status) == words


@pytest.mark.parametrize("end", [DONE, NOT_DONE])
async def test_a_job_ends_with_all_that_belongs_to_it(lab: Lab, end: dict[str, Any]) -> None:
    await lab.create("jobs.batch", job())
    await lab.patch("jobs.batch", "web", {"status": end}, "status")


def signing_request() -> str:
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(generate_private_key(SECP256R1()), SHA256())
    return b64encode(made.public_bytes(Encoding.PEM)).decode()


@pytest.mark.parametrize("subresource", ["approval", "status"])
async def test_a_decision_about_a_certificate_is_for_ever(lab: Lab, subresource: str) -> None:
    spec = {"request": signing_request(), "signerName": "example.com/any", "usages": ["client auth"]}
    await lab.create("certificatesigningrequests.certificates.k8s.io", {"metadata": {"name": "web"}, "spec": spec})
    approved = {"type": "Approved", "status": "True"}
    for said, words in (
        ([{"status": "True"}], "status.conditions[0].type: Required value"),
        ([{"type": "Approved", "status": "False"}], 'status.conditions[0].status: Unsupported value: "False": supported values: "True"'),
        (
            [approved, {"type": "Denied", "status": "True"}],
            'status.conditions[1].type: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive',
        ),
    ):
        with pytest.raises(ApiError, match="is invalid") as refused:
            await lab.patch("certificatesigningrequests.certificates.k8s.io", "web", {"status": {"conditions": said}}, subresource)
        added = [
            f'status.conditions: Forbidden: updates may not add a condition of type "{each["type"]}"' for each in said if "type" in each
        ]
        every = [words, *(added if subresource == "status" else ())]  # who signs decides nothing
        told = str(refused.value.message).partition(" is invalid: ")[2]
        assert told == (f"[{', '.join(every)}]" if every[1:] else words)
    await lab.patch("certificatesigningrequests.certificates.k8s.io", "web", {"status": {"conditions": [approved]}}, "approval")
    with pytest.raises(ApiError, match='updates may not remove a condition of type "Approved"'):
        await lab.patch("certificatesigningrequests.certificates.k8s.io", "web", {"status": {"conditions": []}}, subresource)


async def test_what_an_older_version_stored_hinders_no_other_change(lab: Lab) -> None:
    """A status from before there were rules may stay as it is beside another change."""
    await lab.create("daemonsets.apps", selecting())
    kind = lab.kind("daemonsets.apps")
    entry = lab.store.get(kind.key("default", "web"))
    assert entry is not None
    old = entry.value.replace(b'"numberReady":0', b'"numberReady":-1')
    assert old != entry.value
    await lab.store.commit([Put(entry.key, old)], [Compare(entry.key, entry.revision)])
    await lab.patch("daemonsets.apps", "web", {"status": {"observedGeneration": 1}}, "status")
