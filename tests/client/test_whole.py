"""What a create answers is whole: written back as it came, it changes nothing, so no client sees a difference that nobody made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.inprocess import ApiServer

LABELS = {"matchLabels": {"app": "web"}}
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web"}]}}
BARE_POD = {"spec": {"restartPolicy": "Never", "containers": [{"name": "work", "image": "work"}]}}
PORT = [{"port": 80}]
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
HOOK = {"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1/"}}

KINDS: dict[str, dict[str, Any]] = {
    "/apis/batch/v1/namespaces/default/jobs": {"spec": {"template": BARE_POD}},
    "/apis/batch/v1/namespaces/default/cronjobs": {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": BARE_POD}}}},
    "/apis/apps/v1/namespaces/default/deployments": {"spec": {"selector": LABELS, "template": TEMPLATE}},
    "/apis/apps/v1/namespaces/default/replicasets": {"spec": {"selector": LABELS, "template": TEMPLATE}},
    "/apis/apps/v1/namespaces/default/daemonsets": {"spec": {"selector": LABELS, "template": TEMPLATE}},
    "/apis/apps/v1/namespaces/default/statefulsets": {"spec": {"selector": LABELS, "template": TEMPLATE}},
    "/api/v1/namespaces/default/replicationcontrollers": {"spec": {"template": TEMPLATE}},
    "/api/v1/namespaces/default/pods": BARE_POD,
    "/api/v1/namespaces/default/services": {"spec": {"type": "LoadBalancer", "ports": PORT}},
    "/api/v1/namespaces/default/persistentvolumeclaims": {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    },
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations": {"webhooks": [{**HOOK, "rules": [RULE]}]},
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies": {
        "spec": {"matchConstraints": {"resourceRules": [RULE]}, "validations": [{"expression": "true"}]}
    },
    "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers": {
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}
    },
    "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies": {"spec": {"podSelector": {}, "ingress": [{"ports": PORT}]}},
}


@pytest.mark.parametrize("path", KINDS)
async def test_what_is_written_back_as_it_came_changes_nothing(api: ApiServer, path: str) -> None:
    async with api.session() as session:
        async with session.post(path, json={"metadata": {"name": "web"}, **KINDS[path]}) as answer:
            made = await answer.json()
            assert answer.status == 201, made
        async with session.put(f"{path}/{made['metadata']['name']}", json=made) as answer:
            assert await answer.json() == made


async def test_a_job_without_labels_has_those_of_its_pods_from_the_first(api: ApiServer) -> None:
    path = "/apis/batch/v1/namespaces/default/jobs"
    async with api.session() as session, session.post(path, json={"metadata": {"name": "pi"}, "spec": {"template": BARE_POD}}) as answer:
        job = await answer.json()
    assert job["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"]
    assert job["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "pi"
