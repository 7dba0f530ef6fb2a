"""APIServices: one for each version of each group, as `kubectl get apiservices` shows them."""

import asyncio
import json

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


async def test_a_watch_begins_with_this_servers_own(tmp_path):
    """An informer that lists by watching (KEP-3157) believes that there is nothing but what comes before the bookmark."""
    path = "/apis/apiregistration.k8s.io/v1/apiservices?watch=true&timeoutSeconds=1&allowWatchBookmarks=true"
    listing = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"

    async def names(http, more):
        async with http.get(path + more) as answer:
            assert answer.status == 200, await answer.text()
            events = [json.loads(line) for line in (await answer.read()).splitlines()]
        return [each["object"]["metadata"].get("name", each["type"]) for each in events]

    async with ApiServer.running(tmp_path) as api, api.session() as http:
        async with http.get("/apis/apiregistration.k8s.io/v1/apiservices") as answer:
            listed = await answer.json()
        wanted = sorted(each["metadata"]["name"] for each in listed["items"])
        since = f"&resourceVersion={listed['metadata']['resourceVersion']}"
        found = await asyncio.gather(
            names(http, listing), names(http, since), names(http, ""), names(http, listing + "&fieldSelector=metadata.name%3Dv1.batch")
        )
    whole, later, plain, one = found
    assert sorted(whole[: len(wanted)]) == wanted and whole[len(wanted)] == "BOOKMARK"
    assert not set(later) & set(wanted) and sorted(plain[: len(wanted)]) == wanted
    assert one[:2] == ["v1.batch", "BOOKMARK"] and one.count("v1.batch") == 1
