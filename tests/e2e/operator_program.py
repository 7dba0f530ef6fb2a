"""An operator that runs in a pod: each Shop has a Deployment with as many replicas. It speaks to the API by the pod's own token, and by nothing else."""

import os
from pathlib import Path

import aiohttp
import kopf

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@kopf.on.login()
def log_in(**_):
    server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    return kopf.ConnectionInfo(server=server, ca_path=str(TOKEN / "ca.crt"), token=(TOKEN / "token").read_text(), scheme="Bearer")


@kopf.on.startup()
def settings_of(settings, **_):
    """A handler that met an API server which was away for a moment is called again soon: after a minute by kopf's own settings."""
    settings.execution.default_backoff = 1.0


async def ask(method, path, body, kind="application/json"):
    import ssl

    tls = ssl.create_default_context(cafile=str(TOKEN / "ca.crt"))
    headers = {"Authorization": f"Bearer {(TOKEN / 'token').read_text()}", "Content-Type": kind}
    server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    async with aiohttp.ClientSession() as http, http.request(method, server + path, json=body, headers=headers, ssl=tls) as answer:
        if answer.status >= 400:
            raise kopf.TemporaryError(await answer.text(), delay=1)


@kopf.on.create("shops.example.com")
async def created(name, namespace, spec, patch, **_):
    labels = {"shop": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "shop", "image": "nginx"}]}}
    child = {"metadata": {"name": name}, "spec": {"replicas": spec["replicas"], "selector": {"matchLabels": labels}, "template": pod}}
    kopf.adopt(child)
    await ask("POST", f"/apis/apps/v1/namespaces/{namespace}/deployments", child)
    patch.status["wanted"] = spec["replicas"]


@kopf.on.field("shops.example.com", field="spec.replicas")
async def resized(old, new, name, namespace, patch, **_):
    if old is not None:
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        await ask("PATCH", path, {"spec": {"replicas": new}}, "application/merge-patch+json")
        patch.status["wanted"] = new
