import msgspec
import pytest

from labctl.controllers.endpointslices import EndpointSlices
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import Create, Delete, Replace
from labctl.resources.kinds.discovery_v1.endpointslice import EndpointHints
from labctl.sim.objects import node, pod, service
from labctl.sim.picture import Picture

KEY = "default/web"
WEB = {"name": "web"}


class Kept(Picture):
    """A picture that carries out what the controller plans."""

    made = 0

    def settle(self):
        actions = self.plan(KEY).actions
        for action in actions:
            if isinstance(action, Delete):
                self.drop(action.kind, action.key)
                continue
            if isinstance(action, Create):
                self.made += 1
                action.object["metadata"]["name"] = f"web-{self.made}"
            self.put(action.object)
        return actions

    def slices(self):
        return list(self.view.all("endpointslices.discovery.k8s.io"))

    def backend(self, number, ready=True, **kw):
        self.put(pod(f"p{number:03}", labels=WEB, node="n1", ready=ready, ip=f"10.246.1.{number}", **kw))


def picture(**spec):
    made = Kept([EndpointSlices(ControllerSettings(endpoints_per_slice=3))])
    made.put(service("web", WEB, **spec))
    return made


def addresses(slices):
    return [[endpoint.addresses[0].rpartition(".")[2] for endpoint in piece.endpoints] for piece in slices]


def test_nobody_is_one_empty_slice():
    made = picture()
    made.settle()
    (piece,) = made.slices()
    assert piece.endpoints == () and piece.ports == ()
    assert piece.metadata.labels["kubernetes.io/service-name"] == "web"
    assert piece.metadata.labels["endpointslice.kubernetes.io/managed-by"] == "endpointslice-controller.k8s.io"
    assert piece.metadata.controller.name == "web"
    assert not made.settle(), "and it stays"


def test_slices_are_filled_before_others_are_made():
    made = picture()
    for number in range(1, 8):
        made.backend(number)
    made.settle()
    assert sorted(map(len, addresses(made.slices()))) == [1, 3, 3]
    made.backend(8)
    (action,) = made.settle()
    assert isinstance(action, Replace)
    assert sorted(map(len, addresses(made.slices()))) == [2, 3, 3]


def test_one_pods_change_rewrites_one_slice_and_moves_nobody():
    made = picture()
    for number in range(1, 7):
        made.backend(number)
    made.settle()
    before = {piece.metadata.name: addresses([piece])[0] for piece in made.slices()}
    made.backend(2, ready=False)
    (action,) = made.settle()
    assert isinstance(action, Replace)
    assert {piece.metadata.name: addresses([piece])[0] for piece in made.slices()} == before


def test_a_slice_that_lost_everybody_goes():
    made = picture()
    for number in range(1, 5):
        made.backend(number)
    made.settle()
    lonely = next(piece for piece in made.slices() if len(piece.endpoints) == 1)
    made.drop("pods", f"default/{lonely.endpoints[0].target_ref.name}")
    (action,) = made.settle()
    assert isinstance(action, Delete) and action.key == lonely.metadata.key


def test_who_leaves_is_terminating_and_still_serving():
    made = picture()
    made.backend(1, deletionTimestamp="2026-01-01T00:00:00Z")
    made.backend(2, ready=False)
    made.settle()
    (piece,) = made.slices()
    leaving, unready = piece.endpoints
    assert (leaving.conditions.ready, leaving.conditions.serving, leaving.conditions.terminating) == (False, True, True)
    assert (unready.conditions.ready, unready.conditions.serving, unready.conditions.terminating) == (False, False, False)


@pytest.mark.parametrize(
    ("distribution", "hints"),
    [
        (None, None),
        ("PreferClose", {"forZones": [{"name": "a"}]}),
        ("PreferSameZone", {"forZones": [{"name": "a"}]}),
        ("PreferSameNode", {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]}),
    ],
)
def test_zones_and_hints_follow_the_node_and_the_service(distribution, hints):
    made = picture(**({"trafficDistribution": distribution} if distribution else {}))
    made.backend(1)
    made.backend(2, ready=False)
    made.settle()
    assert all(endpoint.zone == "" for endpoint in made.slices()[0].endpoints)
    there = node("n1")
    there["metadata"]["labels"] = {"topology.kubernetes.io/zone": "a"}
    made.dirty["endpointslice-controller"].clear()
    made.put(there)
    assert set(made.dirty["endpointslice-controller"]) == {KEY}, "a node's zone concerns the Services of its pods"
    made.settle()
    ready, unready = made.slices()[0].endpoints
    assert ready.zone == unready.zone == "a" and unready.hints is None
    assert ready.hints == (msgspec.convert(hints, EndpointHints) if hints else None)


def test_pods_with_other_ports_have_slices_of_their_own():
    made = Kept([EndpointSlices()])
    made.put(service("web", WEB, {"port": 80, "protocol": "TCP", "targetPort": "http"}))
    for number, port in ((1, 8080), (2, 9090)):
        obj = pod(f"p{number}", labels=WEB, node="n1", ready=True, ip=f"10.246.1.{number}")
        obj["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": port, "protocol": "TCP"}]
        made.put(obj)
    made.settle()
    assert sorted(piece.ports[0].port for piece in made.slices()) == [8080, 9090]
    assert not made.settle()


def test_slices_go_with_their_service_and_others_are_left_alone():
    made = picture()
    made.backend(1)
    made.settle()
    foreign = {
        "kind": "EndpointSlice",
        "metadata": {"name": "mine", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
    }
    made.put(foreign)
    made.drop("services", KEY)
    made.settle()
    assert [piece.metadata.name for piece in made.slices()] == ["mine"]
