"""Workloads as people type them, with the real kubectl against the API and its controllers; pods run on hollow nodes where they must run."""

from __future__ import annotations

import json

from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer


async def test_a_deployment_from_the_command_line(api: ApiServer) -> None:
    assert await ok(api, "create", "deployment", "web", "--image=nginx", "--replicas=3") == "deployment.apps/web created\n"
    assert await ok(api, "set", "image", "deployment/web", "nginx=nginx:2") == "deployment.apps/web image updated\n"
    assert await ok(api, "scale", "deployment/web", "--replicas=5") == "deployment.apps/web scaled\n"
    assert await ok(api, "rollout", "pause", "deployment/web") == "deployment.apps/web paused\n"
    assert await ok(api, "rollout", "resume", "deployment/web") == "deployment.apps/web resumed\n"
    assert await ok(api, "rollout", "restart", "deployment/web") == "deployment.apps/web restarted\n"
    header, row = (await ok(api, "get", "deploy", "-o", "wide")).splitlines()
    assert header.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    assert row.split()[1] == "0/5" and row.split()[5:] == ["nginx", "nginx:2", "app=web"]
    assert await ok(api, "expose", "deployment", "web", "--port=80") == "service/web exposed\n"
    stored = json.loads(await ok(api, "get", "deploy", "web", "-o", "json"))
    assert stored["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert (stored["spec"]["revisionHistoryLimit"], stored["spec"]["progressDeadlineSeconds"]) == (10, 600)


async def test_what_a_deployment_may_not_be(api: ApiServer) -> None:
    spec = {
        "replicas": -1,
        "selector": {"matchLabels": {"app": "web"}},
        "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}},
        "template": {
            "metadata": {"labels": {"app": "other"}},
            "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"},
        },
    }
    said = await refused(
        api, "create", "-f", "-", stdin={"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "w"}, "spec": spec}
    )
    for words in (
        'The Deployment "w" is invalid:',
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        'spec.template.metadata.labels: Invalid value: {"app":"other"}: `selector` does not match template `labels`',
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
        "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
    ):
        assert words in said, said


async def test_a_selector_is_for_life(api: ApiServer) -> None:
    await ok(api, "create", "deployment", "web", "--image=nginx")
    patch = '{"spec":{"selector":{"matchLabels":{"app":"x"}},"template":{"metadata":{"labels":{"app":"x"}}}}}'
    said = await refused(api, "patch", "deployment", "web", "-p", patch)
    assert "spec.selector: Invalid value" in said and "field is immutable" in said


async def test_daemonsets_and_their_history(api: ApiServer) -> None:
    template = {"metadata": {"labels": {"app": "log"}}, "spec": {"containers": [{"name": "log", "image": "log"}]}}
    daemon = {"selector": {"matchLabels": {"app": "log"}}, "template": template}
    whole = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "log"}, "spec": daemon}
    assert await ok(api, "create", "-f", "-", stdin=whole) == "daemonset.apps/log created\n"
    header, row = (await ok(api, "get", "ds")).splitlines()
    assert header.split() == ["NAME", "DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE", "NODE", "SELECTOR", "AGE"]
    assert row.split()[:6] == ["log", "0", "0", "0", "0", "0"]
    stored = json.loads(await ok(api, "get", "ds", "log", "-o", "json"))
    assert stored["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    both = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    said = await refused(api, "create", "-f", "-", stdin=whole | {"metadata": {"name": "x"}, "spec": daemon | {"updateStrategy": both}})
    assert "maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero" in said


async def test_a_statefulset_and_what_may_change_of_it(api: ApiServer) -> None:
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "db", "image": "db"}]}}
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    spec = {"serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template, "volumeClaimTemplates": [claim]}
    whole = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": spec}
    assert await ok(api, "create", "-f", "-", stdin=whole) == "statefulset.apps/db created\n"
    header, row = (await ok(api, "get", "sts", "-o", "wide")).splitlines()
    assert header.split() == ["NAME", "READY", "AGE", "CONTAINERS", "IMAGES"] and row.split()[:2] == ["db", "0/1"]
    said = await refused(api, "patch", "sts", "db", "-p", '{"spec":{"serviceName":"other"}}')
    assert "spec: Forbidden: updates to statefulset spec for fields other than 'replicas'" in said
    assert await ok(api, "apply", "-f", "-", stdin=whole) != ""
    assert await ok(api, "scale", "sts/db", "--replicas=2") == "statefulset.apps/db scaled\n"


async def test_jobs_and_cronjobs_from_the_command_line(api: ApiServer) -> None:
    assert await ok(api, "create", "job", "pi", "--image=perl") == "job.batch/pi created\n"
    header, row = (await ok(api, "get", "jobs")).splitlines()
    assert header.split() == ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"] and row.split()[:3] == ["pi", "Running", "0/1"]
    stored = json.loads(await ok(api, "get", "job", "pi", "-o", "json"))
    assert stored["spec"]["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": stored["metadata"]["uid"]}
    assert stored["spec"]["template"]["metadata"]["labels"]["job-name"] == "pi"
    assert await ok(api, "create", "cronjob", "tick", "--image=busybox", "--schedule=*/5 * * * *") == "cronjob.batch/tick created\n"
    header, row = (await ok(api, "get", "cj")).splitlines()
    assert header.split() == ["NAME", "SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST", "SCHEDULE", "AGE"]
    assert await ok(api, "create", "job", "now", "--from=cronjob/tick") == "job.batch/now created\n"
    said = await refused(api, "create", "cronjob", "bad", "--image=busybox", "--schedule=61 * * * *")
    assert 'spec.schedule: Invalid value: "61 * * * *"' in said


async def test_disruption_budgets(api: ApiServer) -> None:
    said = await ok(api, "create", "poddisruptionbudget", "web", "--selector=app=web", "--min-available=1")
    assert said == "poddisruptionbudget.policy/web created\n"
    header, row = (await ok(api, "get", "pdb")).splitlines()
    assert header.split() == ["NAME", "MIN", "AVAILABLE", "MAX", "UNAVAILABLE", "ALLOWED", "DISRUPTIONS", "AGE"]
    assert row.split()[:4] == ["web", "1", "N/A", "0"]
    both = {"minAvailable": 1, "maxUnavailable": "200%"}
    whole = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "x"}, "spec": both}
    said = await refused(api, "create", "-f", "-", stdin=whole)
    assert "minAvailable and maxUnavailable cannot be both set" in said and "must not be greater than 100%" in said
