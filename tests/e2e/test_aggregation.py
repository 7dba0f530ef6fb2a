"""Servers of somebody's, in pods behind Services, that the API calls: an API server, whose kinds are served as our own, and admission webhooks.

What they serve is gone with their machine; a Deployment's pod brings it back.
"""

import base64
import json
import socket
import ssl
from pathlib import Path

import pytest

from labctl.certificates import ADMIN, Authority
from tests.e2e.cluster import condition, wait

NAME = "v1alpha1.wardle.example.com"


@pytest.fixture(scope="module")
def wardle(cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wardle")
    authority = Authority.create(folder)
    authority.server(["wardle.default.svc"], [])
    cluster.labctl("image", "build", "python", timeout_s=300)
    front = cluster.get("-n", "kube-system", "configmap", "extension-apiserver-authentication")["data"]["requestheader-client-ca-file"]
    (folder / "front.crt").write_text(front)
    cluster.kubectl("create", "secret", "tls", "wardle", f"--cert={folder / 'server.crt'}", f"--key={folder / 'server.key'}")
    program = Path(__file__).parent / "aggregated_server.py"
    cluster.kubectl("create", "configmap", "wardle", f"--from-file=server.py={program}", f"--from-file=ca.crt={folder / 'front.crt'}")
    mounts = [{"name": "tls", "mountPath": "/tls"}, {"name": "program", "mountPath": "/front"}]
    container = {"name": "server", "image": "python", "command": ["python3", "/front/server.py"], "volumeMounts": mounts}
    container["readinessProbe"] = {"tcpSocket": {"port": 8443}, "periodSeconds": 1}
    volumes = [{"name": "tls", "secret": {"secretName": "wardle"}}, {"name": "program", "configMap": {"name": "wardle"}}]
    labels = {"app": "wardle"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": volumes}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "wardle"}}
    deployment["spec"] = {"selector": {"matchLabels": labels}, "template": template}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wardle"}}
    service["spec"] = {"selector": labels, "ports": [{"port": 443, "targetPort": 8443}]}
    spec = {"group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200}
    spec |= {"service": {"name": "wardle", "namespace": "default"}, "caBundle": base64.b64encode(authority.certificate_pem).decode()}
    registration = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME}, "spec": spec}
    for manifest in (deployment, service, registration):
        cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    cluster.kubectl("wait", "--for=condition=Available", f"apiservice/{NAME}", "--timeout=90s", timeout_s=100)
    return cluster


def asked(cluster, *more: str):
    return cluster.kubectl("get", "flunders", "-o", "jsonpath={.items[*].metadata.annotations.user}", *more, check=False)


def test_its_kinds_are_served_as_our_own(wardle):
    assert "flunders" in wardle.kubectl("api-resources", "--api-group=wardle.example.com").stdout
    assert asked(wardle).stdout == ADMIN
    wardle.kubectl("create", "clusterrole", "flunders", "--verb=get,list", "--resource=flunders.wardle.example.com")
    wardle.kubectl("create", "rolebinding", "flunders", "--clusterrole=flunders", "--serviceaccount=default:default")
    account = "system:serviceaccount:default:default"
    assert asked(wardle, f"--as={account}").stdout == account
    assert "forbidden" in asked(wardle, "--as=jane").stderr.lower()


def test_a_connection_that_changes_its_protocol_leads_through_the_minion_to_the_pod(wardle):
    if wardle.inside:
        pytest.skip("the API is in another network")
    token = wardle.kubectl("create", "token", "default").stdout.strip()
    wardle.kubectl("create", "rolebinding", "shouts", "--clusterrole=cluster-admin", "--serviceaccount=default:default")
    url = wardle.kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}").stdout
    host, _, port = url.removeprefix("https://").partition(":")
    path = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders/who/shout"
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n"
    context = ssl._create_unverified_context()
    with socket.create_connection((host, int(port)), 30) as raw, context.wrap_socket(raw) as connection:
        connection.sendall(head.encode())
        stream = connection.makefile("rb")
        assert stream.readline().startswith(b"HTTP/1.1 101 ")
        while stream.readline().strip():
            pass
        connection.sendall(b"is anybody there\n")
        assert stream.readline() == b"IS ANYBODY THERE\n"


def test_it_is_unavailable_while_its_machine_is_off_and_back_with_its_pod(wardle):
    [pod] = wardle.ready_pods("app=wardle")
    wardle.labctl("fault", "power-off", pod["spec"]["nodeName"])
    wait(
        lambda: [each["spec"]["nodeName"] != pod["spec"]["nodeName"] for each in wardle.ready_pods("app=wardle")] == [True], "it moved", 60
    )
    wait(lambda: condition(wardle.get("apiservice", NAME), "Available") == "True" and asked(wardle).stdout, "it answers", 40)
    assert wardle.kubectl("get", "deployments.apps", "wardle", "-o", "name").stdout == "deployment.apps/wardle\n"


