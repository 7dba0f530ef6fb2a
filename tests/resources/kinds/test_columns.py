"""The cells that kubectl prints: a pod's one word, a Service's ports, an Event's ages."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from labctl.clock import parse_rfc3339
from labctl.resources.registry import builtin_registry

KINDS = {kind.resource: kind for kind in builtin_registry()}
NOW_S = parse_rfc3339("2026-01-02T15:04:05Z")


def row(resource: str, obj: dict[str, Any]) -> dict[str, str | int]:
    kind = KINDS[resource]
    view = msgspec.convert(obj, kind.view)
    return {column.name: column.cell(view, NOW_S) for column in kind.columns}


def waiting(reason: str) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason}}}


def ended(code: int = 0, reason: str = "", signal: int = 0) -> dict[str, Any]:
    return {"state": {"terminated": {"exitCode": code, "reason": reason, "signal": signal}}}


RUNNING = {"state": {"running": {"startedAt": "2026-01-02T15:00:00Z"}}, "ready": True}
INITIALIZED = [{"type": "Initialized", "status": "True"}]

PODS = [
    ({"phase": "Pending"}, "0/1", "Pending"),
    ({"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}, "0/1", "ContainerCreating"),
    ({"phase": "Running", "containerStatuses": [RUNNING]}, "1/1", "Running"),
    ({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff")]}, "0/1", "CrashLoopBackOff"),
    ({"phase": "Failed", "containerStatuses": [ended(137, "OOMKilled")]}, "0/1", "OOMKilled"),
    ({"phase": "Failed", "containerStatuses": [ended(3)]}, "0/1", "ExitCode:3"),
    ({"phase": "Failed", "containerStatuses": [ended(137, signal=9)]}, "0/1", "Signal:9"),
    ({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}, "0/1", "Completed"),
    ({"phase": "Failed", "reason": "Evicted"}, "0/1", "Evicted"),
    ({"phase": "Pending", "initContainerStatuses": [waiting("PodInitializing")]}, "0/1", "Init:0/2"),
    ({"phase": "Pending", "initContainerStatuses": [ended(0), RUNNING]}, "1/1", "Init:1/2"),
    ({"phase": "Pending", "initContainerStatuses": [ended(1, "Error")]}, "0/1", "Init:Error"),
    ({"phase": "Pending", "initContainerStatuses": [ended(2)]}, "0/1", "Init:ExitCode:2"),
    ({"phase": "Pending", "initContainerStatuses": [waiting("ImagePullBackOff")]}, "0/1", "Init:ImagePullBackOff"),
    (
        {"phase": "Running", "conditions": INITIALIZED, "initContainerStatuses": [ended(1)], "containerStatuses": [RUNNING]},
        "1/1",
        "Running",
    ),
]


@pytest.mark.parametrize(("status", "ready", "word"), PODS, ids=[word for *_, word in PODS])
def test_a_pod_in_one_word(status: dict[str, Any], ready: str, word: str) -> None:
    spec = {"containers": [{"name": "a"}], "initContainers": [{"name": "x"}, {"name": "y"}]}
    cells = row("pods", {"metadata": {"name": "web"}, "spec": spec, "status": status})
    assert cells["Status"] == word
    if "initContainerStatuses" not in status:
        assert cells["Ready"] == ready


def test_a_pod_on_its_way_out() -> None:
    pod = {"metadata": {"deletionTimestamp": "2026-01-02T15:04:35Z"}, "spec": {"containers": [{}]}, "status": {"phase": "Running"}}
    assert row("pods", pod)["Status"] == "Terminating"
    pod["status"] = {"phase": "Running", "reason": "NodeLost"}
    assert row("pods", pod)["Status"] == "Unknown"


def test_a_completed_container_beside_a_running_one() -> None:
    spec = {"containers": [{"name": "a"}, {"name": "b"}]}
    status: dict[str, Any] = {"phase": "Running", "containerStatuses": [ended(0, "Completed"), RUNNING]}
    assert row("pods", {"spec": spec, "status": status})["Status"] == "NotReady"
    status["conditions"] = [{"type": "Ready", "status": "True"}]
    assert row("pods", {"spec": spec, "status": status})["Status"] == "Running"


def test_restarts_say_when_the_last_one_was() -> None:
    last = {"terminated": {"exitCode": 1, "finishedAt": "2026-01-02T15:01:05Z"}}
    status = {"phase": "Running", "containerStatuses": [{**RUNNING, "restartCount": 3, "lastState": last}]}
    assert row("pods", {"spec": {"containers": [{}]}, "status": status})["Restarts"] == "3 (3m ago)"


def test_a_sidecar_counts_as_a_container() -> None:
    spec = {"containers": [{"name": "a"}], "initContainers": [{"name": "side", "restartPolicy": "Always"}]}
    status = {"phase": "Running", "containerStatuses": [RUNNING], "initContainerStatuses": [{**RUNNING, "name": "side", "started": True}]}
    assert row("pods", {"spec": spec, "status": status})["Ready"] == "2/2"


@pytest.mark.parametrize(
    ("ready", "cordoned", "word"),
    [("True", False, "Ready"), ("False", False, "NotReady"), ("Unknown", True, "NotReady,SchedulingDisabled"), ("", False, "Unknown")],
)
def test_a_node(ready: str, cordoned: bool, word: str) -> None:
    conditions = [{"type": "Ready", "status": ready}] if ready else []
    labels = {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/edge": ""}
    status = {"conditions": conditions, "nodeInfo": {"architecture": "arm64"}}
    cells = row("nodes", {"metadata": {"labels": labels}, "spec": {"unschedulable": cordoned}, "status": status})
    assert (cells["Status"], cells["Roles"], cells["Arch"]) == (word, "edge,worker", "arm64")


def test_a_definition() -> None:
    versions = [{"name": "v1", "served": True}, {"name": "v1beta1", "served": True}, {"name": "v1alpha1", "served": False}]
    cells = row(
        "customresourcedefinitions.apiextensions.k8s.io", {"spec": {"group": "g.example", "scope": "Cluster", "versions": versions}}
    )
    assert list(cells) == ["Name", "Group", "Scope", "Versions", "Created At"]
    assert (cells["Group"], cells["Scope"], cells["Versions"]) == ("g.example", "Cluster", "v1,v1beta1")


def test_a_controller() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "one"}, {"name": "b", "image": "two"}]}}
    kind = KINDS["replicationcontrollers"]
    raw = msgspec.json.encode({"spec": {"replicas": 3, "selector": {"b": "2", "a": "1"}, "template": template}, "status": {"replicas": 2}})
    view = msgspec.json.decode(raw, type=kind.view)
    cells = {column.name: column.cell(view, NOW_S) for column in kind.columns}
    assert (cells["Desired"], cells["Current"], cells["Ready"]) == (3, 2, 0)
    assert (cells["Containers"], cells["Images"], cells["Selector"]) == ("a,b", "one,two", "a=1,b=2")


@pytest.mark.parametrize(
    ("spec", "external", "ports"),
    [
        (
            {"clusterIP": "10.247.0.7", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "nodePort": 30053}]},
            "<none>",
            "80/TCP,53:30053/UDP",
        ),
        ({"externalIPs": ["1.2.3.4", "1.2.3.5"]}, "1.2.3.4,1.2.3.5", "<none>"),
        ({"type": "LoadBalancer"}, "<pending>", "<none>"),
        ({"type": "ExternalName", "externalName": "example.com"}, "example.com", "<none>"),
    ],
)
def test_a_service(spec: dict[str, Any], external: str, ports: str) -> None:
    cells = row("services", {"spec": spec})
    assert (cells["External-IP"], cells["Port(s)"]) == (external, ports)
    assert cells["Cluster-IP"] == spec.get("clusterIP", "<none>")


def test_endpoints() -> None:
    addresses = [{"ip": f"10.246.1.{i}"} for i in range(5)]
    cells = row("endpoints", {"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]})
    assert cells["Endpoints"] == "10.246.1.0:80,10.246.1.1:80,10.246.1.2:80 + 2 more..."
    assert row("endpoints", {})["Endpoints"] == "<none>"
    cells = row(
        "endpointslices.discovery.k8s.io", {"addressType": "IPv4", "endpoints": [{"addresses": ["10.246.1.1"]}], "ports": [{"port": 80}]}
    )
    assert (cells["Ports"], cells["Endpoints"]) == ("80", "10.246.1.1")
    assert row("endpointslices.discovery.k8s.io", {})["Ports"] == "<unset>"


def test_an_event() -> None:
    event = {
        "metadata": {"name": "web.1"},
        "involvedObject": {"kind": "Pod", "name": "web"},
        "firstTimestamp": "2026-01-02T14:04:05Z",
        "lastTimestamp": "2026-01-02T15:03:05Z",
        "message": " hello\n",
        "source": {"component": "kubelet", "host": "minion-1"},
    }
    cells = row("events", event)
    assert (cells["Last Seen"], cells["First Seen"], cells["Count"]) == ("60s", "60m", 1)
    assert (cells["Object"], cells["Source"], cells["Message"]) == ("pod/web", "kubelet, minion-1", "hello")


def test_every_kind_has_columns_for_an_empty_object() -> None:
    for kind in KINDS.values():
        for column in kind.columns:
            assert isinstance(column.cell(kind.view(), NOW_S), (str, int)), f"{kind.resource} {column.name}"


def test_a_default_ingress_class_is_marked() -> None:
    marked = {"ingressclass.kubernetes.io/is-default-class": "true"}
    assert row("ingressclasses.networking.k8s.io", {"metadata": {"name": "a", "annotations": marked}})["Name"] == "a (default)"
    assert row("ingressclasses.networking.k8s.io", {"metadata": {"name": "b"}})["Name"] == "b"
