"""The view against a model that keeps a plain dict and looks at everything."""

from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.sim.objects import pod
from labctl.sim.picture import Picture

NAMES = st.sampled_from([f"p{number}" for number in range(6)])
LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"))
CHANGES = st.lists(st.tuples(NAMES, st.none() | LABELS, st.integers(0, 3)), max_size=40)


class Probe:
    name = "probe"
    kind = "pods"
    watches = {}
    indexes = {("pods", "label"): lambda view: [f"{k}={v}" for k, v in view.metadata.labels.items()]}


@settings(max_examples=150)
@given(CHANGES)
def test_every_answer_is_what_looking_at_everything_gives(changes):
    picture = Picture([Probe()])
    model: dict[str, dict[str, str]] = {}
    since: dict[tuple[str, str], float] = {}
    for name, labels, passed_s in changes:
        picture.clock.time += passed_s
        key = f"default/{name}"
        if labels is not None:
            picture.put(pod(name, labels=labels))
            model[key] = labels
        elif model.pop(key, None) is not None:
            picture.drop("pods", key)
        holds = {(f"{k}={v}", key) for k, v in model.get(key, {}).items()}
        since = {at: time for at, time in since.items() if at[1] != key or at in holds}
        for at in holds:
            since.setdefault(at, picture.clock.time)
    view = picture.view
    assert [p.metadata.key for p in view.all("pods")] == sorted(model)
    for value in ("a=1", "a=2", "b=1", "b=2"):
        wanted = sorted(key for key, labels in model.items() if value in {f"{k}={v}" for k, v in labels.items()})
        assert [p.metadata.key for p in view.by("pods", "label", value)] == wanted
        assert view.count("pods", "label", value) == len(wanted)
        assert all(view.since("pods", "label", value, key) == since[value, key] for key in wanted)
