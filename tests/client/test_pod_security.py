"""Pod security as kubectl and controllers meet it: warnings about templates and namespaces, and pods that a ReplicaSet can't make."""

from __future__ import annotations

from pathlib import Path

from tests.client.test_policies import MERGE, Http, eventually, workload
from tests.inprocess import ApiServer

PODS, DEPLOYMENTS = "/api/v1/namespaces/checked/pods", "/apis/apps/v1/namespaces/checked/deployments"
ENFORCE = "pod-security.kubernetes.io/enforce"


async def test_who_writes_a_template_is_warned_and_its_pods_are_refused(tmp_path: Path) -> None:
    async with ApiServer.running(tmp_path, controllers=True) as api, api.session() as session:
        http = Http(session)
        await http.create("/api/v1/namespaces", {"metadata": {"name": "checked", "labels": {ENFORCE: "restricted"}}})
        async with session.post(DEPLOYMENTS, json=workload("d", 1)) as answer:
            assert answer.status == 201
            [warning] = answer.headers.getall("Warning")
        assert "would violate PodSecurity" in warning and "restricted:latest" in warning and "runAsNonRoot != true" in warning

        async def failed() -> bool:
            conditions = (await http("GET", f"{DEPLOYMENTS}/d"))["status"].get("conditions", ())
            return any(c["type"] == "ReplicaFailure" and "violates PodSecurity" in c["message"] for c in conditions)

        await eventually(failed)
        assert (await http("GET", PODS))["items"] == []
        await http("PATCH", "/api/v1/namespaces/checked", {"metadata": {"labels": {ENFORCE: None}}}, headers=MERGE)

        async def made() -> bool:
            return bool((await http("GET", PODS))["items"])

        await eventually(made, 30)


async def test_a_stricter_level_names_the_pods_that_violate_it(tmp_path: Path) -> None:
    async with ApiServer.running(tmp_path) as api:
        for name in ("b", "a", "c"):
            host = "true" if name == "c" else "false"
            spec = f'{{"spec":{{"hostPID":{host}}}}}'
            code, _out, error = await api.kubectl("run", name, "--image=x", "--restart=Never", f"--overrides={spec}")
            assert code == 0, error
        code, _out, error = await api.kubectl("label", "namespace", "default", f"{ENFORCE}=restricted")
        assert code == 0, error
        ordinary = "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"
        assert error.splitlines() == [
            'Warning: existing pods in namespace "default" violate the new PodSecurity enforce level "restricted:latest"',
            f"Warning: a (and 1 other pod): {ordinary}",
            f"Warning: c: host namespaces, {ordinary}",
        ]
        code, _out, error = await api.kubectl("label", "namespace", "default", f"{ENFORCE}=baseline", "--overwrite")
        assert (code, error) == (0, "")  # milder than before: nobody is looked at
        code, _out, error = await api.kubectl("run", "d", "--image=x", "--restart=Never", '--overrides={"spec":{"hostPID":true}}')
        assert code == 1 and error.strip().endswith(
            'pods "d" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)'
        )
