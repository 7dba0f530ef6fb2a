import math

import msgspec
import pytest

from labctl.controllers.backends import pause_s
from labctl.controllers.endpoints import Endpoints
from labctl.reconcile.plan import Create, Delete, Replace
from labctl.sim.objects import pod, service
from labctl.sim.picture import Picture

KEY = "default/web"
WEB = {"name": "web"}


@pytest.fixture
def picture():
    made = Picture([Endpoints()])
    made.put(service("web", WEB, {"port": 80, "protocol": "TCP", "targetPort": 8080}))
    return made


def backend(picture, name, ip, ready=True, **kw):
    return picture.put(pod(name, labels=WEB, node="n1", ready=ready, ip=ip, **kw))


def made_by(plan):
    (action,) = plan.actions
    return action.object.get("subsets", [])


def ips(addresses):
    return [address["ip"] for address in addresses]


def test_ready_and_not_ready_stand_apart_sorted_by_address(picture):
    backend(picture, "c", "10.246.1.10")
    backend(picture, "a", "10.246.1.9")
    backend(picture, "b", "10.246.1.11", ready=False)
    (subset,) = made_by(picture.plan(KEY))
    assert ips(subset["addresses"]) == ["10.246.1.9", "10.246.1.10"]
    assert ips(subset["notReadyAddresses"]) == ["10.246.1.11"]
    assert subset["ports"] == [{"port": 8080, "protocol": "TCP"}]
    a = picture.view.get("pods", "default/a")
    assert subset["addresses"][0] == {
        "ip": "10.246.1.9",
        "nodeName": "n1",
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": a.metadata.uid},
    }


def test_leaving_finished_and_addressless_pods_stand_nowhere(picture):
    backend(picture, "leaving", "10.246.1.1", deletionTimestamp="2026-01-01T00:00:00Z")
    backend(picture, "finished", "10.246.1.2", phase="Succeeded")
    backend(picture, "starting", "", ready=False)
    picture.put(pod("other", labels={"name": "db"}, ready=True, ip="10.246.1.4"))
    assert made_by(picture.plan(KEY)) == []


def test_a_service_that_publishes_not_ready_addresses_lists_everybody():
    made = Picture([Endpoints()])
    made.put(service("web", WEB, publishNotReadyAddresses=True))
    backend(made, "a", "10.246.1.1", ready=False)
    backend(made, "b", "10.246.1.2", deletionTimestamp="2026-01-01T00:00:00Z")
    (subset,) = made_by(made.plan(KEY))
    assert ips(subset["addresses"]) == ["10.246.1.1", "10.246.1.2"]


