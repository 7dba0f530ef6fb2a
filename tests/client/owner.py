"""An operator that owns a custom kind, as kopf's documentation builds them: handlers, a timer, a daemon, an index, children that go with their owner."""

import kopf

KIND = "shops.example.com"


@kopf.on.startup()
def settings_of(settings, **_):
    """A timer that is at work when its object is to go is looked at again after a minute by kopf's own settings, unless something changes meanwhile."""
    settings.background.cancellation_polling = settings.execution.default_backoff = 1.0


@kopf.index(KIND)
def colours(name, spec, **_):
    return {spec.get("colour", "none"): name}


@kopf.on.create(KIND)
def created(name, namespace, spec, patch, **_):
    labels = {"shop": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "shop", "image": spec.get("image", "nginx")}]}}
    child = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"labels": labels},
        "spec": {"replicas": spec["replicas"], "selector": {"matchLabels": labels}, "template": template},
    }
    kopf.adopt(child)
    patch.status["child"] = child["metadata"]["generateName"] if "generateName" in child["metadata"] else child["metadata"]["name"]
    patch.status["wanted"] = spec["replicas"]
    from kubernetes import client, config

    config.load_kube_config()
    client.AppsV1Api().create_namespaced_deployment(namespace, child)
    return {"made": True}


@kopf.on.field(KIND, field="spec.replicas")
def resized(old, new, patch, body, **_):
    patch.status["wanted"] = new
    if old is not None:
        kopf.info(body, reason="Resized", message=f"from {old} to {new}")


@kopf.timer(KIND, interval=0.3)
def counted(patch, status, **_):
    patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.daemon(KIND)
async def watched(stopped, **_):
    while not stopped:
        await stopped.wait(60)


@kopf.on.delete(KIND)
def closed(body, **_):
    kopf.info(body, reason="Closed", message="the shop is closed")
