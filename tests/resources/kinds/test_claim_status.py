"""The status of a ResourceClaim has rules, in a real server's words: schedulers and drivers act upon what the others write there."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from tests.resources.conftest import Lab

CLAIMS = "resourceclaims.resource.k8s.io"
DEVICE = {"driver": "gpu.example.com", "pool": "node-1", "device": "gpu-0"}
ALLOCATION = {"devices": {"results": [{"request": "one", **DEVICE}]}}
POD = {"resource": "pods", "name": "web", "uid": "1"}
ALLOCATED = "must be an allocated device in the claim"
NO_REQUEST = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"


async def made(lab: Lab, **status: Any) -> None:
    requests = [
        {"name": "one", "exactly": {"deviceClassName": "gpus"}},
        {"name": "any", "firstAvailable": [{"name": "big", "deviceClassName": "gpus"}]},
    ]
    await lab.create(CLAIMS, {"metadata": {"name": "web", "finalizers": ["a/b"]}, "spec": {"devices": {"requests": requests}}})
    if status:
        await lab.patch(CLAIMS, "web", {"status": status}, "status")


async def refusal(lab: Lab, status: dict[str, Any]) -> str:
    with pytest.raises(ApiError, match="is invalid") as refused:
        await lab.patch(CLAIMS, "web", {"status": status}, "status")
    return str(refused.value.message).partition(" is invalid: ")[2]


def result(**more: Any) -> dict[str, Any]:
    return {"allocation": {"devices": {"results": [{"request": "one", **DEVICE, **more}]}}}


def device(**more: Any) -> dict[str, Any]:
    return {"allocation": ALLOCATION, "devices": [{**DEVICE, **more}]}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"reservedFor": [POD]}, "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"),
        ({"allocation": ALLOCATION, "reservedFor": [{**POD, "name": ""}]}, "status.reservedFor[0].name: Required value"),
        (
            {"allocation": ALLOCATION, "reservedFor": [{**POD, "uid": str(number)} for number in range(257)]},
            "status.reservedFor: Too many: 257: must have at most 256 items",
        ),
        (result(request="two"), f'status.allocation.devices.results[0].request: Invalid value: "two": {NO_REQUEST}'),
        (result(pool=""), "status.allocation.devices.results[0].pool: Required value"),
        (result(device=""), "status.allocation.devices.results[0].device: Required value"),
        (
            {"allocation": {"devices": {"config": [{"source": "Mine", "opaque": {"driver": "a.b", "parameters": {}}}]}}},
            'status.allocation.devices.config[0].source: Unsupported value: "Mine": supported values: "FromClaim", "FromClass"',
        ),
        (device(device="gpu-1"), f"status.devices[0]: Invalid value: gpu.example.com/node-1/gpu-1: {ALLOCATED}"),
        (
            device(networkData={"ips": ["10.9.8.7"]}),
            'status.devices[0].networkData.ips[0]: Invalid value: "10.9.8.7": '
            "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
        ),
        (device(networkData={"ips": ["10.9.8.7/24"] * 2}), 'status.devices[0].networkData.ips[1]: Duplicate value: "10.9.8.7/24"'),
        (
            device(conditions=[{"type": "Ready", "status": "True", "reason": "Set"}]),
            "status.devices[0].conditions[0].lastTransitionTime: Required value: must be set",
        ),
    ],
)
async def test_a_status_of_a_claim_that_a_real_server_refuses(lab: Lab, status: dict[str, Any], words: str) -> None:
    await made(lab)
    assert await refusal(lab, status) == words


async def test_what_was_allocated_stays_until_all_of_it_is_given_back(lab: Lab) -> None:
    await made(lab, **device(networkData={"interfaceName": "eth1", "ips": ["10.9.8.7/24"]}), reservedFor=[POD])
    assert "status.allocation: Invalid value" in await refusal(lab, result(request="any/big"))
    await lab.patch(CLAIMS, "web", {"status": {"allocation": None, "reservedFor": None}}, "status")
    assert not (lab.get(CLAIMS, "web").get("status") or {}), "nothing is told of devices that it has no more"
    await lab.patch(CLAIMS, "web", {"status": result(request="any/big")}, "status")


async def test_nobody_reserves_a_claim_that_is_being_deleted(lab: Lab) -> None:
    await made(lab, allocation=ALLOCATION, reservedFor=[POD])
    await lab.delete(CLAIMS, "web")
    why = "status.reservedFor: Forbidden: new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
    assert await refusal(lab, {"reservedFor": [POD, {**POD, "uid": "2"}]}) == why
    await lab.patch(CLAIMS, "web", {"status": {"reservedFor": None}}, "status")
