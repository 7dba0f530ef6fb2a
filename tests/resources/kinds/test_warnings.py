"""Kubernetes' own warnings: what it takes, and says is a mistake or out of use. Each row is one of its rules."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.resources.kinds.core_v1 import pod_warnings
from tests.resources.conftest import Lab, controller, pod

SELECTOR: dict[str, Any] = {"matchLabels": {"a": "b"}}
ZONE = 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead'
OLD_ZONE = "failure-domain.beta.kubernetes.io/zone"


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "c", "image": "i", **fields}


def port(number: int, **fields: Any) -> dict[str, Any]:
    return {"containerPort": number, "protocol": "TCP", **fields}


def term(key: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "x", "operator": "Exists"}, {"key": key, "operator": "Exists"}]}


def projected(*sources: dict[str, Any]) -> dict[str, Any]:
    return {"volumes": [{"name": "v", "projected": {"sources": list(sources)}}]}


def items(*paths: str) -> list[dict[str, str]]:
    return [{"key": f"k{number}", "path": path} for number, path in enumerate(paths)]


SPECS: list[tuple[dict[str, Any], list[str]]] = [
    ({"nodeSelector": {"beta.kubernetes.io/os": "linux", "kubernetes.io/os": "linux"}},
     ['spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead']),
    ({"nodeSelector": {"node-role.kubernetes.io/master": ""}},
     ['spec.nodeSelector[node-role.kubernetes.io/master]: use "node-role.kubernetes.io/control-plane" instead']),
    ({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term(OLD_ZONE)]}}}},
     [f"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].key: {OLD_ZONE} is {ZONE}"]),
    ({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term(OLD_ZONE)}]}}},
     [f"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].key: {OLD_ZONE} is {ZONE}"]),
    ({"topologySpreadConstraints": [{"topologyKey": OLD_ZONE, "labelSelector": SELECTOR}, {"topologyKey": "zone"}]},
     [f"spec.topologySpreadConstraints[0].topologyKey: {OLD_ZONE} is {ZONE}",
      "spec.topologySpreadConstraints[1].labelSelector: a null labelSelector results in matching no pod"]),
    ({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "z"}]},
                   "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"topologyKey": "z"}}]}}},
     ["spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
      "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector:"
      " a null labelSelector results in matching no pod"]),
    ({"volumes": [{"name": "a", "gitRepo": {"repository": "r"}}, {"name": "b", "cephfs": {"monitors": []}}, {"name": "c", "storageos": {}}]},
     ["spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
      "spec.volumes[1].cephfs: deprecated in v1.28, non-functional in v1.31+",
      "spec.volumes[2].storageOS: deprecated in v1.22, non-functional in v1.25+"]),
    ({"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1500m"}}}}}}]},
     ['spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer']),
    ({"volumes": [{"name": "v", "configMap": {"name": "m", "items": items("a", "b/c", "b", "a/")}}]},
     ['volume "v" (ConfigMap "m"): overlapping paths: "b" with "b/c"', 'volume "v" (ConfigMap "m"): overlapping paths: "a" with "a"']),
    ({"volumes": [{"name": "v", "secret": {"secretName": "s", "items": items("ab", "a")}}]}, []),
    (projected({"configMap": {"name": "m", "items": items("token")}}, {}, {"serviceAccountToken": {"path": "token"}}),
     ['volume "v" (Projected) has no sources provided', 'volume "v" (Projected ServiceAccountToken): overlapping paths: "token" with "token"']),
    (projected({"podCertificate": {"certificateChainPath": "tls", "keyPath": "tls/key", "credentialBundlePath": "b"}}, {"podCertificate": {"keyPath": "b"}}),
     ['volume "v" (Projected PodCertificate key): overlapping paths: "tls/key" with "tls"', 'volume "v" (Projected PodCertificate key): overlapping paths: "b" with "b"']),
    ({"hostAliases": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.4"}], "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}]},
     ['spec.hostAliases[1].ip: duplicate ip "1.2.3.4"', 'spec.imagePullSecrets[1].name: duplicate name "a"',
      'spec.imagePullSecrets[2].name: invalid empty name ""']),
    ({"overhead": {"memory": "100m"}}, ['spec.overhead[memory]: fractional byte value "100m" is invalid, must be an integer']),
    ({"containers": [container(resources={"limits": {"memory": "128m"}, "requests": {"ephemeral-storage": "0.5"}})]},
     ['spec.containers[0].resources.limits[memory]: fractional byte value "128m" is invalid, must be an integer',
      'spec.containers[0].resources.requests[ephemeral-storage]: fractional byte value "500m" is invalid, must be an integer']),
    ({"containers": [container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "$(A):2"}, {"name": "A", "value": "$(A)"}])]},
     ['spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply']),
    ({"containers": [container(ports=[port(80, hostPort=80, hostIP="10.0.0.1"), port(80)]), container(ports=[port(80)])]},
     ["spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
      "spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[0]",
      "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[1]"]),
    ({"containers": [container(ports=[port(80, hostPort=80, hostIP="10.0.0.1"), port(80, hostPort=80), port(80, hostPort=81)])]},
     ["spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]"]),
    ({"containers": [container(ports=[port(80, hostIP="10.0.0.1")])]},
     ["spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:10.0.0.1}"]),
    ({"containers": [container(ports=[port(80, name="web")]), container(ports=[port(81, name="web")])]},
     ['spec.containers[1].ports[0]: duplicate port name "web" with spec.containers[0].ports[0],'
      " services and probes that select ports by name will use spec.containers[0].ports[0]"]),
    ({"initContainers": [container(ports=[port(80, name="web")])], "containers": [container(ports=[port(80, name="web")])]}, []),
    ({"terminationGracePeriodSeconds": -1},
     ["spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"]),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "told"), SPECS)
def test_of_a_spec(spec: dict[str, Any], told: list[str]) -> None:
    assert list(pod_warnings.of_template("", {"spec": spec})) == told


ANNOTATIONS: list[tuple[str, dict[str, Any], str]] = [
    ("scheduler.alpha.kubernetes.io/critical-pod", {}, 'non-functional in v1.16+; use the "priorityClassName" field instead'),
    ("security.alpha.kubernetes.io/sysctls", {}, 'non-functional in v1.11+; use the "sysctls" field instead'),
    ("seccomp.security.alpha.kubernetes.io/pod", {}, 'non-functional in v1.27+; use the "seccompProfile" field instead'),
    ("seccomp.security.alpha.kubernetes.io/pod", {"seccompProfile": {"type": "RuntimeDefault"}}, ""),
    ("container.seccomp.security.alpha.kubernetes.io/c", {}, 'non-functional in v1.27+; use the "seccompProfile" field instead'),
    ("container.apparmor.security.beta.kubernetes.io/c", {}, 'deprecated since v1.30; use the "appArmorProfile" field instead'),
    ("container.apparmor.security.beta.kubernetes.io/c", {"appArmorProfile": {"type": "RuntimeDefault"}}, ""),
    ("container.apparmor.security.beta.kubernetes.io/another", {}, ""),
]


@pytest.mark.parametrize(("key", "security", "why"), ANNOTATIONS)
def test_of_an_annotation(key: str, security: dict[str, Any], why: str) -> None:
    template = {"metadata": {"annotations": {key: "x"}}, "spec": {"securityContext": security, "containers": [container()]}}
    told = [f"spec.template.metadata.annotations[{key}]: {why}"] if why else []
    assert list(pod_warnings.of_template("spec.template", template)) == told


async def test_a_pod_like_one_before_but_for_its_name_and_annotations(lab: Lab) -> None:
    """Specs without a fault are remembered; names and annotations are looked at each time."""
    assert (await lab.create("pods", pod("one"))).warnings == []
    assert (await lab.create("pods", pod("two"))).warnings == []
    at = "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended"
    assert (await lab.create("pods", pod("a.b"))).warnings == [f"{at}: [must not contain dots]"]
    annotated = pod("three")
    annotated["metadata"]["annotations"] = {"scheduler.alpha.kubernetes.io/critical-pod": ""}
    assert len((await lab.create("pods", annotated)).warnings) == 1


async def test_a_template_is_told_of_when_its_owners_spec_changes(lab: Lab) -> None:
    rc = controller()
    rc["metadata"]["name"] = "r.c"
    rc["spec"]["template"]["spec"]["nodeSelector"] = {"beta.kubernetes.io/os": "linux"}
    label = 'spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead'
    name, outdated = (await lab.create("replicationcontrollers", rc)).warnings
    assert name.startswith("metadata.name: this is used in Pod names and hostnames") and outdated == label
    assert (await lab.patch("replicationcontrollers", "r.c", {"spec": {"replicas": 3}})).warnings == [label]
    assert (await lab.patch("replicationcontrollers", "r.c", {"metadata": {"labels": {"x": "y"}}})).warnings == []


def labelled(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x"}, **fields}


def claim(storage: str, **annotations: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}
    return {"metadata": {"name": "x", "annotations": annotations}, "spec": spec}


def web(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}], **spec}}


def volume(**spec: Any) -> dict[str, Any]:
    given = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}, **spec}
    return {"metadata": {"name": "x"}, "spec": given}


def job(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container()]}}, **spec}}


OLD_CLASS = 'deprecated since v1.8; use "storageClassName" attribute instead'
OBJECTS: list[tuple[str, dict[str, Any], str]] = [
    ("persistentvolumeclaims", claim("1500m"), 'spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer'),
    ("persistentvolumeclaims", claim("1", **{"volume.beta.kubernetes.io/storage-class": "a"}),
     f"metadata.annotations[volume.beta.kubernetes.io/storage-class]: {OLD_CLASS}"),
    ("persistentvolumes", volume(persistentVolumeReclaimPolicy="Recycle"),
     "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated."
     " Instead, the recommended approach is to use dynamic provisioning."),
    ("persistentvolumes", volume(nodeAffinity={"required": {"nodeSelectorTerms": [term(OLD_ZONE)]}}),
     f"spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[1].key: {OLD_ZONE} is {ZONE}"),
    ("services", web(externalIPs=["192.0.2.1"]), "spec.externalIPs is deprecated and may no longer be implemented in some clusters"),
    ("services", web(clusterIP="None", externalIPs=["192.0.2.1"]), "spec.externalIPs is ignored for headless services"),
    ("services", web(clusterIP="None", sessionAffinity="ClientIP"), "spec.SessionAffinity is ignored for headless services"),
    ("services", web(externalName="a.example"), 'spec.externalName is ignored when spec.type is not "ExternalName"'),
    ("services", web(trafficDistribution="PreferClose"), 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'),
    ("jobs.batch", job(completionMode="Indexed", completions=100_001, parallelism=10_001),
     "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4,"
     " Kubernetes might not be able to track completedIndexes when a big number of indexes fail"),
    ("serviceaccounts", {"metadata": {"name": "x", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}},
     "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+;"
     " prefer separate namespaces to isolate access to mounted secrets"),
    ("ingresses.networking.k8s.io", {"metadata": {"name": "x", "annotations": {"kubernetes.io/ingress.class": "nginx"}},
                   "spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}},
     "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"),
    ("statefulsets.apps", {"metadata": {"name": "x"}, "spec": {
        "revisionHistoryLimit": -1, "selector": SELECTOR, "serviceName": "x",
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container()]}}}},
     "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"),
    ("storageclasses.storage.k8s.io", {"metadata": {"name": "x"}, "provisioner": "a.example/b",
                        "allowedTopologies": [{"matchLabelExpressions": [{"key": OLD_ZONE, "values": ["a"]}]}]},
     f"allowedTopologies[0].matchLabelExpressions[0]: {ZONE}"),
    ("runtimeclasses.node.k8s.io", {"metadata": {"name": "x"}, "handler": "runc", "scheduling": {"nodeSelector": {OLD_ZONE: "a"}}},
     f"scheduling.nodeSelector: {ZONE}"),
    ("podtemplates", {"metadata": {"name": "x"}, "template": {
        "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container()], "nodeSelector": {OLD_ZONE: "a"}}}},
     f"template.spec.nodeSelector[{OLD_ZONE}]: {ZONE}"),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "obj", "told"), OBJECTS)
async def test_of_other_kinds(lab: Lab, resource: str, obj: dict[str, Any], told: str) -> None:
    assert told in (await lab.create(resource, obj)).warnings


@pytest.mark.timeout(60)
@pytest.mark.parametrize("same", [True, False])
def test_what_they_cost_grows_with_the_body_alone(same: bool) -> None:
    """Each of 30,000 ports and paths compared with each other would take minutes, and the warnings all memory."""
    many = range(30_000)
    ports = [port(80, **({} if same else {"hostPort": 1 + number})) for number in many]
    items = [{"key": "k", "path": "p" if same else f"p{number}"} for number in many]
    sources = [{"serviceAccountToken": {"path": "t" if same else f"t{number}"}} for number in many]
    volumes = [{"name": "a", "configMap": {"name": "m", "items": items}}, {"name": "b", "projected": {"sources": sources}}]
    told = pod_warnings.of_template("", {"spec": {"volumes": volumes, "containers": [container(ports=ports)]}})
    count = sum(1 for _ in told)
    assert 60_000 < count < 2_000_000 if same else count == 0
