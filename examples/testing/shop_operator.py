"""An operator, as kopf's documentation builds them: each Shop has a Deployment, and its status says how many of its pods are ready."""

import kopf
import kubernetes


@kopf.on.create("shops.example.com")
def created(name, namespace, spec, **_):
    labels = {"shop": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "shop", "image": "nginx"}]}}
    deployment = {
        "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": spec["replicas"], "selector": {"matchLabels": labels}, "template": pod},
    }
    kopf.adopt(deployment)
    kubernetes.config.load_kube_config()
    kubernetes.client.AppsV1Api().create_namespaced_deployment(namespace, deployment)


@kopf.timer("shops.example.com", interval=0.2)
def counted(name, namespace, patch, **_):
    kubernetes.config.load_kube_config()
    try:
        deployment = kubernetes.client.AppsV1Api().read_namespaced_deployment(name, namespace)
    except kubernetes.client.ApiException as error:
        if error.status != 404:
            raise
        return  # it is being made
    patch.status["ready"] = deployment.status.ready_replicas or 0