# -- webhooks

SKIPPED = {"name": "not-skipped", "expression": "object.metadata.name != 'skipped'"}


@pytest.fixture(scope="module")
def hooks(cluster, tmp_path_factory):
    """A pod that serves webhooks, and a namespace whose ConfigMaps they are asked about. Return what a webhook's entry has."""
    folder = tmp_path_factory.mktemp("hooks")
    authority = Authority.create(folder)
    authority.server(["hooks.default.svc"], [])
    cluster.labctl("image", "build", "python", timeout_s=300)
    cluster.kubectl("create", "secret", "tls", "hooks", f"--cert={folder / 'server.crt'}", f"--key={folder / 'server.key'}")
    cluster.kubectl("create", "configmap", "hooks", f"--from-file={Path(__file__).parent / 'webhook_server.py'}")
    mounts = [{"name": "tls", "mountPath": "/tls"}, {"name": "program", "mountPath": "/program"}]
    container = {"name": "server", "image": "python", "command": ["python3", "/program/webhook_server.py"], "volumeMounts": mounts}
    container["readinessProbe"] = {"tcpSocket": {"port": 8443}, "periodSeconds": 1}
    volumes = [{"name": "tls", "secret": {"secretName": "hooks"}}, {"name": "program", "configMap": {"name": "hooks"}}]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hooks", "labels": {"app": "hooks"}}}
    pod["spec"] = {"containers": [container], "volumes": volumes}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hooks"}}
    service["spec"] = {"selector": {"app": "hooks"}, "ports": [{"port": 443, "targetPort": 8443}]}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hooked", "labels": {"hooks": "yes"}}}
    for manifest in (pod, service, namespace):
        cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/hooks", "--timeout=90s", timeout_s=100)
    bundle = base64.b64encode(authority.certificate_pem).decode()
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}

    def entry(name, path, **more):
        client = {"service": {"name": "hooks", "namespace": "default", "path": path}, "caBundle": bundle}
        said = {"name": f"{name}.example.com", "clientConfig": client, "rules": [rule], "admissionReviewVersions": ["v1"]}
        selector = {"matchLabels": {"hooks": "yes"}}
        return {**said, "sideEffects": "None", "namespaceSelector": selector, "matchConditions": [SKIPPED], **more}

    return entry


def test_webhooks_in_a_pod_change_refuse_and_may_be_away(cluster, hooks):
    def configured(kind, *webhooks):
        whole = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": f"{kind}WebhookConfiguration", "metadata": {"name": "hooks"}}
        cluster.kubectl("apply", "-f", "-", input=json.dumps({**whole, "webhooks": list(webhooks)}))

    def made(name, *more, namespace="hooked", data="a=b"):
        done = cluster.kubectl("create", "configmap", name, "-n", namespace, f"--from-literal={data}", "-o", "json", *more, check=False)
        return json.loads(done.stdout)["data"] if done.returncode == 0 else done.stderr

    configured("Mutating", hooks("count", "/count", reinvocationPolicy="IfNeeded"), hooks("mutate", "/mutate"))
    configured("Validating", hooks("refuse", "/refuse"))
    acted = {"a": "b", "asked": "2", "mutated": "yes"}  # the first is asked again, because the second changed something
    assert made("one") == acted and made("two", "--dry-run=server") == acted
    assert made("skipped") == {"a": "b"} and made("elsewhere", namespace="default") == {"a": "b"}
    assert 'admission webhook "refuse.example.com" denied the request: the data has something bad' in made("three", data="bad=1")
    assert 'configmaps "three" not found' in cluster.kubectl("get", "configmap", "three", "-n", "hooked", check=False).stderr
    configured("Validating", hooks("late", "/late", timeoutSeconds=1), hooks("some", "/ok", sideEffects="NoneOnDryRun"))
    late = made("four")
    assert 'failed calling webhook "late.example.com"' in late and "context deadline exceeded" in late
    configured("Validating", hooks("late", "/late", timeoutSeconds=1, failurePolicy="Ignore"))
    assert made("five") == acted
    [node] = [pod["spec"]["nodeName"] for pod in cluster.ready_pods("app=hooks")]
    cluster.labctl("fault", "power-off", node)
    configured("Validating", hooks("refuse", "/refuse", failurePolicy="Ignore", timeoutSeconds=2))
    configured("Mutating", hooks("mutate", "/mutate", failurePolicy="Fail", timeoutSeconds=2))
    assert 'failed calling webhook "mutate.example.com"' in made("six")
    configured("Mutating", hooks("mutate", "/mutate", failurePolicy="Ignore", timeoutSeconds=2))
    assert made("seven", data="bad=1") == {"bad": "1"}
