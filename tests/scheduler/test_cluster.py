"""Whatever comes and goes, in whatever order, the numbers are what adding everything up would give."""

from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.reconcile.plan import Bind
from labctl.resources.quantities import to_bytes, to_millicores
from labctl.scheduler.scheduler import Scheduler
from labctl.sim.objects import node, pod
from labctl.sim.picture import Picture

NODES = ("n1", "n2", "n3")
PODS = tuple(f"p{number}" for number in range(5))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("node", "no node", "pending", "bound", "finished", "gone", "plan", "plan and bind")),
        st.sampled_from(PODS),
        st.sampled_from(NODES),
        st.sampled_from(("100m", "300m", "600m")),
    ),
    max_size=40,
)


def step(picture, decided, what, name, where, cpu):
    key = f"default/{name}"
    there = picture.view.get("pods", key)
    bound = there.spec.node_name if there else ""
    if what == "node":
        picture.put(node(where))
    elif what == "no node" and picture.view.get("nodes", where):
        picture.drop("nodes", where)
    elif what == "pending" and there is None:
        picture.put(pod(name, cpu=cpu))
    elif what == "bound" and there is None:
        picture.put(pod(name, node=where, cpu=cpu))
    elif what == "finished" and bound:
        picture.put({**picture.view.raw("pods", key), "status": {"phase": "Succeeded"}})
    elif what == "gone" and there is not None:
        decided.pop(key, None)
        picture.drop("pods", key)
    elif what.startswith("plan") and there is not None and not bound:
        picture.clock.time += 20
        decided.pop(key, None)
        actions = picture.plan(key).actions
        if actions and isinstance(actions[0], Bind):
            decided[key] = actions[0].node
            if what == "plan and bind":
                obj = picture.view.raw("pods", key)
                obj["spec"]["nodeName"] = decided.pop(key)
                picture.put(obj)


@settings(max_examples=150)
@given(STEPS)
def test_the_numbers_are_what_adding_up_gives_and_no_node_is_overfull(steps):
    scheduler = Scheduler()
    picture = Picture([scheduler])
    decided: dict[str, str] = {}
    for one in steps:
        step(picture, decided, *one)
    wanted = {name: [0, 0] for name in NODES}
    for there in picture.view.all("pods"):
        where = there.spec.node_name or decided.get(there.metadata.key, "")
        if where and not there.finished:
            wanted[where][0] += to_millicores(there.spec.containers[0].resources.requests["cpu"])
            wanted[where][1] += 1
    for state in scheduler._cluster.from_turn(0):
        assert [state.used_millicores, state.placed] == wanted[state.name]
        assert state.millicores == 1000 and state.bytes == to_bytes("1Gi")
