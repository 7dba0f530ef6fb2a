"""An operator without any library: for each Backup it makes a Job, and writes into the Backup's status when that was. It runs in a pod, as its ServiceAccount.

`python3 keeper.py list KIND` asks the API for a list instead, with the same token.
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

OWN = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER = f"https://{os.environ.get('KUBERNETES_SERVICE_HOST')}:{os.environ.get('KUBERNETES_SERVICE_PORT')}"


def call(method, path, body=None, kind="application/json"):
    """One request; the answer may be read line by line. The token is read each time, because the minion's agent renews it."""
    headers = {"Authorization": f"Bearer {(OWN / 'token').read_text()}", "Content-Type": kind}
    request = urllib.request.Request(SERVER + path, json.dumps(body).encode() if body else None, headers, method=method)
    return urllib.request.urlopen(request, context=ssl.create_default_context(cafile=str(OWN / "ca.crt")))


def job_of(backup):
    name, uid = backup["metadata"]["name"], backup["metadata"]["uid"]
    owner = {"apiVersion": backup["apiVersion"], "kind": "Backup", "name": name, "uid": uid, "controller": True}
    containers = [{"name": "backup", "image": "busybox", "command": ["echo", f"{name}: {backup['spec']['keep']} are kept"]}]
    pod = {"spec": {"restartPolicy": "Never", "containers": containers}}
    return {"metadata": {"name": f"backup-{name}", "ownerReferences": [owner]}, "spec": {"template": pod}}


def reconcile(backup):
    """Nothing to do for a Backup that has been made: so events may come twice, and the operator may be killed between any two lines."""
    if backup.get("status", {}).get("last"):
        return
    namespace, name = backup["metadata"]["namespace"], backup["metadata"]["name"]
    try:
        call("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", job_of(backup))
    except urllib.error.HTTPError as error:
        if error.code != 409:  # it is there already
            raise
    status = {"status": {"last": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}}
    path = f"/apis/example.com/v1/namespaces/{namespace}/backups/{name}/status"
    call("PATCH", path, status, "application/merge-patch+json")
    print(f"made the Job of backup {name}", flush=True)


def watch():
    """The objects that are there come first. Whatever ends the watch ends the program; it is started again."""
    for line in call("GET", "/apis/example.com/v1/backups?watch=true"):
        event = json.loads(line)
        if event["type"] in ("ADDED", "MODIFIED"):
            reconcile(event["object"])


def listed(kind):
    namespace = (OWN / "namespace").read_text()
    path = (
        f"/api/v1/namespaces/{namespace}/{kind}" if kind in ("pods", "secrets") else f"/apis/example.com/v1/namespaces/{namespace}/{kind}"
    )
    try:
        return [each["metadata"]["name"] for each in json.load(call("GET", path))["items"]]
    except urllib.error.HTTPError as error:
        return json.load(error)["message"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["list"]:
        print(*(f"{kind}: {listed(kind)}" for kind in sys.argv[2:]), sep="\n")
    else:
        watch()
