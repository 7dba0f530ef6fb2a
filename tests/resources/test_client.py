"""What controllers write with: the in-process client, the recorder, and the first objects of a lab."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.resources.bootstrap import BootstrapSettings, ensure_bootstrap
from labctl.resources.client import Client
from labctl.resources.events import Recorder
from labctl.resources.kinds.shared import ObjectReference
from labctl.resources.service import WriteResult
from labctl.resources.settings import ResourceSettings
from tests.resources.conftest import Lab, pod


def in_default(obj: dict, namespace: str = "default") -> dict:  # type: ignore[type-arg]
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


async def test_objects_in_views_out(lab: Lab) -> None:
    client = lab.client
    made = await client.create("pods", in_default(pod()))
    assert (made.metadata.key, made.status.phase) == ("default/web", "Pending")
    await client.bind("default/web", "minion-1", made.metadata.uid)
    found = client.get("pods", "default/web")
    assert found.spec.node_name == "minion-1"
    assert client.get("pods", "default/other") is None and client.raw("pods", "default/other") is None
    changed = await client.patch("pods", "default/web", {"status": {"phase": "Running"}}, "status", found.metadata.revision)
    assert changed.status.phase == "Running"
    with pytest.raises(ApiError) as caught:
        await client.patch("pods", "default/web", {"status": {"phase": "Failed"}}, "status", found.metadata.revision)
    assert caught.value.code == 409
    raw = client.raw("pods", "default/web")
    assert raw
    raw["metadata"]["labels"] = {"app": "other"}
    assert (await client.replace("pods", raw)).metadata.labels == {"app": "other"}
    assert [view.metadata.name for view in client.list("pods", labels="app=other")] == ["web"]
    assert client.list("pods", "kube-system") == []
    await client.delete("pods", "default/web", made.metadata.uid, 0)
    with pytest.raises(ApiError) as caught:
        await client.delete("pods", "default/web")
    assert caught.value.code == 404


async def test_a_binding_is_told_as_its_own_write_left_the_pod(lab: Lab) -> None:
    """The runner waits for the revision of its own write. Another's may be there already when the answer comes."""

    class Overtaken:
        """The resources, where somebody else writes between a write and its answer."""

        def __getattr__(self, name: str) -> Any:
            return getattr(lab.resources, name)

        async def create(self, *arguments: Any) -> WriteResult:
            written = await lab.resources.create(*arguments)
            await lab.client.patch("pods", "default/web", {"metadata": {"labels": {"app": "other"}}})
            return written

    await lab.client.create("pods", in_default(pod()))
    bound = await Client(Overtaken()).bind("default/web", "minion-1")  # type: ignore[arg-type]
    now = lab.client.get("pods", "default/web")
    assert now.metadata.labels == {"app": "other"} and now.metadata.revision > bound.metadata.revision
    assert bound.spec.node_name == "minion-1" and bound.metadata.labels != {"app": "other"}


async def test_repeats_are_counted_on_one_event(lab: Lab) -> None:
    made = await lab.client.create("pods", in_default(pod()))
    recorder = Recorder(lab.client, "scheduler", lab.clock)
    recorder.record(made, "Warning", "FailedScheduling", "no node")
    await recorder.flush()
    lab.clock.at += 60
    for _ in range(2):
        recorder.record(made, "Warning", "FailedScheduling", "no node")
    recorder.record(made, "Normal", "Scheduled", "at last")
    await recorder.close()
    first, second = sorted(lab.client.list("events"), key=lambda event: event.type)[::-1]
    assert (first.reason, first.count, first.involved_object.key) == ("FailedScheduling", 3, "default/web")
    assert (first.first_timestamp, first.last_timestamp) == ("2026-01-02T15:04:05Z", "2026-01-02T15:05:05Z")
    assert (second.reason, second.count, second.source.component) == ("Scheduled", 1, "scheduler")
    assert first.metadata.name.startswith("web.") and first.involved_object.uid == made.metadata.uid


