"""Whatever pods come and go: nobody is missing, nobody stands twice, nobody moves without need, and it comes to rest."""

from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.controllers.endpointslices import EndpointSlices
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import Create, Delete
from labctl.sim.objects import pod, service
from labctl.sim.picture import Picture

KEY, WEB, FULL = "default/web", {"name": "web"}, 3
PODS = st.lists(st.tuples(st.integers(1, 12), st.sampled_from((True, False, None))), min_size=1, max_size=8)


def settle(picture, made):
    actions = picture.plan(KEY).actions
    for action in actions:
        if isinstance(action, Delete):
            picture.drop(action.kind, action.key)
            continue
        if isinstance(action, Create):
            action.object["metadata"]["name"] = f"web-{next(made)}"
        picture.put(action.object)
    return actions


def where(picture):
    return {
        (endpoint.addresses[0], piece.metadata.name)
        for piece in picture.view.all("endpointslices.discovery.k8s.io")
        for endpoint in piece.endpoints
    }


@settings(max_examples=100)
@given(st.lists(PODS, max_size=6))
def test_slices_hold_everybody_once(rounds):
    picture = Picture([EndpointSlices(ControllerSettings(endpoints_per_slice=FULL))])
    picture.put(service("web", WEB))
    made = iter(range(10_000))
    for changes in rounds:
        before, gone = where(picture), set()
        for number, ready in changes:
            if ready is not None:
                picture.put(pod(f"p{number}", labels=WEB, node="n1", ready=ready, ip=f"10.246.1.{number}"))
            elif picture.view.get("pods", f"default/p{number}"):
                picture.drop("pods", f"default/p{number}")
                gone.add(f"10.246.1.{number}")
        settle(picture, made)
        assert not settle(picture, made)
        after = where(picture)
        ips = sorted(ip for ip, _ in after)
        assert ips == sorted(p.status.pod_ip for p in picture.view.all("pods"))
        assert {at for at in before if at[0] not in gone} <= after, "who stayed is where it was"
        sizes = [len(piece.endpoints) for piece in picture.view.all("endpointslices.discovery.k8s.io")]
        assert max(sizes) <= FULL
        assert 0 not in sizes or sizes == [0]