def test_named_ports_are_each_pods_own_and_pods_with_the_same_ports_share_a_subset():
    made = Picture([Endpoints()])
    made.put(service("web", WEB, {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web"}))

    def with_port(name, ip, number):
        obj = pod(name, labels=WEB, node="n1", ready=True, ip=ip)
        obj["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": number, "protocol": "TCP"}]
        made.put(obj)

    with_port("a", "10.246.1.1", 8080)
    with_port("b", "10.246.1.2", 9090)
    with_port("c", "10.246.1.3", 8080)
    backend(made, "without", "10.246.1.4")
    subsets = made_by(made.plan(KEY))
    assert [(ips(subset["addresses"]), subset["ports"]) for subset in subsets] == [
        (["10.246.1.1", "10.246.1.3"], [{"name": "http", "port": 8080, "protocol": "TCP"}]),
        (["10.246.1.2"], [{"name": "http", "port": 9090, "protocol": "TCP"}]),
    ]


def test_several_ports_of_the_same_pods_are_one_subset():
    made = Picture([Endpoints()])
    ports = [{"name": "b", "port": 81, "protocol": "TCP"}, {"name": "a", "port": 80, "protocol": "TCP"}]
    made.put(service("web", WEB, *ports))
    backend(made, "a", "10.246.1.1")
    (subset,) = made_by(made.plan(KEY))
    assert [port["name"] for port in subset["ports"]] == ["a", "b"]


def stored(picture, plan):
    """What the plan wrote, as if the API had stored it."""
    (action,) = plan.actions
    return picture.put(action.object)


def test_created_then_replaced_at_its_revision_and_left_alone_when_true(picture):
    backend(picture, "a", "10.246.1.1")
    plan = picture.plan(KEY)
    assert isinstance(plan.actions[0], Create)
    there = stored(picture, plan)
    assert not picture.plan(KEY).actions
    backend(picture, "b", "10.246.1.2")
    (replace,) = picture.plan(KEY).actions
    assert isinstance(replace, Replace)
    assert replace.object["metadata"]["resourceVersion"] == there.metadata.resource_version
    assert replace.why == "ready now: 10.246.1.2"


def test_it_goes_with_its_service_and_is_left_to_people_without_a_selector(picture):
    backend(picture, "a", "10.246.1.1")
    stored(picture, picture.plan(KEY))
    obj = service("web", {})
    picture.put(obj)
    assert not picture.plan(KEY).actions
    picture.drop("services", KEY)
    (deletion,) = picture.plan(KEY).actions
    assert isinstance(deletion, Delete)


def test_the_labels_are_the_services_and_say_who_manages_it(picture):
    obj = service("web", WEB, clusterIP="None")
    obj["metadata"]["labels"] = {"team": "a"}
    picture.put(obj)
    (create,) = picture.plan(KEY).actions
    assert create.object["metadata"]["labels"] == {
        "team": "a",
        "service.kubernetes.io/headless": "",
        "endpoints.kubernetes.io/managed-by": "endpoint-controller",
    }


def test_only_what_an_endpoint_shows_of_a_pod_wakes_it(picture):
    woken = picture.dirty["endpoint-controller"]
    woken.clear()
    backend(picture, "a", "10.246.1.1", ready=False)
    assert woken.pop() == KEY
    before = picture.view.raw("pods", "default/a")
    picture.put({**before, "status": {**before["status"], "hostIP": "10.245.1.11"}})
    assert not woken
    backend(picture, "a", "10.246.1.1", ready=True)
    assert set(woken) == {KEY}
    woken.clear()
    obj = msgspec.json.decode(msgspec.json.encode(picture.view.raw("pods", "default/a")))
    obj["metadata"]["labels"] = {"name": "db"}
    picture.put(obj)
    assert KEY in woken, "it must hear of a pod that matches no more"


def test_a_large_service_is_written_once_for_many_changes_and_a_small_one_at_once():
    assert pause_s(2, 10.0, 10.0) == pause_s(20, 10.0, 10.0) == 0
    assert 0.03 < pause_s(100, 10.0, 10.0) < 0.05 and pause_s(100, 10.0, 10.05) == 0
    assert pause_s(100_000, 10.0, 10.0) <= 1
    assert pause_s(1000, -math.inf, 10.0) == 0


def test_a_large_service_waits_for_more_endpoints_and_hardly_for_one_that_is_gone(picture):
    for number in range(60):
        backend(picture, f"p{number}", f"10.246.1.{number + 1}", ready=True)
    picture.put(picture.plan(KEY).actions[0].object)
    backend(picture, "late", "10.246.2.1", ready=True)
    assert not picture.plan(KEY).actions and 0.1 < picture.plan(KEY).again_s < 0.5
    picture.drop("pods", "default/p7")
    waits_s = picture.plan(KEY).again_s
    assert 0 < waits_s < 0.05
    picture.clock.time += waits_s + 0.001
    (action,) = picture.plan(KEY).actions
    written = {address["ip"] for subset in action.object["subsets"] for address in subset["addresses"]}
    assert "10.246.1.8" not in written and "10.246.2.1" in written


def test_a_pod_without_an_address_wakes_nobody(picture):
    woken = picture.dirty["endpoint-controller"]
    woken.clear()
    picture.put(pod("new", labels={"name": "web"}))
    picture.put(pod("new", labels={"name": "web"}, node="n1"))
    assert not woken