async def test_of_many_similar_events_those_after_the_tenth_are_one(lab: Lab) -> None:
    """As Kubernetes' recorder does it: a ReplicaSet that makes 100 pods does not write 100 Events about itself."""
    made = await lab.client.create("pods", in_default(pod()))
    recorder = Recorder(lab.client, "replicaset-controller", lab.clock)
    for number in range(100):
        recorder.record(made, "Normal", "SuccessfulCreate", f"Created pod: web-{number}")
        await recorder.flush()
    recorder.record(made, "Normal", "SuccessfulCreate", "Created pod: web-3")  # a repeat is still counted where it was told
    recorder.record(made, "Normal", "SuccessfulDelete", "Deleted pod: web-3")  # another reason
    await recorder.flush()
    told = {event.message: event.count for event in lab.client.list("events")}
    assert told.pop("(combined from similar events): Created pod: web-99") == 90
    assert told.pop("Created pod: web-3") == 2 and told.pop("Deleted pod: web-3") == 1
    assert told == {f"Created pod: web-{number}": 1 for number in (0, 1, 2, 4, 5, 6, 7, 8, 9)}
    lab.clock.at += 601
    recorder.record(made, "Normal", "SuccessfulCreate", "Created pod: web-100")
    await recorder.flush()
    assert "Created pod: web-100" in {event.message for event in lab.client.list("events")}


async def test_an_event_that_expired_is_told_anew(lab: Lab) -> None:
    made = await lab.client.create("pods", in_default(pod()))
    recorder = Recorder(lab.client, "scheduler", lab.clock)
    recorder.record(made, "Normal", "A", "b")
    await recorder.flush()
    await lab.client.delete("events", lab.client.list("events")[0].metadata.key)
    recorder.record(made, "Normal", "A", "b")
    await recorder.flush()
    assert len(lab.client.list("events")) == 1


async def test_an_event_about_a_node_lies_in_default(lab: Lab) -> None:
    recorder = Recorder(lab.client, "nodes", lab.clock, host="minion-1")
    recorder.record(ObjectReference(kind="Node", name="minion-1", api_version="v1"), "Normal", "Ready", "it is back")
    await recorder.flush()
    [event] = lab.client.list("events", "default")
    assert (event.involved_object.name, event.source.host) == ("minion-1", "minion-1")


async def test_events_that_can_not_be_written_are_dropped_and_counted(lab: Lab) -> None:
    recorder = Recorder(lab.client, "x", lab.clock)
    recorder.record(ObjectReference(kind="Pod", namespace="gone", name="web"), "Normal", "A", "b")
    await recorder.flush()
    assert (recorder.dropped, lab.client.list("events")) == (1, [])


async def test_what_waits_is_bounded() -> None:
    lab = Lab(ResourceSettings(events_pending=5))
    await ensure_bootstrap(lab.client, BootstrapSettings())
    recorder = Recorder(lab.client, "x", lab.clock)
    for number in range(20):
        recorder.record(ObjectReference(kind="Node", name=f"n{number}"), "Normal", "A", "b")
    await recorder.flush()
    assert (recorder.dropped, len(lab.client.list("events"))) == (15, 5)


async def test_the_first_objects(lab: Lab) -> None:
    assert [ns.metadata.name for ns in lab.client.list("namespaces")] == ["default", "kube-node-lease", "kube-public", "kube-system"]
    service = lab.client.get("services", "default/kubernetes")
    assert (service.spec.cluster_ip, service.spec.ports[0].port, service.spec.ports[0].target_port) == ("10.247.0.1", 443, 6443)
    endpoints = lab.client.get("endpoints", "default/kubernetes")
    assert endpoints.subsets[0].addresses[0].ip == "10.245.1.1"
    slice_ = lab.client.get("endpointslices.discovery.k8s.io", "default/kubernetes")
    assert (slice_.service, slice_.endpoints[0].addresses, slice_.ports[0].port) == ("kubernetes", ("10.245.1.1",), 6443)


async def test_a_second_start_writes_nothing_and_another_address_mends(lab: Lab) -> None:
    revision = lab.store.revision
    await ensure_bootstrap(lab.client, BootstrapSettings(address="10.245.1.1"))
    assert lab.store.revision == revision
    await ensure_bootstrap(lab.client, BootstrapSettings(address="192.168.56.1", port=16443))
    assert lab.client.get("endpoints", "default/kubernetes").subsets[0].addresses[0].ip == "192.168.56.1"
    assert lab.client.get("endpointslices.discovery.k8s.io", "default/kubernetes").ports[0].port == 16443


async def test_what_happens_again_while_it_is_being_written_is_one_event(lab: Lab) -> None:
    ref = ObjectReference(kind="Pod", namespace="default", name="web")
    recorder = Recorder(lab.client, "x", lab.clock)
    for _ in range(5):
        recorder.record(ref, "Normal", "A", "b")
        await asyncio.sleep(0)
    await recorder.flush()
    assert [event.count for event in lab.client.list("events")] == [5]
