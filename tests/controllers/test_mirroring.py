import pytest

from labctl.controllers.endpointslices import EndpointSlices
from labctl.controllers.mirroring import Mirroring
from labctl.reconcile.plan import Create, Delete
from labctl.sim.objects import service
from labctl.sim.picture import Picture

KEY = "default/db"
NAME = "endpointslicemirroring-controller"


@pytest.fixture
def picture():
    made = Picture([Mirroring(), EndpointSlices()])
    made.put(service("db", {}))
    return made


def endpoints(*ready, not_ready=(), labels=None):
    subset = {"addresses": [{"ip": ip} for ip in ready], "ports": [{"port": 5432, "protocol": "TCP"}]}
    if not_ready:
        subset["notReadyAddresses"] = [{"ip": ip} for ip in not_ready]
    return {"kind": "Endpoints", "metadata": {"name": "db", "labels": labels or {}}, "subsets": [subset]}


def settle(picture):
    actions = picture.plan(KEY, NAME).actions
    for number, action in enumerate(actions):
        if isinstance(action, Delete):
            picture.drop(action.kind, action.key)
            continue
        if isinstance(action, Create):
            action.object["metadata"]["name"] = f"db-{number}"
        picture.put(action.object)
    return actions


def slices(picture):
    return list(picture.view.all("endpointslices.discovery.k8s.io"))


def test_endpoints_kept_by_hand_are_shown_as_slices(picture):
    picture.put(endpoints("192.0.2.1", not_ready=["192.0.2.2"]))
    settle(picture)
    (piece,) = slices(picture)
    assert [(e.addresses, e.conditions.ready) for e in piece.endpoints] == [(("192.0.2.1",), True), (("192.0.2.2",), False)]
    assert piece.ports[0].port == 5432
    assert piece.service == "db"
    assert piece.metadata.controller.kind == "Endpoints"
    assert not settle(picture)
    picture.put(endpoints("192.0.2.3"))
    settle(picture)
    assert [e.addresses[0] for e in slices(picture)[0].endpoints] == ["192.0.2.3"]


def test_a_service_with_a_selector_or_a_label_that_says_so_has_no_mirror(picture):
    picture.put(endpoints("192.0.2.1", labels={"endpointslice.kubernetes.io/skip-mirror": "true"}))
    assert not settle(picture)
    picture.put(endpoints("192.0.2.1"))
    settle(picture)
    assert slices(picture)
    picture.put(service("db", {"name": "db"}))
    settle(picture)
    assert not slices(picture)


def test_the_mirror_goes_with_the_endpoints_and_nobody_elses_slices_do(picture):
    picture.put(endpoints("192.0.2.1"))
    settle(picture)
    assert not picture.plan(KEY, "endpointslice-controller").actions
    picture.drop("endpoints", KEY)
    settle(picture)
    assert not slices(picture)
