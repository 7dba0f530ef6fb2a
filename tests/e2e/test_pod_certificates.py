"""Certificates of pods on real machines: a pod serves TLS with its own, another checks it against a ClusterTrustBundle, and both go on while it is renewed."""

import json

import pytest
from kubernetes import config

from tests.client.signer import Signer
from tests.e2e.cluster import wait
from tests.e2e.test_workloads import made, pod, running  # noqa: F401 - made is a fixture

SERVE = """
import socket, ssl
listens = socket.create_server(("", 8443))
while True:
    taken, _ = listens.accept()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("/tls/bundle.pem")  # for each connection: it is renewed
    try:
        with context.wrap_socket(taken, server_side=True) as channel:
            channel.sendall(b"well served")
    except OSError:
        pass
"""
CHECK = """
import socket, ssl, sys
context = ssl.create_default_context(cafile="/trust/ca.pem")
with context.wrap_socket(socket.create_connection(("tls.default.svc", 443), 5), server_hostname="tls.default.svc") as channel:
    print(channel.getpeercert()["serialNumber"], channel.recv(100).decode())
"""
PODS = "/var/lib/labctl/agent/pods"


@pytest.fixture
def signer(cluster):
    signer = Signer(config.new_client_from_config(str(cluster.folder / ".labctl" / "kubeconfig")))
    signer.publish()
    yield signer
    cluster.kubectl("delete", "clustertrustbundles", "--all")


def certificate(**said):
    return {"podCertificate": {"signerName": "example.com/tests", "keyType": "ECDSAP256", "credentialBundlePath": "bundle.pem", **said}}


def volume(name, *sources):
    return {"name": name, "projected": {"sources": list(sources)}}


def python(name, program, mount, path, **spec):
    container = {"volumeMounts": [{"name": mount, "mountPath": path}]}
    return pod(name, "python3", "-c", program, image="python", container=container, **spec)


def test_a_pod_serves_tls_and_another_checks_it(cluster, made, signer):  # noqa: F811
    cluster.labctl("image", "build", "python", timeout_s=300)
    own = volume(
        "tls", certificate(userAnnotations={"example.com/dns": "tls.default.svc"}, keyPath="key.pem", certificateChainPath="chain.pem")
    )
    serves = python("serves", SERVE, "tls", "/tls", volumes=[own], securityContext={"runAsUser": 1000, "fsGroup": 2000})
    serves["metadata"]["labels"] = {"app": "tls"}
    bundle = {"clusterTrustBundle": {"signerName": "example.com/tests", "labelSelector": {}, "path": "ca.pem"}}
    checks = python("checks", "import time; time.sleep(1000)", "ca", "/trust", volumes=[volume("ca", bundle)])
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "tls"}, "spec": {"selector": {"app": "tls"}, "ports": [{"port": 443, "targetPort": 8443}]}}  # fmt: skip
    made(serves, checks, service)

    wait(lambda: "waits for a certificate: signer example.com/tests" in cluster.labctl("why", "pod/serves").stdout, "why says it")
    wait(lambda: "FailedMount" in reasons(cluster, "serves"), "an Event says why it waits")
    with signer.at_work():
        running(cluster, "serves")
        running(cluster, "checks")
        listed = cluster.kubectl("exec", "serves", "--", "/bin/busybox", "ls", "-lnL", "/tls").stdout
        rows = {row.split()[-1]: row.split()[:4] for row in listed.splitlines()[1:]}
        assert {tuple(row[:1] + row[2:]) for row in rows.values()} == {("-rw-r-----", "1000", "2000")}, listed
        assert set(rows) == {"bundle.pem", "key.pem", "chain.pem"}
        first = answer(cluster)
        assert first == (signer.serials[0], "well served")
        assert cluster.get("podcertificaterequests")["items"][0]["metadata"]["ownerReferences"][0]["name"] == "serves"

        renew(cluster, "serves")
        second = wait(lambda: (now := answer(cluster))[0] != first[0] and now, "it serves with a fresh certificate", 30)
        assert second == (signer.serials[1], "well served")
        assert cluster.get("pod", "serves")["status"]["containerStatuses"][0]["restartCount"] == 0
    cluster.kubectl("delete", "pod", "serves", "--now")
    wait(lambda: not cluster.get("podcertificaterequests")["items"], "its requests go with it")


def test_a_signer_says_no(cluster, made, signer):  # noqa: F811
    with signer.at_work():
        made(python("denied", "", "tls", "/tls", volumes=[volume("tls", certificate(userAnnotations={"example.com/deny": "on Sundays"}))]))
        wait(lambda: "Denied" in reasons(cluster, "denied"), "an Event says so")
        said = cluster.labctl("why", "pod/denied").stdout
        assert "signer example.com/tests answered PodCertificateRequest req-" in said and "Denied (NotToday): on Sundays" in said, said
        assert cluster.get("pod", "denied")["status"]["phase"] == "Pending"
        assert len(cluster.get("podcertificaterequests")["items"]) == 1


def reasons(cluster, name):
    return {each["reason"] for each in cluster.items("events", "--field-selector", f"involvedObject.name={name}")}


def answer(cluster):
    """The serial number of the certificate that was checked, and what was served; zero while nothing is."""
    ran = cluster.kubectl("exec", "checks", "--", "python3", "-c", CHECK, check=False)
    serial, _, text = ran.stdout.strip().partition(" ")
    return int(serial or "0", 16), text or ran.stderr


def renew(cluster, name):
    """Makes the agent take it for time to renew: in what it keeps for its next start the hour is over, and then it starts anew."""
    pod = cluster.get("pod", name)
    minion, folder = pod["spec"]["nodeName"], f"{PODS}/{pod['metadata']['uid']}/certificates"
    (file,) = cluster.on(minion, "ls", folder).stdout.split()
    kept = json.loads(cluster.on(minion, "cat", f"{folder}/{file}").stdout)
    assert cluster.on(minion, "stat", "-c", "%a", f"{folder}/{file}").stdout.strip() == "600"
    text = json.dumps({**kept, "renew_s": 0.0})
    cluster.on(minion, "sh", "-c", f"cat > {folder}/{file} <<'END'\n{text}\nEND")
    cluster.on(minion, "pkill", "-9", "-f", "/opt/labctl/agent run")
