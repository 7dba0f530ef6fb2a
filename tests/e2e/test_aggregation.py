"""An API server of somebody's, in a pod behind a Service: its kinds are served as our own, and its group is gone with its machine and back with its pod."""

import base64
import json
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


def test_it_is_unavailable_while_its_machine_is_off_and_back_with_its_pod(wardle):
    [pod] = wardle.ready_pods("app=wardle")
    wardle.labctl("fault", "power-off", pod["spec"]["nodeName"])
    wait(
        lambda: [each["spec"]["nodeName"] != pod["spec"]["nodeName"] for each in wardle.ready_pods("app=wardle")] == [True], "it moved", 60
    )
    wait(lambda: condition(wardle.get("apiservice", NAME), "Available") == "True" and asked(wardle).stdout, "it answers", 40)
    assert wardle.kubectl("get", "deployments.apps", "wardle", "-o", "name").stdout == "deployment.apps/wardle\n"
