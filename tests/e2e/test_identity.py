"""A pod calls the API as its ServiceAccount: refused before a binding, answered after it."""

import base64
import json

from tests.e2e.test_workloads import made, pod, running  # noqa: F401 - made is a fixture

FILES = "/var/run/secrets/kubernetes.io/serviceaccount"
CURL = "$(ls /host/usr/lib/*-linux-gnu/ld-linux*.so.* | head -n 1) --library-path $(echo /host/usr/lib/*-linux-gnu) /host/usr/bin/curl"  # the machine's own
ASK = (
    f'{CURL} -s -m 10 --cacert {FILES}/ca.crt -H "Authorization: Bearer $(cat {FILES}/token)" '
    f"https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/$(cat {FILES}/namespace)/pods"
)
HOST = {"name": "host", "hostPath": {"path": "/"}}
SEES_HOST = {"volumeMounts": [{"name": "host", "mountPath": "/host", "readOnly": True}]}


def ask(cluster, name):
    return json.loads(cluster.kubectl("exec", name, "--", "sh", "-c", ASK).stdout)


def test_a_pod_lists_pods_by_its_own_token(cluster, made):  # noqa: F811
    cluster.kubectl("create", "serviceaccount", "robot")
    made(pod("asks", "sleep", "1000", container=SEES_HOST, volumes=[HOST], serviceAccountName="robot"))
    running(cluster, "asks")
    refused = ask(cluster, "asks")
    who = "system:serviceaccount:default:robot"
    assert refused["code"] == 403 and f'User "{who}" cannot list resource "pods"' in refused["message"]
    cluster.kubectl("create", "rolebinding", "robot-views", "--clusterrole=view", "--serviceaccount=default:robot")
    assert [each["metadata"]["name"] for each in ask(cluster, "asks")["items"]] == ["asks"]
    token = cluster.kubectl("exec", "asks", "--", "cat", f"{FILES}/token").stdout
    cluster.kubectl("delete", "pod", "asks", "--now")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    answered = json.loads(cluster.kubectl("create", "-o", "json", "-f", "-", input=json.dumps(review)).stdout)
    assert not answered["status"].get("authenticated"), "a pod's token ends with the pod"
    cluster.kubectl("delete", "rolebinding/robot-views", "serviceaccount/robot")


def test_a_volume_with_a_token_for_another_audience(cluster, made):  # noqa: F811
    source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "vault"}}
    volume = {"name": "vault", "projected": {"sources": [source]}}
    made(pod("keeps", "sleep", "1000", volumes=[volume], container={"volumeMounts": [{"name": "vault", "mountPath": "/vault"}]}))
    running(cluster, "keeps")
    token = cluster.kubectl("exec", "keeps", "--", "cat", "/vault/token").stdout
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["aud"] == ["vault"] and claims["exp"] - claims["iat"] == 600
    assert claims["kubernetes.io"]["pod"]["name"] == "keeps"


def test_pods_without_a_token(cluster, made):  # noqa: F811
    made(pod("plain", "sleep", "1000", automountServiceAccountToken=False))
    running(cluster, "plain")
    assert cluster.kubectl("exec", "plain", "--", "ls", FILES, check=False).returncode != 0
    refused = cluster.kubectl("create", "-f", "-", check=False, input=json.dumps(pod("nobody", "true", serviceAccountName="absent")))
    assert 'error looking up service account default/absent: serviceaccount "absent" not found' in refused.stderr
