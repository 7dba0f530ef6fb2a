"""Rules of Jobs, CronJobs, autoscalers, workloads' selectors, nodes, secrets, endpoints and metadata, in a real server's words."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from tests.resources.conftest import Lab, pod

JOBS, CRON, SCALERS = "jobs.batch", "cronjobs.batch", "horizontalpodautoscalers.autoscaling"
DEPLOYMENTS, SETS = "deployments.apps", "statefulsets.apps"
COST = "controller.kubernetes.io/pod-deletion-cost"


def template(**more: Any) -> dict[str, Any]:
    return {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "nginx"}], **more}}


def job(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"template": template(), **spec}}


def indexed(**spec: Any) -> dict[str, Any]:
    return job(completionMode="Indexed", **{"completions": 5, **spec})


def failing(**rule: Any) -> dict[str, Any]:
    return job(podFailurePolicy={"rules": [{"action": "FailJob", **rule}]})


def codes(*values: int, **more: Any) -> dict[str, Any]:
    return failing(onExitCodes={"operator": "In", "values": list(values), **more})


def succeeding(**rule: Any) -> dict[str, Any]:
    return indexed(successPolicy={"rules": [rule]})


def cron(schedule: str = "* * * * *", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"schedule": schedule, "jobTemplate": {"spec": {"template": template()}}, **spec}}


def scaler(*metrics: dict[str, Any], **spec: Any) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return {"metadata": {"name": "web"}, "spec": {"scaleTargetRef": target, "maxReplicas": 2, "metrics": list(metrics), **spec}}


def deployment(selector: dict[str, Any] | None) -> dict[str, Any]:
    made = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "nginx"}]}}
    return {"metadata": {"name": "web"}, "spec": {"template": made, **({} if selector is None else {"selector": selector})}}


def stateful(**spec: Any) -> dict[str, Any]:
    """A StatefulSet, or a DaemonSet."""
    made = deployment({"matchLabels": {"app": "web"}})
    return {**made, "spec": {**made["spec"], **spec}}


def secret(kind: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "type": f"kubernetes.io/{kind}", "stringData": data}


def node(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": spec}


def endpoints(**more: Any) -> dict[str, Any]:
    subset = {"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}], **more}
    return {"metadata": {"name": "web"}, "subsets": [subset]}


def owned(*owners: dict[str, Any]) -> dict[str, Any]:
    common = {"apiVersion": "v1", "uid": "1"}
    return {"metadata": {"name": "web", "ownerReferences": [{**common, **owner} for owner in owners]}}


RULES = "spec.podFailurePolicy.rules[0]"
METRIC = "spec.metrics[0]"

REFUSED = [
    (JOBS, indexed(completions=None, parallelism=1), "spec.completions: Required value: when completion mode is Indexed"),
    (
        JOBS,
        indexed(parallelism=100_001),
        "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
    ),
    (JOBS, indexed(maxFailedIndexes=1), "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"),
    (
        JOBS,
        indexed(maxFailedIndexes=6, backoffLimitPerIndex=1),
        "spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions",
    ),
    (
        JOBS,
        {**indexed(completions=1_000_000_000), "metadata": {"name": "w" * 58}},
        f'metadata.name: Invalid value: "{"w" * 58}": will not able to create pod with invalid DNS label: {"w" * 58}-999999999',
    ),
    (JOBS, job(managedBy="me"), 'spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")'),
    (JOBS, codes(2, 1), "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,1]: must be ordered"),
    (JOBS, codes(1, 1), f"{RULES}.onExitCodes.values[1]: Duplicate value: 1"),
    (JOBS, codes(0), f"{RULES}.onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator"),
    (
        JOBS,
        codes(1, containerName="other"),
        f'{RULES}.onExitCodes.containerName: Invalid value: "other": must be one of the container or initContainer names in the pod template',
    ),
    (JOBS, failing(), f"{RULES}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"),
    (
        JOBS,
        failing(onPodConditions=[{"type": "Ready", "status": "Yes"}]),
        f'{RULES}.onPodConditions[0].status: Unsupported value: "Yes": supported values: "False", "True", "Unknown"',
    ),
    (
        JOBS,
        {**codes(1), "spec": {**codes(1)["spec"], "podReplacementPolicy": "TerminatingOrFailed"}},
        'spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"',
    ),
    (JOBS, indexed(successPolicy={"rules": []}), "spec.successPolicy.rules: Required value: at least one rules must be specified"),
    (JOBS, succeeding(), "rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified"),
    (JOBS, succeeding(succeededIndexes="1,1"), "error parsing succeededIndexes: non-increasing order, previous: 1, current: 1"),
    (JOBS, succeeding(succeededIndexes="9"), 'error parsing succeededIndexes: too large index: "9"'),
    (
        JOBS,
        succeeding(succeededIndexes="0-1", succeededCount=3),
        "succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
    ),
    (
        JOBS,
        job(selector={"matchLabels": {"batch.kubernetes.io/controller-uid": "other"}}),
        "spec.selector: Invalid value: {",
    ),
    (
        JOBS,
        job(template={"metadata": {"labels": {"job-name": "other"}}, **template()}),
        "spec.template.metadata.labels[job-name]: Invalid value: {",
    ),
    (
        CRON,
        cron(timeZone=""),
        'spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string',
    ),
    (CRON, cron(timeZone="Local"), "timeZone must be an explicit time zone as defined in"),
    (CRON, cron("0 0 * * 7"), "end of range (7) above maximum (6): 7"),
    (CRON, cron("0 0 L * *"), "failed to parse int from L"),
    (CRON, cron("*/0 * * * *"), "step of range should be a positive number: */0"),
    (
        CRON,
        cron(jobTemplate={"spec": {"template": template(), "selector": {}}}),
        "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
    ),
    (
        SCALERS,
        scaler(scaleTargetRef={"kind": "Deployment", "name": "web"}),
        'spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group',
    ),
    (
        SCALERS,
        scaler({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue"}}}),
        f"{METRIC}.pods.target.averageValue: Required value: must specify a positive target averageValue",
    ),
    (
        SCALERS,
        scaler({"type": "External", "external": {"metric": {}, "target": {"type": "Value", "value": "0"}}}),
        f'{METRIC}.external.target.value: Invalid value: "0": must be positive',
    ),
    (
        SCALERS,
        scaler(behavior={"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1}]}}),
        "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
    ),
    (DEPLOYMENTS, deployment({}), "spec.selector: Invalid value: {}: empty selector is invalid for deployment"),
    (
        DEPLOYMENTS,
        deployment(None),
        '[spec.selector: Required value, spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`]',
    ),
    ("secrets", secret("basic-auth"), "[data[username]: Required value, data[password]: Required value]"),
    ("secrets", secret("ssh-auth", **{"ssh-privatekey": ""}), "data[ssh-privatekey]: Required value"),
    (
        "secrets",
        secret("dockerconfigjson", **{".dockerconfigjson": "pass"}),
        "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'p' looking for beginning of value",
    ),
    ("nodes", node(taints=[{"key": "a"}]), "metadata.taints[0].effect: Required value"),
    (
        "nodes",
        node(podCIDRs=["10.1.0.0/24", "10.2.0.0/24"]),
        'spec.podCIDRs: Invalid value: ["10.1.0.0/24","10.2.0.0/24"]: may specify no more than one CIDR for each IP family',
    ),
    ("endpoints", endpoints(ports=[{"port": 80, "name": "a b"}]), 'subsets[0].ports[0].name: Invalid value: "a b"'),
    ("endpoints", endpoints(addresses=[{"ip": "10.1.2.3", "hostname": "A"}]), 'subsets[0].addresses[0].hostname: Invalid value: "A"'),
    (
        "endpointslices.discovery.k8s.io",
        {
            "metadata": {"name": "web"},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.1.2.3"], "hints": {"forZones": [{"name": "a"}] * 2}}],
        },
        'endpoints[0].hints.forZones[1].name: Duplicate value: "a"',
    ),
    (
        "configmaps",
        owned({"kind": "A", "name": "a", "controller": True}, {"kind": "B", "name": "b", "controller": True}),
        'Only one reference can have Controller set to true. Found "true" in references for A/a and B/b',
    ),
    ("configmaps", owned({"kind": "Event", "name": "a"}), "/v1, Kind=Event is disallowed from being an owner"),
    (
        "configmaps",
        {"metadata": {"name": "web", "finalizers": ["mine"]}},
        'metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified',
    ),
    (SETS, {**stateful(), "metadata": {"name": "a.b"}}, 'metadata.name: Invalid value: "a.b": must not contain dots'),
    (SETS, stateful(serviceName="a.b"), 'spec.serviceName: Invalid value: "a.b": must not contain dots'),
    (
        SETS,
        stateful(volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]),
        "spec.volumeClaimTemplates[0].spec.resources",
    ),
    (
        "daemonsets.apps",
        stateful(updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "101%"}}),
        'spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "101%": must not be greater than 100%',
    ),
    (
        "daemonsets.apps",
        stateful(updateStrategy={"type": "Recreate"}),
        'spec.updateStrategy: Unsupported value: {"type":"Recreate"}: supported values: "OnDelete", "RollingUpdate"',
    ),
    (
        "pods",
        {**pod(), "metadata": {"name": "web", "annotations": {COST: "+5"}}},
        f'metadata.annotations[{COST}]: Invalid value: "+5": must be a 32bit integer',
    ),
    (
        "podtemplates",
        {"metadata": {"name": "web"}, "template": {"metadata": {"annotations": {COST: "x"}}, **template()}},
        f'template.annotations[{COST}]: Invalid value: "x": must be a 32bit integer',
    ),
    ("podtemplates", {"metadata": {"name": "web"}}, "template.spec.containers: Required value"),
]


@pytest.mark.parametrize(("resource", "body", "words"), REFUSED, ids=[f"{kind}-{words[:60]}" for kind, _, words in REFUSED])
async def test_refused(lab: Lab, resource: str, body: dict[str, Any], words: str) -> None:
    error = await lab.refused(resource, body)
    assert (error.code, error.reason) == (422, "Invalid")
    assert words in error.message


TAKEN = [
    (CRON, cron("0 0 31 2 *")),
    (CRON, cron("1,,2 ? * jan MON-FRI")),
    (CRON, cron("5/15 */90 * * *")),
    (JOBS, succeeding(succeededIndexes="0,2-4", succeededCount=4)),
    (JOBS, job(manualSelector=True, selector={}, template={"metadata": {"labels": {"app": "web"}}, **template()})),
    (SCALERS, scaler(scaleTargetRef={"apiVersion": "v1", "kind": "ReplicationController", "name": "web"})),
    ("secrets", secret("basic-auth", password="")),
    ("secrets", secret("dockercfg", **{".dockercfg": "{}"})),
    ("configmaps", {"metadata": {"name": "web", "finalizers": ["example.com/mine", "foregroundDeletion"]}}),
    (DEPLOYMENTS, {**deployment({"matchLabels": {"app": "web"}}), "metadata": {"name": "a.b"}}),
    ("pods", {**pod(), "metadata": {"name": "web", "annotations": {COST: "-2147483648"}}}),
]


@pytest.mark.parametrize(("resource", "body"), TAKEN, ids=[f"{kind}-{number}" for number, (kind, _) in enumerate(TAKEN)])
async def test_taken(lab: Lab, resource: str, body: dict[str, Any]) -> None:
    await lab.create(resource, body)


async def patched(lab: Lab, spec: dict[str, Any]) -> None:
    await lab.patch(JOBS, "web", {"spec": spec})


async def test_a_suspended_job_may_be_sent_elsewhere_and_ask_for_other_resources(lab: Lab) -> None:
    await lab.create(JOBS, job(suspend=True))
    container = {"name": "main", "image": "nginx", "resources": {"requests": {"cpu": "1"}}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    await patched(lab, {"template": {"spec": {"nodeSelector": {"disk": "ssd"}, "affinity": affinity, "containers": [container]}}})
    for other in ({"hostNetwork": True}, {"containers": [{**container, "image": "other"}]}, {"affinity": {"podAffinity": {}}}):
        with pytest.raises(ApiError, match="spec.template: Invalid value: .*: field is immutable"):
            await patched(lab, {"template": {"spec": other}})
    await lab.patch(JOBS, "web", {"status": {"active": 1}}, "status")
    with pytest.raises(ApiError, match="spec.template: Invalid value: .*: field is immutable"):
        await patched(lab, {"template": {"spec": {"nodeSelector": {"disk": "hdd"}}}})


async def test_an_indexed_job_grows_in_completions_and_parallelism_together(lab: Lab) -> None:
    await lab.create(JOBS, indexed(parallelism=5))
    with pytest.raises(ApiError, match="spec.completions: Invalid value: 6: can only be modified in tandem with spec.parallelism"):
        await patched(lab, {"completions": 6})
    await patched(lab, {"completions": 6, "parallelism": 6})


async def test_a_nodes_provider_is_written_once(lab: Lab) -> None:
    await lab.create("nodes", node())
    await lab.patch("nodes", "web", {"spec": {"providerID": "a://1"}})
    with pytest.raises(ApiError, match='spec.providerID: Forbidden: node updates may not change providerID except from "" to valid'):
        await lab.patch("nodes", "web", {"spec": {"providerID": "a://2"}})


async def test_a_finalizer_needs_a_domain_on_update_too(lab: Lab) -> None:
    await lab.create("pods", pod())
    with pytest.raises(ApiError, match="name is neither a standard finalizer name nor is it fully qualified"):
        await lab.patch("pods", "web", {"metadata": {"finalizers": ["mine"]}})
