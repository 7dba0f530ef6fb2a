"""APIServices: one for each version of each group, as `kubectl get apiservices` shows them."""

from tests.inprocess import ApiServer


async def test_they_are_listed(tmp_path):
    async with ApiServer.running(tmp_path) as api, api.session() as http:
        ran = await api.kubectl("get", "apiservices")
        assert ran.code == 0, ran.err
        lines = ran.out.splitlines()
        assert lines[0].split() == ["NAME", "SERVICE", "AVAILABLE", "AGE"]
        rows = {line.split()[0]: line.split()[1:3] for line in lines[1:]}
        assert rows["v1."] == ["Local", "True"] and rows["v1.apps"] == ["Local", "True"] and "v2.autoscaling" in rows
        async with http.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.apps") as answer:
            found = await answer.json()
        assert found["spec"]["group"] == "apps" and found["status"]["conditions"][0]["reason"] == "Local"
        async with http.get("/apis/apiregistration.k8s.io/v1/apiservices/v9.none") as answer:
            assert answer.status == 404
        async with http.get("/apis/apiregistration.k8s.io/v1/apiservices?fieldSelector=metadata.name%3Dv1.batch") as answer:
            assert [each["metadata"]["name"] for each in (await answer.json())["items"]] == ["v1.batch"]
        async with http.delete("/apis/apiregistration.k8s.io/v1/apiservices/v1.apps") as answer:
            assert answer.status == 403
        assert (await api.kubectl("explain", "apiservice.spec.group")).code == 0
