"""Defaults: what Kubernetes fills in, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from labctl.resources.kind import Object
from labctl.resources.kinds.core_v1.pod_defaults import pull_policy
from labctl.resources.registry import builtin_registry
from labctl.resources.schema.defaults import apply_defaults
from labctl.resources.schema.definitions import builtin_schema

SCHEMA = builtin_schema()
KINDS = builtin_registry()


def filled(resource: str, obj: Object) -> Object:
    obj = copy.deepcopy(obj)
    apply_defaults(SCHEMA, KINDS[resource], obj)
    again = copy.deepcopy(obj)
    apply_defaults(SCHEMA, KINDS[resource], again)
    assert again == obj, "defaults settle at once"
    return obj


CONTAINER = {"imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
POD_SPEC = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}


def test_a_pod() -> None:
    pod = filled("pods", {"spec": {"containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}]}]}})
    container = {"name": "c", "image": "nginx", "ports": [{"containerPort": 80, "protocol": "TCP"}], **CONTAINER}
    assert pod["spec"] == {"containers": [container], "enableServiceLinks": True, **POD_SPEC}


def test_what_was_said_stays() -> None:
    spec = {
        "dnsPolicy": "None",
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "enableServiceLinks": False,
        "schedulerName": "mine",
    }
    pod = filled("pods", {"spec": {**spec, "containers": []}})
    assert {key: pod["spec"][key] for key in spec} == spec


def test_an_empty_word_is_not_said() -> None:
    assert (
        filled("pods", {"spec": {"restartPolicy": "", "containers": [{"ports": [{"protocol": ""}]}]}})["spec"]["restartPolicy"] == "Always"
    )


def test_a_pods_requests_follow_its_limits() -> None:
    resources = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}
    pod = filled("pods", {"spec": {"containers": [{"resources": resources}], "initContainers": [{"resources": {"limits": {"cpu": "2"}}}]}})
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "100m", "memory": "1Gi"}
    assert pod["spec"]["initContainers"][0]["resources"]["requests"] == {"cpu": "2"}


def test_on_the_hosts_network_a_port_is_the_hosts() -> None:
    pod = filled("pods", {"spec": {"hostNetwork": True, "containers": [{"ports": [{"containerPort": 80}]}]}})
    assert pod["spec"]["containers"][0]["ports"][0]["hostPort"] == 80


def test_probes_and_volumes() -> None:
    pod = filled(
        "pods",
        {
            "spec": {
                "containers": [{"livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1}, "readinessProbe": {"grpc": {"port": 1}}}],
                "volumes": [
                    {"name": "a"},
                    {"name": "b", "configMap": {"name": "x"}},
                    {"name": "c", "secret": {"defaultMode": 0}},
                    {"name": "d", "hostPath": {}},
                ],
            }
        },
    )
    container = pod["spec"]["containers"][0]
    numbers = {"timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}
    assert container["livenessProbe"] == {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "periodSeconds": 1, **numbers}
    assert container["readinessProbe"] == {"grpc": {"port": 1, "service": ""}, "periodSeconds": 10, **numbers}
    assert [set(volume) for volume in pod["spec"]["volumes"]] == [
        {"name", "emptyDir"},
        {"name", "configMap"},
        {"name", "secret"},
        {"name", "hostPath"},
    ]
    assert pod["spec"]["volumes"][1]["configMap"]["defaultMode"] == 0o644
    assert pod["spec"]["volumes"][2]["secret"]["defaultMode"] == 0


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"), ("nginx:latest", "Always"), ("nginx:1.27", "IfNotPresent"), ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"), ("nginx@sha256:abc", "IfNotPresent"), ("nginx:1@sha256:abc", "IfNotPresent"),
    ],
)  # fmt: skip
def test_pull_policy(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def test_a_controller_takes_its_labels_and_selector_from_the_template() -> None:
    template = {"metadata": {"labels": {"name": "nginx"}}, "spec": {"containers": []}}
    controller = filled("replicationcontrollers", {"metadata": {"name": "x"}, "spec": {"template": template}})
    assert controller["metadata"]["labels"] == {"name": "nginx"}
    assert controller["spec"]["selector"] == {"name": "nginx"} and controller["spec"]["replicas"] == 1
    assert controller["spec"]["template"]["spec"] == {"containers": [], **POD_SPEC}, "a template gets no enableServiceLinks"
    assert (
        filled("replicationcontrollers", {"spec": {"replicas": 0, "selector": {"a": "b"}, "template": template}})["spec"]["replicas"] == 0
    )


@pytest.mark.parametrize(
    ("spec", "also"),
    [
        ({}, {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}),
        ({"type": "NodePort"}, {"externalTrafficPolicy": "Cluster"}),
        ({"externalIPs": ["192.0.2.1"]}, {"externalTrafficPolicy": "Cluster"}),
        ({"sessionAffinity": "ClientIP"}, {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}),
        ({"type": "ExternalName"}, {"sessionAffinity": "None"}),
        ({"ports": [{"port": 80}, {"port": 1, "targetPort": "x"}, {"port": 2, "targetPort": 0, "protocol": "UDP"}]},
         {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 1, "protocol": "TCP", "targetPort": "x"}, {"port": 2, "protocol": "UDP", "targetPort": 2}]}),
    ],
)  # fmt: skip
def test_services(spec: Object, also: dict[str, Any]) -> None:
    service = filled("services", {"spec": spec})["spec"]
    assert {key: service.get(key) for key in also} == also
    assert ("externalTrafficPolicy" in service) == ("externalTrafficPolicy" in also)
    assert ("internalTrafficPolicy" in service) == (spec.get("type") != "ExternalName")


def test_the_others() -> None:
    assert filled("services", {})["spec"]["type"] == "ClusterIP"
    assert filled("namespaces", {"metadata": {"name": "x"}}) == {
        "metadata": {"name": "x", "labels": {"kubernetes.io/metadata.name": "x"}},
        "status": {"phase": "Active"},
    }
    assert filled("secrets", {}) == {"type": "Opaque"}
    assert filled("machines.labctl.internal", {"spec": {}})["spec"] == {"power": "On"}
    assert filled("endpoints", {"subsets": [{"ports": [{"port": 1}]}]})["subsets"][0]["ports"] == [{"port": 1, "protocol": "TCP"}]
    assert filled("endpointslices.discovery.k8s.io", {"ports": [{"port": 1}]})["ports"] == [{"port": 1, "name": "", "protocol": "TCP"}]
    assert filled("nodes", {"status": {"capacity": {"cpu": "1"}}})["status"]["allocatable"] == {"cpu": "1"}
    assert filled("configmaps", {"data": {"a": "b"}}) == {"data": {"a": "b"}}


def test_two_objects_share_nothing() -> None:
    one, other = filled("pods", {"spec": {"containers": []}}), filled("pods", {"spec": {"containers": []}})
    assert one["spec"]["securityContext"] is not other["spec"]["securityContext"]


def test_the_table_names_definitions_and_fields_that_exist() -> None:
    for kind in KINDS:
        for name, own in kind.type_defaults.items():
            fields = SCHEMA.named(name).fields
            assert not {*own.zero, *own.absent} - fields.keys(), name
            assert SCHEMA.named(name).shape == "struct"
