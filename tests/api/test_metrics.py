"""/metrics, read by Prometheus' own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.inprocess import ApiServer


async def scraped(api: ApiServer) -> dict[str, list[tuple[dict[str, str], float]]]:
    async with api.session() as http, http.get("/metrics") as answered:
        assert answered.status == 200 and answered.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(await answered.text())
        return {sample.name: [(s.labels, s.value) for s in family.samples] for family in families for sample in family.samples[:1]}


async def test_requests_objects_and_the_process_are_told(api: ApiServer) -> None:
    async with api.session() as http:
        for name in ("a", "a", "b"):
            async with http.post("/api/v1/namespaces/default/configmaps", json={"metadata": {"name": name}}):
                pass
    told = await scraped(api)
    posted = {labels["code"]: value for labels, value in told["apiserver_request_total"] if labels["verb"] == "create"}
    assert posted == {"201": 2.0, "409": 1.0}
    assert ({"resource": "configmaps"}, 2.0) in told["apiserver_storage_objects"]
    assert told["process_resident_memory_bytes"][0][1] > 1_000_000
    assert told["labctl_store_revision"][0][1] == api.resources.store.revision


async def test_nobody_without_a_name_and_no_node_reads_them(api: ApiServer) -> None:
    for who in (None, "node:minion-1"):
        async with api.session(who) as http, http.get("/metrics") as answered:
            assert answered.status in (401, 403)
