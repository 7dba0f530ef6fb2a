"""Server-side apply and managedFields: Kubernetes' documented behaviour, its words, and that applying twice is applying once."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import ApiError
from labctl.resources.kind import Object
from labctl.resources.patches import fieldset, managed
from labctl.resources.patches.apply import apply
from labctl.resources.patches.managed import track
from labctl.resources.registry import builtin_registry
from labctl.resources.schema.defaults import apply_defaults
from labctl.resources.schema.definitions import builtin_schema

SCHEMA = builtin_schema()
KINDS = builtin_registry()
CONTROLLERS, PODS, MAPS, SERVICES = (KINDS[name] for name in ("replicationcontrollers", "pods", "configmaps", "services"))
POD_TYPE = SCHEMA.type_of("", "v1", "Pod")
T1, T2, T3 = (f"2026-01-0{day}T00:00:00Z" for day in (1, 2, 3))


def controller(**spec: Any) -> Object:
    template = {
        "metadata": {"labels": {"name": "web"}},
        "spec": {"containers": [{"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80}]}]},
    }
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"template": template, **spec},
    }


def applied(
    live: Object | None, config: Object, manager: str = "me", now: str = T1, force: bool = False, kind: Any = CONTROLLERS
) -> Object:
    """As a write does it: apply, then defaults."""
    obj = apply(SCHEMA, kind, live, copy.deepcopy(config), manager=manager, now=now, force=force)
    apply_defaults(SCHEMA, kind, obj)
    return obj


def updated(live: Object, manager: str, now: str = T2, **spec: Any) -> Object:
    new = copy.deepcopy(live)
    new["spec"].update(spec)
    track(SCHEMA, CONTROLLERS, live, new, manager=manager, now=now)
    return new


def owners(obj: Object) -> dict[str, set[str]]:
    """{manager: the paths it owns}."""
    managers = managed.read(obj["metadata"].get("managedFields", ()))
    return {manager.name: {fieldset.show(path) for path in claimed.fields} for manager, claimed in managers.items()}


def test_the_first_apply_creates_and_owns_what_it_says() -> None:
    obj = applied(None, controller(replicas=2))
    [entry] = obj["metadata"]["managedFields"]
    assert entry == {
        "manager": "me",
        "operation": "Apply",
        "apiVersion": "v1",
        "time": T1,
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:spec": {
                "f:replicas": {},
                "f:template": {
                    "f:metadata": {"f:labels": {"f:name": {}}},
                    "f:spec": {
                        "f:containers": {
                            'k:{"name":"nginx"}': {
                                ".": {},
                                "f:image": {},
                                "f:name": {},
                                "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
                            }
                        }
                    },
                },
            }
        },
    }


def test_applying_twice_changes_nothing() -> None:
    obj = applied(None, controller(replicas=2))
    assert applied(obj, controller(replicas=2), now=T2) == obj


def test_a_conflict_in_kubernetes_words() -> None:
    obj = updated(applied(None, controller(replicas=2)), "kubectl-client-side-apply", replicas=5)
    with pytest.raises(ApiError) as refused:
        applied(obj, controller(replicas=3))
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    assert refused.value.message == 'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using v1: .spec.replicas'
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl-client-side-apply" using v1', "field": ".spec.replicas"}
    assert refused.value.details == {"causes": [cause]}


def test_several_conflicts() -> None:
    obj = applied(None, controller(replicas=2, minReadySeconds=1), manager="alice")
    obj = updated(obj, "bob", selector={"name": "web", "x": "y"})
    with pytest.raises(ApiError) as refused:
        applied(obj, controller(replicas=3, minReadySeconds=2, selector={"name": "web"}))
    assert refused.value.message == (
        'Apply failed with 3 conflicts: conflicts with "alice":\n- .spec.minReadySeconds\n- .spec.replicas\nconflicts with "bob" using v1:\n- .spec.selector'
    )


def test_force_takes_the_field() -> None:
    obj = updated(applied(None, controller(replicas=2)), "scaler", replicas=5)
    forced = applied(obj, controller(replicas=3), now=T3, force=True)
    assert forced["spec"]["replicas"] == 3
    assert owners(forced).keys() == {"me"}
    assert forced["metadata"]["managedFields"][0]["time"] == T3 or ".spec.replicas" in owners(obj)["me"]


def test_the_same_value_is_shared_not_contested() -> None:
    obj = applied(None, controller(replicas=2), manager="alice")
    obj = applied(obj, controller(replicas=2), manager="bob")
    assert ".spec.replicas" in owners(obj)["alice"] & owners(obj)["bob"]
    obj = applied(obj, controller(), manager="alice")
    assert obj["spec"]["replicas"] == 2, "bob still wants it"
    obj = applied(obj, controller(), manager="bob")
    assert obj["spec"]["replicas"] == 1, "nobody does: the default"


def test_an_item_that_is_dropped_goes_with_its_defaults() -> None:
    config = controller()
    more = copy.deepcopy(config)
    more["spec"]["template"]["spec"]["containers"].append({"name": "side", "image": "busybox"})
    obj = applied(applied(None, more), config)
    assert [container["name"] for container in obj["spec"]["template"]["spec"]["containers"]] == ["nginx"]


def test_an_item_of_somebody_else_stays() -> None:
    obj = applied(None, controller(), manager="alice")
    config = controller()
    config["spec"]["template"]["spec"]["containers"] = [{"name": "side", "image": "busybox"}]
    obj = applied(obj, config, manager="bob")
    assert [container["name"] for container in obj["spec"]["template"]["spec"]["containers"]] == ["side", "nginx"]
    config["spec"]["template"]["spec"].pop("containers")
    obj = applied(obj, config, manager="bob")
    assert [container["name"] for container in obj["spec"]["template"]["spec"]["containers"]] == ["nginx"]


def test_map_keys_are_owned_one_by_one_and_atomic_values_whole() -> None:
    def config(**data: str) -> Object:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "finalizers": ["a.b/c"]}, "data": data}

    obj = applied(None, config(a="1"), manager="alice", kind=MAPS)
    obj = applied(obj, config(b="2"), manager="bob", kind=MAPS)
    assert obj["data"] == {"a": "1", "b": "2"}
    assert owners(obj) == {"alice": {".data.a", '.metadata.finalizers[="a.b/c"]'}, "bob": {".data.b", '.metadata.finalizers[="a.b/c"]'}}
    obj = applied(obj, config(), manager="alice", kind=MAPS)
    assert obj["data"] == {"b": "2"}

    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}
    made = applied(None, service, kind=SERVICES)
    assert {".spec.selector", '.spec.ports[port=80,protocol="TCP"].port'} <= owners(made)["me"]


def test_what_was_there_before_the_first_apply_belongs_to_somebody() -> None:
    live = controller(replicas=2)
    apply_defaults(SCHEMA, CONTROLLERS, live)
    live["metadata"]["creationTimestamp"] = T1
    obj = applied(live, controller(replicas=2), now=T2)
    assert owners(obj).keys() == {"me", "before-first-apply"}
    with pytest.raises(ApiError, match='conflict with "before-first-apply" using v1: .spec.replicas'):
        applied(live, controller(replicas=3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"foo": 1}, ".spec.foo: field not declared in schema"),
        ({"replicas": "two"}, '.spec.replicas: expected numeric (int or float), got &value.valueUnstructured{Value:"two"}'),
        ({"selector": {"a": 1}}, ".spec.selector.a: expected string, got &value.valueUnstructured{Value:1}"),
        ({"replicas": 2**40}, "json: cannot unmarshal number 1099511627776 into Go struct field ReplicationControllerSpec.spec.replicas of type int32"),
        ({"template": {"spec": {"containers": "x"}}}, ".spec.template.spec.containers: expected list, got &{x}"),
        ({"template": {"spec": {"containers": [{"image": "x"}]}}},
         '.spec.template.spec.containers: element 0: associative list with keys has an element that omits key field "name" (and doesn\'t have default value)'),
        ({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}], "x": 1}}},
         'errors:\n  .spec.template.spec.containers: duplicate entries for key [name="a"]\n  .spec.template.spec.x: field not declared in schema'),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_schema(change: Object, words: str) -> None:
    config = controller()
    config["spec"].update(change)
    with pytest.raises(ApiError) as refused:
        applied(None, config)
    assert refused.value.message == f"failed to create typed patch object (default/web; /v1, Kind=ReplicationController): {words}"


def test_kubectl_may_take_over_what_it_applied_itself() -> None:
    live = controller(replicas=2)
    last = json.dumps(controller(replicas=2, minReadySeconds=1))
    live["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": last}
    track(SCHEMA, CONTROLLERS, None, live, manager="kubectl-client-side-apply", now=T1)
    obj = applied(live, controller(replicas=3), manager="kubectl", now=T2)
    assert obj["spec"]["replicas"] == 3
    with pytest.raises(ApiError, match="1 conflict"):
        applied(live, controller(replicas=3), manager="another")
    with pytest.raises(ApiError, match=".spec.replicas"):
        applied(updated(live, "scaler", replicas=9), controller(replicas=3), manager="kubectl")


LAST = "kubectl.kubernetes.io/last-applied-configuration"


def test_kubectls_apply_by_server_keeps_the_annotation_of_its_apply_by_client_in_step() -> None:
    live = controller(replicas=2)
    live["metadata"]["annotations"] = {LAST: json.dumps(controller(replicas=2))}
    track(SCHEMA, CONTROLLERS, None, live, manager="kubectl-client-side-apply", now=T1)
    config = controller(replicas=3)
    config["metadata"]["annotations"] = {"a": "b"}
    obj = applied(live, config, manager="kubectl", now=T2)
    assert obj["metadata"]["annotations"][LAST] == json.dumps(config, sort_keys=True, separators=(",", ":")) + "\n"
    assert applied(obj, config, manager="kubectl", now=T3) == obj

    other = applied(live, controller(replicas=3), manager="another", now=T2, force=True)
    assert other["metadata"]["annotations"] == live["metadata"]["annotations"]
    assert "annotations" not in applied(None, controller(replicas=3), manager="kubectl")["metadata"]


def test_an_annotation_that_would_be_too_long_is_taken_away() -> None:
    live: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "annotations": {LAST: "{}"}}}
    long = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"text": "x" * 262_144}}
    assert LAST not in applied(live, long, manager="kubectl", kind=MAPS)["metadata"].get("annotations", {})


def test_what_no_apply_may_leave_out_or_bring() -> None:
    with pytest.raises(ApiError) as refused:
        applied(None, controller(), manager="")
    assert refused.value.message == 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
    with pytest.raises(ApiError, match="metadata.managedFields must be nil"):
        applied(None, {**controller(), "metadata": {"name": "x", "managedFields": [{"manager": "x"}]}})
    with pytest.raises(ApiError, match="Incorrect version specified in apply patch. Specified patch version: v2, expected: v1"):
        applied(None, {**controller(), "apiVersion": "v2"})
    with pytest.raises(ApiError, match="error decoding YAML: json: cannot unmarshal string into Go value"):
        applied(None, "hello")  # type: ignore[arg-type]


# ---- ordinary updates


def test_an_update_owns_what_it_changed_and_others_lose_it() -> None:
    obj = updated(applied(None, controller(replicas=2)), "scaler", replicas=5)
    assert owners(obj)["scaler"] == {".spec.replicas"}
    assert ".spec.replicas" not in owners(obj)["me"]


def test_an_update_that_changes_nothing_moves_no_time() -> None:
    obj = updated(applied(None, controller(replicas=2)), "scaler", replicas=5)
    assert updated(obj, "scaler", now=T3) == obj
    assert updated(obj, "somebody", now=T3) == obj


def test_what_is_removed_is_owned_by_nobody() -> None:
    live = applied(None, controller(replicas=2, minReadySeconds=3))
    new = copy.deepcopy(live)
    del new["spec"]["minReadySeconds"]
    track(SCHEMA, CONTROLLERS, live, new, manager="you", now=T2)
    assert owners(new).keys() == {"me"} and ".spec.minReadySeconds" not in owners(new)["me"]


def test_a_created_object_as_kubernetes_shows_it() -> None:
    spec = {"containers": [{"name": "c", "image": "i", "env": [{"name": "A"}]}]}
    pod: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": {"run": "x"}}, "spec": spec}
    track(SCHEMA, PODS, None, pod, manager="kubectl-run", now=T1)
    assert pod["metadata"]["managedFields"][0]["fieldsV1"] == {
        "f:metadata": {"f:labels": {".": {}, "f:run": {}}},
        "f:spec": {
            "f:containers": {
                'k:{"name":"c"}': {".": {}, "f:env": {".": {}, 'k:{"name":"A"}': {".": {}, "f:name": {}}}, "f:image": {}, "f:name": {}}
            }
        },
    }


def test_status_and_spec_belong_to_their_own_endpoints() -> None:
    live: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}}
    new = {**copy.deepcopy(live), "status": {"phase": "Running"}}
    track(SCHEMA, PODS, live, new, manager="agent", now=T1, subresource="status")
    assert new["metadata"]["managedFields"][0]["subresource"] == "status"
    assert owners(new) == {"agent": {".status.phase"}}
    with pytest.raises(ApiError, match='conflict with "agent" with subresource "status" using v1: .status.phase'):
        apply(
            SCHEMA,
            PODS,
            new,
            {"apiVersion": "v1", "metadata": {"name": "x"}, "status": {"phase": "Failed"}},
            manager="me",
            now=T2,
            subresource="status",
        )


def test_a_client_may_forget_the_managers() -> None:
    live = applied(None, controller())
    new = copy.deepcopy(live)
    new["metadata"]["managedFields"] = [{}]
    track(SCHEMA, CONTROLLERS, live, new, manager="x", now=T2)
    assert "managedFields" not in new["metadata"]


def test_updaters_are_bounded() -> None:
    obj = controller()
    for number in range(15):
        new = copy.deepcopy(obj)
        new["metadata"].setdefault("annotations", {})[f"a{number}"] = ""
        track(SCHEMA, CONTROLLERS, obj, new, manager=f"m{number:02}", now=f"2026-01-01T00:00:{number:02}Z")
        obj = new
    named = owners(obj)
    assert len(named) == 10 and "ancient-changes" in named
    assert {path for paths in named.values() for path in paths} >= {f".metadata.annotations.a{number}" for number in range(15)}


# ---- properties

PORTS = st.lists(st.integers(1, 3), unique=True, max_size=3).map(lambda ports: [{"containerPort": port} for port in ports])
CONTAINER = st.fixed_dictionaries(
    {"image": st.sampled_from("xy")}, optional={"ports": PORTS, "args": st.lists(st.sampled_from("pq"), max_size=2)}
)
CONTAINERS = st.dictionaries(st.sampled_from("abc"), CONTAINER, max_size=3).map(
    lambda found: [{"name": name, **rest} for name, rest in found.items()]
)
LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"))
FINALIZERS = st.lists(st.sampled_from("fg"), unique=True)
SELECTOR = st.dictionaries(st.sampled_from("ab"), st.just("x"))
METADATA = st.fixed_dictionaries({}, optional={"labels": LABELS, "finalizers": FINALIZERS})
SPEC = st.fixed_dictionaries({}, optional={"containers": CONTAINERS, "hostname": st.sampled_from("xy"), "nodeSelector": SELECTOR})
CONFIG = st.fixed_dictionaries({}, optional={"metadata": METADATA, "spec": SPEC})


def config_of(parts: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        **copy.deepcopy(parts),
        "metadata": {"name": "x", **copy.deepcopy(parts.get("metadata", {}))},
    }


STEPS = st.lists(st.tuples(st.sampled_from(["alice", "bob"]), CONFIG), min_size=1, max_size=5)


@settings(max_examples=200)
@given(STEPS)
def test_any_story_of_applies(steps: list[tuple[str, Object]]) -> None:
    obj: Object | None = None
    for manager, parts in steps:
        config = config_of(parts)
        config["metadata"]["annotations"] = {manager: ""}  # who owns nothing is forgotten
        obj = applied(obj, config, manager, force=True, kind=PODS)
        assert applied(obj, config, manager, now=T3, kind=PODS) == obj, "twice is once, and meets no conflict"
        wanted = managed.owned_through(PODS, "", fieldset.owned(POD_TYPE, config))
        there = managed.owned_through(PODS, "", fieldset.owned(POD_TYPE, obj))
        assert wanted <= there | {path[:length] for path in there for length in range(1, len(path))}, "what was asked for is there"
        for name, paths in owners(obj).items():
            assert paths, f"{name} owns nothing and is still listed"


@given(CONFIG)
def test_one_managers_last_word_is_all_that_is_left(parts: Object) -> None:
    """Apply anything, then apply nothing: only what nobody ever owned (defaults) remains."""
    empty = applied(None, config_of({}), kind=PODS)
    obj = applied(applied(None, config_of(parts), kind=PODS), config_of({}), kind=PODS)
    obj["spec"] = {key: value for key, value in obj["spec"].items() if value != []}
    assert {**obj, "metadata": {"name": "x"}} == {**empty, "metadata": {"name": "x"}}


@given(CONFIG)
def test_fields_survive_their_encoding(parts: Object) -> None:
    fields = fieldset.owned(POD_TYPE, config_of(parts))
    assert frozenset(fieldset.decode(fieldset.encode(fields))) == fields


@given(CONFIG, CONFIG)
def test_a_comparison_looks_the_same_from_both_sides(old: Object, new: Object) -> None:
    there, back = fieldset.compare(POD_TYPE, old, new), fieldset.compare(POD_TYPE, new, old)
    assert there.modified == back.modified
    assert there.added <= back.removed and back.added <= there.removed
    assert there.added.isdisjoint(there.modified | there.removed)
    assert fieldset.compare(POD_TYPE, old, copy.deepcopy(old)) == fieldset.Comparison(frozenset(), frozenset(), frozenset())


@pytest.mark.parametrize(
    "odd", [{"f:data": 5}, {"f:data": {"k:{": {}}}, {"f:data": {"k:[]": {}}}, {"f:data": {"i:x": {}}}, {"x": {}}, {"f:a": {"f:b": "x"}}]
)
def test_an_entry_of_managed_fields_that_is_none_is_skipped(odd: Any) -> None:
    good = {"manager": "m", "fieldsV1": {"f:data": {".": {}, "f:a": {}, 'k:{"name":"b"}': {}, 'v:"c"': {}, "i:4": {}}}}
    assert [manager.name for manager in managed.read([{"manager": "odd", "fieldsV1": odd}, good])] == ["m"]
