"""Who may write Faults, what may be written, and what may change later."""

from __future__ import annotations

import pytest

from tests.inprocess import ApiServer

PATH = "/apis/labctl.internal/v1/faults"


def fault(name: str = "one", **spec: object) -> dict[str, object]:
    spec = {"type": "loss", "target": "minion-1", "parameters": {"share": "10%"}, **spec}
    return {"apiVersion": "labctl.internal/v1", "kind": "Fault", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"type": ""}, "spec.type: Required value"),
        ({"type": "meteor"}, 'spec.type: Unsupported value: "meteor": supported values: "api-delay", '),
        ({"target": ""}, "spec.target: Required value"),
        ({"target": "pod/default/web"}, 'spec.target: Invalid value: "pod/default/web": a fault of type loss hits minion-1'),
        ({"target": "minion_1"}, 'spec.target: Invalid value: "minion_1"'),
        ({"peer": "minion-1"}, 'spec.peer: Invalid value: "minion-1": must be another machine than the target, or `master`'),
        ({"direction": "up"}, 'spec.direction: Unsupported value: "up": supported values: "both", "in", "out"'),
        ({"parameters": {}}, "spec.parameters[share]: Required value"),
        ({"parameters": {"share": "10"}}, 'spec.parameters[share]: Invalid value: "10": must be a share in percent'),
        ({"parameters": {"share": "0%"}}, "spec.parameters[share]: Invalid value"),
        ({"parameters": {"share": "101%"}}, "spec.parameters[share]: Invalid value"),
        ({"parameters": {"share": "1%", "time": "1s"}}, 'spec.parameters: Unsupported value: "time": supported values: "share"'),
        ({"duration": "30"}, 'spec.duration: Invalid value: "30": must be a duration with its unit, such as "50ms", "30s" or "1m30s"'),
        ({"duration": "0s"}, 'spec.duration: Invalid value: "0s": must be greater than 0 and at most 168h'),
        ({"duration": "9999h"}, "must be greater than 0 and at most 168h"),
        ({"type": "reset", "parameters": {}, "duration": "1s"}, "spec.duration: Forbidden: may not be set when `type` is 'reset'"),
        ({"type": "pause", "parameters": {}, "peer": "minion-2"}, "spec.peer: Forbidden: may not be set when `type` is 'pause'"),
        ({"type": "delay", "parameters": {"time": "2h"}}, "must be greater than 0 and at most 60s"),
        ({"type": "rate", "parameters": {"rate": "1"}}, "must be a rate with its unit"),
        ({"type": "api-refuse", "target": "client/a", "parameters": {"code": "418"}}, "must be one of 429, 500, 503"),
    ],
)
async def test_what_is_wrong_is_said_in_kubernetes_words(tmp_path, spec, said):
    async with ApiServer.running(tmp_path) as api, api.session() as http, http.post(PATH, json=fault(**spec)) as answer:
        body = await answer.json()
        assert answer.status == 422 and said in body["message"], body["message"]


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"target": "minion-2"}, 'spec.target: Invalid value: "minion-2": field is immutable'),
        ({"type": "pause"}, 'spec.type: Invalid value: "pause": field is immutable'),
        ({"peer": "master"}, "spec.peer: Invalid value"),
        ({"direction": "in"}, "spec.direction: Invalid value"),
        ({"parameters": {"share": "11%"}}, "spec.parameters: Invalid value"),
    ],
)
async def test_only_its_duration_and_its_healing_may_change(tmp_path, patch, said):
    merge = {"Content-Type": "application/merge-patch+json"}
    async with ApiServer.running(tmp_path) as api, api.session() as http:
        async with http.post(PATH, json=fault()) as answer:
            assert answer.status == 201
        async with http.patch(f"{PATH}/one", json={"spec": patch}, headers=merge) as answer:
            assert answer.status == 422 and said in (await answer.json())["message"]
        async with http.patch(f"{PATH}/one", json={"spec": {"duration": "5s", "heal": True}}, headers=merge) as answer:
            assert answer.status == 200
        async with http.patch(f"{PATH}/one", json={"spec": {"heal": False}}, headers=merge) as answer:
            assert answer.status == 422 and "spec.heal: Forbidden: may not be taken back" in (await answer.json())["message"]


@pytest.mark.parametrize("who", ["node:minion-1", None])
async def test_neither_a_node_nor_a_stranger_may_write_or_read_faults(tmp_path, who):
    refused = 401 if who is None else 403
    async with ApiServer.running(tmp_path) as api, api.session() as admin, api.session(who) as http:
        async with admin.post(PATH, json=fault()) as answer:
            assert answer.status == 201
        for method, path, body in (
            ("POST", PATH, fault("two")),
            ("GET", PATH, None),
            ("GET", f"{PATH}/one", None),
            ("PATCH", f"{PATH}/one", {"spec": {"heal": True}}),
            ("PATCH", f"{PATH}/one/status", {"status": {"phase": "Healed"}}),
            ("PUT", f"{PATH}/one", fault()),
            ("DELETE", f"{PATH}/one", None),
            ("DELETE", PATH, None),
        ):
            headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
            async with http.request(method, path, json=body, headers=headers) as answer:
                assert answer.status == refused, (method, path)


async def test_a_status_that_a_person_brings_along_counts_for_nothing(tmp_path):
    body = {**fault(), "status": {"phase": "Active", "undo": {"bootID": "x"}}}
    async with ApiServer.running(tmp_path) as api, api.session() as http, http.post(PATH, json=body) as answer:
        made = await answer.json()
        assert answer.status == 201 and not made.get("status")
        assert made["metadata"]["finalizers"] == ["labctl.internal/fault"]
