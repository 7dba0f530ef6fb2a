"""Bad input, tried on purpose: each gets one clear sentence, word for word as a real server says it, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from tests.resources.conftest import Lab, config, controller, pod, service

CONFIG_KEY = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
    "(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character "
    "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def containers(**container: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "a", "image": "b", **container}])


def template(**changes: Any) -> dict[str, Any]:
    made = controller()
    made["spec"]["template"].update(changes)
    return made


def sysctls(*names: str) -> dict[str, Any]:
    return pod(securityContext={"sysctls": [{"name": name, "value": "1"} for name in names]})


POD_CASES = [
    (pod(containers=[]), "spec.containers: Required value"),
    (containers(name="A"), f'spec.containers[0].name: Invalid value: "A": {LABEL}'),
    (containers(image=""), "spec.containers[0].image: Required value"),
    (containers(image=" b"), 'spec.containers[0].image: Invalid value: " b": must not have leading or trailing whitespace'),
    (
        containers(imagePullPolicy="Sometimes"),
        'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"',
    ),
    *(
        (
            sysctls(name),
            f'spec.securityContext.sysctls[0].name: Invalid value: "{name}": must have at most 253 characters and match regex '
            r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        )
        for name in ("foo-", "bar..")
    ),
    (sysctls("kernel.shmmax", "kernel/shmmax"), 'spec.securityContext.sysctls[1].name: Duplicate value: "kernel/shmmax"'),
    (pod(containers=[{"name": "a", "image": "b"}] * 2), 'spec.containers[1].name: Duplicate value: "a"'),
    (
        containers(securityContext={"allowPrivilegeEscalation": False, "privileged": True}),
        'spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true}: '
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    (
        containers(securityContext={"allowPrivilegeEscalation": False, "capabilities": {"add": ["CAP_SYS_ADMIN"]}}),
        'spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"capabilities":{"add":["CAP_SYS_ADMIN"]}}: '
        "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
    ),
    (
        containers(securityContext={"runAsUser": -1}),
        "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
    ),
    (
        pod(securityContext={"supplementalGroups": [1, 2**31]}),
        "spec.securityContext.supplementalGroups[1]: Invalid value: 2147483648: must be between 0 and 2147483647, inclusive",
    ),
    (containers(ports=[{"hostPort": 80}]), "spec.containers[0].ports[0].containerPort: Required value"),
    (
        containers(ports=[{"containerPort": 70000}]),
        "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    ),
    (
        containers(ports=[{"containerPort": 80, "protocol": "HTTP"}]),
        'spec.containers[0].ports[0].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"',
    ),
    (
        containers(ports=[{"containerPort": 80, "name": "web"}, {"containerPort": 81, "name": "web"}]),
        'spec.containers[0].ports[1].name: Duplicate value: "web"',
    ),
    (
        containers(ports=[{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]),
        'spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80"',
    ),
    (containers(env=[{"value": "1"}]), "spec.containers[0].env[0].name: Required value"),
    (
        containers(env=[{"name": "A=B"}]),
        'spec.containers[0].env[0].name: Invalid value: "A=B": '
        "a valid environment variable name must consist only of printable ASCII characters other than '='",
    ),
    (
        containers(env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        'spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty',
    ),
    (
        containers(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm"}}}]),
        "spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Required value",
    ),
    (containers(volumeMounts=[{"name": "x", "mountPath": "/x"}]), 'spec.containers[0].volumeMounts[0].name: Not found: "x"'),
    (
        containers(resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}),
        'spec.containers[0].resources.requests: Invalid value: "2Gi": must be less than or equal to memory limit of 1Gi',
    ),
    (
        containers(resources={"requests": {"cpu": "-1"}}),
        'spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0',
    ),
    (containers(livenessProbe={"periodSeconds": 5}), "spec.containers[0].livenessProbe: Required value: must specify a handler type"),
    (
        containers(livenessProbe={"exec": {"command": ["a"]}, "tcpSocket": {"port": 80}}),
        "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
    ),
    (
        containers(livenessProbe={"exec": {"command": ["a"]}, "successThreshold": 2}),
        "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
    ),
    (
        containers(restartPolicyRules=[{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]),
        "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
    ),
    (
        containers(restartPolicy="Never", restartPolicyRules=[{"action": "Stop", "exitCodes": {"operator": "In"}}]),
        'spec.containers[0].restartPolicyRules[0].action: Unsupported value: "Stop": supported values: "Restart", "RestartAllContainers"',
    ),
    (
        containers(restartPolicy="Never", restartPolicyRules=[{"action": "Restart", "exitCodes": {"operator": "Is"}}]),
        'spec.containers[0].restartPolicyRules[0].exitCodes.operator: Unsupported value: "Is": supported values: "In", "NotIn"',
    ),
    (
        containers(restartPolicy="Never", restartPolicyRules=[{"action": "Restart"}]),
        "spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
    ),
    (
        pod(hostnameOverride="a" * 65),
        f'spec.hostnameOverride: Invalid value: "{"a" * 65}": must be no more than 64 characters',
    ),
    (
        pod(hostnameOverride="web", setHostnameAsFQDN=True),
        "spec.hostnameOverride: Forbidden: may not be set when setHostnameAsFQDN is true",
    ),
    (pod(restartPolicy="Maybe"), 'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"'),
    (pod(volumes=[{"name": "a"}, {"name": "a"}]), 'spec.volumes[1].name: Duplicate value: "a"'),
    (pod(volumes=[{"name": "a", "secret": {}}]), "spec.volumes[0].secret.secretName: Required value"),
    (
        pod(volumes=[{"name": "a", "hostPath": {"path": "/a/../b"}}]),
        "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
    ),
    (pod(hostname="a.b"), 'spec.hostname: Invalid value: "a.b": must not contain dots'),
    (
        pod(tolerations=[{"operator": "Equal", "value": "x"}]),
        'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, '
        'which means "match all values and all keys"',
    ),
    (
        {**pod(), "metadata": {"name": "web", "labels": {"app": "a b"}}},
        f'metadata.labels: Invalid value: "a b": {LABEL_VALUE}',
    ),
]

CONTROLLER_CASES = [
    (controller(replicas=-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
    (
        controller(selector={"name": "other"}),
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`',
    ),
    (template(metadata={}), "spec.selector: Required value"),
    (
        template(spec={"containers": [{"name": "a", "image": "b"}], "restartPolicy": "Never"}),
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
    ),
    (template(spec={"containers": [{"name": "a"}]}), "spec.template.spec.containers[0].image: Required value"),
]

SERVICE_CASES = [
    (service(ports=[]), "spec.ports: Required value"),
    (service("web.two"), 'metadata.name: Invalid value: "web.two": must not contain dots'),
    (
        service(type="Magic"),
        'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
    ),
    (
        service(clusterIP="web"),
        'spec.clusterIPs[0]: Invalid value: "web": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
    ),
    (service(ports=[{"name": "a", "port": 80}, {"port": 81}]), "spec.ports[1].name: Required value"),
    (service(ports=[{"name": "a", "port": 80}, {"name": "a", "port": 81}]), 'spec.ports[1].name: Duplicate value: "a"'),
    (service(ports=[{"port": 0, "targetPort": 80}]), "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
    (
        service(ports=[{"port": 80, "targetPort": "no_name"}]),
        'spec.ports[0].targetPort: Invalid value: "no_name": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)',
    ),
    (service(ports=[{"port": 80, "nodePort": 30080}]), "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
    (
        service(sessionAffinity="Cookie"),
        'spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"',
    ),
    (
        service(externalIPs=["127.0.0.1"]),
        'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
    ),
]

OTHER_CASES = [
    ("configmaps", config(**{"a b": "1"}), f'data[a b]: Invalid value: "a b": {CONFIG_KEY}'),
    ("configmaps", config(a="x" * (1 << 20) + "x"), "[]: Too long: may not be more than 1048576 bytes"),
    (
        "secrets",
        {"metadata": {"name": "web"}, "type": "kubernetes.io/tls"},
        "[data[tls.crt]: Required value, data[tls.key]: Required value]",
    ),
    (
        "nodes",
        {"metadata": {"name": "web"}, "spec": {"taints": [{"key": "a", "effect": "Sometimes"}]}},
        'metadata.taints[0].effect: Unsupported value: "Sometimes": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"',
    ),
    (
        "leases.coordination.k8s.io",
        {"metadata": {"name": "web"}, "spec": {"leaseDurationSeconds": 0}},
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
    ),
    ("endpointslices.discovery.k8s.io", {"metadata": {"name": "web"}, "addressType": "", "endpoints": []}, "addressType: Required value"),
    (
        "endpoints",
        {"metadata": {"name": "web"}, "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 80}]}]},
        'subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
    ),
    (
        "machines.labctl.internal",
        {"metadata": {"name": "web"}, "spec": {"number": 1, "power": "Maybe"}},
        'spec.power: Unsupported value: "Maybe": supported values: "Off", "On"',
    ),
    (
        "machines.labctl.internal",
        {"metadata": {"name": "web"}, "spec": {"number": 201}},
        "spec.number: Invalid value: 201: must be between 1 and 200, inclusive",
    ),
    (
        "events",
        {"metadata": {"name": "web"}, "involvedObject": {"namespace": "other"}},
        'involvedObject.namespace: Invalid value: "other": does not match event.namespace',
    ),
]

CASES = [
    *(("pods", body, words) for body, words in POD_CASES),
    *(("replicationcontrollers", body, words) for body, words in CONTROLLER_CASES),
    *(("services", body, words) for body, words in SERVICE_CASES),
    *OTHER_CASES,
]


@pytest.mark.parametrize(("resource", "body", "words"), CASES, ids=[f"{resource}-{words[:50]}" for resource, _, words in CASES])
async def test_refused(lab: Lab, resource: str, body: dict[str, Any], words: str) -> None:
    revision = lab.store.revision
    error = await lab.refused(resource, body)
    kind = lab.kind(resource)
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    assert (error.code, error.reason) == (422, "Invalid")
    assert error.message == f'{qualified} "{body["metadata"]["name"]}" is invalid: {words}'
    assert lab.store.revision == revision


UPDATES = [
    (
        "pods",
        pod(),
        {"spec": {"nodeName": "minion-1"}},
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`",
    ),
    (
        "pods",
        pod(),
        {"spec": {"containers": [{"name": "x", "image": "y"}, {"name": "z", "image": "y"}]}},
        "spec.containers: Forbidden: pod updates may not add",
    ),
    ("secrets", {"metadata": {"name": "web"}}, {"type": "other"}, 'type: Invalid value: "other": field is immutable'),
    (
        "configmaps",
        {**config(a="1"), "immutable": True},
        {"data": {"a": "2"}},
        "data: Forbidden: field is immutable when `immutable` is set",
    ),
    (
        "endpointslices.discovery.k8s.io",
        {"metadata": {"name": "web"}, "addressType": "IPv4", "endpoints": []},
        {"addressType": "IPv6"},
        'addressType: Invalid value: "IPv6": field is immutable',
    ),
    (
        "nodes",
        {"metadata": {"name": "web"}, "spec": {"podCIDR": "10.246.1.0/24"}},
        {"spec": {"podCIDR": "10.246.2.0/24"}},
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid',
    ),
    (
        "machines.labctl.internal",
        {"metadata": {"name": "web"}, "spec": {"number": 1}},
        {"spec": {"number": 2}},
        "spec.number: Invalid value: 2: field is immutable",
    ),
]


@pytest.mark.parametrize(("resource", "body", "patch", "words"), UPDATES, ids=[words[:50] for *_, words in UPDATES])
async def test_what_can_not_change(lab: Lab, resource: str, body: dict[str, Any], patch: dict[str, Any], words: str) -> None:
    await lab.create(resource, body)
    with pytest.raises(ApiError) as caught:
        await lab.patch(resource, "web", patch)
    assert caught.value.code == 422
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("resource", "body", "patch"),
    [
        ("pods", pod(), {"spec": {"containers": [{"name": "main", "image": "other"}]}}),
        ("pods", pod(), {"spec": {"activeDeadlineSeconds": 5}}),
        ("pods", pod(), {"spec": {"tolerations": [{"operator": "Exists"}]}}),
        (
            "pods",
            pod(tolerations=[{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]),
            {"spec": {"tolerations": [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}]}},
        ),
        ("nodes", {"metadata": {"name": "web"}}, {"spec": {"podCIDR": "10.246.1.0/24"}}),
        ("configmaps", config(a="1"), {"immutable": True}),
    ],
)
async def test_what_can(lab: Lab, resource: str, body: dict[str, Any], patch: dict[str, Any]) -> None:
    await lab.create(resource, body)
    await lab.patch(resource, "web", patch, type_="application/strategic-merge-patch+json")


async def test_a_secrets_plain_text_is_stored_as_data(lab: Lab) -> None:
    await lab.create("secrets", {"metadata": {"name": "web"}, "stringData": {"password": "hunter2"}})
    assert lab.get("secrets", "web") and lab.get("secrets", "web")["data"] == {"password": "aHVudGVyMg=="}  # type: ignore[index]
    assert "stringData" not in lab.get("secrets", "web")  # type: ignore[operator]
