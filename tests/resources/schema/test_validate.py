"""Decoding: what a real API server says to each kind of bad body, and that the quick way and the exact one agree."""

from __future__ import annotations

import copy
import json
import timeit
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import ApiError
from labctl.resources.kind import Kind, Object
from labctl.resources.registry import builtin_registry
from labctl.resources.schema import quick
from labctl.resources.schema.defaults import apply_defaults
from labctl.resources.schema.definitions import META, Schema, Type, builtin_schema, official
from labctl.resources.schema.validate import decode, decode_patched
from labctl.resources.schema.walk import check

SCHEMA = builtin_schema()
KINDS = builtin_registry()
PODS, CONTROLLERS, SERVICES, SECRETS = (KINDS[name] for name in ("pods", "replicationcontrollers", "services", "secrets"))

POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "containers": [
            {
                "name": "nginx",
                "image": "nginx",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "A", "value": "1"}],
                "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
                "readinessProbe": {"httpGet": {"port": "http"}},
            }
        ],
        "terminationGracePeriodSeconds": 5,
    },
}


def changed(path: str, value: Any, of: Object = POD) -> bytes:
    """The body of `of` with one value at a dotted path set to something else."""
    body = copy.deepcopy(of)
    at: Any = body
    *parts, last = path.split(".")
    for part in parts:
        at = at[int(part)] if part.isdigit() else at[part]
    at[int(last) if last.isdigit() else last] = value
    return json.dumps(body).encode()


def refusal(body: bytes, kind: Kind = PODS) -> str:
    with pytest.raises(ApiError) as refused:
        decode(SCHEMA, kind, body, "Strict")
    assert (refused.value.code, refused.value.reason) == (400, "BadRequest")
    return refused.value.message


def test_a_good_body_comes_back_as_it_was() -> None:
    assert decode(SCHEMA, PODS, json.dumps(POD).encode()) == (POD, [])


def test_a_dict_is_taken_too_and_left_alone() -> None:
    sent = {**POD, "nonsense": None}
    obj, warnings = decode(SCHEMA, PODS, sent, "Warn")
    assert obj == POD and warnings == ['unknown field "nonsense"']
    assert "nonsense" in sent and obj["spec"] is not sent["spec"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.foo", 1, 'strict decoding error: unknown field "spec.foo"'),
        ("spec.containers.0.imag", "x", 'strict decoding error: unknown field "spec.containers[0].imag"'),
        ("spec.containers.0.env.0.valuefrom", {}, 'strict decoding error: unknown field "spec.containers[0].env[0].valuefrom"'),
        ("spec.containers.0.Image", "x", 'strict decoding error: unknown field "spec.containers[0].Image"'),
        ("spec", [], "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
        ("spec.containers", "x", "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container"),
        ("spec.containers.0", "x", "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type v1.Container"),
        ("spec.containers.0.env.0.value", 1, "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string"),
        ("spec.containers.0.args", [1], "json: cannot unmarshal number into Go struct field Container.spec.containers.args of type string"),
        ("spec.containers.0.ports.0.containerPort", "80", "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
        ("spec.containers.0.ports.0.containerPort", 2**31,
         "json: cannot unmarshal number 2147483648 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
        ("spec.terminationGracePeriodSeconds", 1.5, "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64"),
        ("spec.hostNetwork", "yes", "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        ("spec.restartPolicy", 1, "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy"),
        ("spec.nodeSelector", {"a": True}, "json: cannot unmarshal bool into Go struct field PodSpec.spec.nodeSelector of type string"),
        ("metadata.labels.app", 1, "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"),
        ("metadata.labels", "x", "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string"),
        ("spec.containers.0.readinessProbe.httpGet.port", True,
         "json: cannot unmarshal bool into Go struct field HTTPGetAction.spec.containers.readinessProbe.httpGet.port of type int32"),
        ("spec.containers.0.resources.limits.cpu", "1 core", "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        ("spec.containers.0.resources.limits.cpu", "1i", "unable to parse quantity's suffix"),
        ("metadata.creationTimestamp", "yesterday", 'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"'),
        ("metadata.creationTimestamp", "2026-13-01T00:00:00Z", 'parsing time "2026-13-01T00:00:00Z": month out of range'),
        ("metadata.creationTimestamp", "2026-01-01", 'parsing time "2026-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"'),
        ("metadata.creationTimestamp", 5, "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string"),
    ],
)  # fmt: skip
def test_bad_fields(path: str, value: Any, words: str) -> None:
    assert refusal(changed(path, value)) == f'Pod in version "v1" cannot be handled as a Pod: {words}'


def test_the_replicas_of_a_controller() -> None:
    body = b'{"kind":"ReplicationController","apiVersion":"v1","spec":{"replicas":"two"}}'
    assert refusal(body, CONTROLLERS) == (
        'ReplicationController in version "v1" cannot be handled as a ReplicationController: '
        "json: cannot unmarshal string into Go struct field ReplicationControllerSpec.spec.replicas of type int32"
    )


def test_all_unknown_and_duplicate_fields_are_named_at_once() -> None:
    body = b'{"apiVersion":"v1","kind":"Pod","spec":{"nodeName":"a","nodeName":"b","x":{"y":1},"containers":[{"name":"c","name":"c"}]}, "foo": 1}'
    said = 'unknown field "spec.x", unknown field "foo", duplicate field "spec.nodeName", duplicate field "spec.containers[0].name"'
    assert refusal(body) == f'Pod in version "v1" cannot be handled as a Pod: strict decoding error: {said}'


def test_a_wrong_type_outranks_unknown_fields() -> None:
    assert "strict decoding" not in refusal(b'{"kind":"Pod","apiVersion":"v1","foo":1,"spec":{"hostname":2}}')


def test_warnings_and_silence() -> None:
    body = b'{"kind":"Pod","apiVersion":"v1","foo":1,"spec":{"hostname":"a","hostname":"b"}}'
    kept = {"kind": "Pod", "apiVersion": "v1", "spec": {"hostname": "b"}}
    assert decode(SCHEMA, PODS, body, "Warn") == (kept, ['unknown field "foo"', 'duplicate field "spec.hostname"'])
    assert decode(SCHEMA, PODS, body, "Ignore") == (kept, [])


WANTED = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "unexpected end of JSON input (<empty>)"),
        (b'{"kind":"Pod","apiVersion":"v1",', 'unexpected end of JSON input ({"kind":"Pod","apiVersion":"v1 ...)'),
        (b'{"kind":"Pod', 'unexpected end of JSON input ({"kind":"Pod)'),
        (b"kind: Pod", "invalid character 'k' looking for beginning of value (6b696e643a20506f64)"),
        (b'{"a" 1}', "invalid character '1' after object key ({\"a\" 1})"),
        (b'{"a":1 "b"}', 'invalid character \'"\' after object key:value pair ({"a":1 "b"})'),
        (b'{"a":[1 2]}', "invalid character '2' after array element ({\"a\":[1 2]})"),
        (b'{"a":NaN}', "invalid character 'N' looking for beginning of value ({\"a\":NaN})"),
        (b'{"a":"\xff"}', 'invalid character \'\u00ff\' looking for beginning of value ({"a":"\ufffd"})'),
        (b"{} x", "invalid character 'x' after top-level value ({} x)"),
        (b"{a:1}", "invalid character 'a' looking for beginning of object key string ({a:1})"),
        (b"[1]", f"json: cannot unmarshal array into Go value of type {WANTED} (5b315d)"),
        (b'{"kind":1}', 'json: cannot unmarshal number into Go struct field .kind of type string ({"kind":1})'),
    ],
)
def test_what_is_no_object(body: bytes, words: str) -> None:
    assert (
        refusal(body) == f"the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: {words}"
    )


def test_another_kind_or_version() -> None:
    assert refusal(b'{"kind":"Foo","apiVersion":"v1"}') == (
        'Foo in version "v1" cannot be handled as a Pod: no kind "Foo" is registered for version "v1" in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"'
    )
    assert refusal(b'{"kind":"Service","apiVersion":"v1"}') == (
        'Service in version "v1" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown conversion'
    )
    assert 'no kind "Pod" is registered for version "apps/v1"' in refusal(b'{"kind":"Pod","apiVersion":"apps/v1"}')
    assert refusal(b'{"kind":"Pod","apiVersion":"a/b/c"}').startswith(
        "the object provided is unrecognized (must be of type Pod): unexpected GroupVersion string: a/b/c"
    )


def test_the_url_says_what_the_body_leaves_out() -> None:
    assert decode(SCHEMA, PODS, b"{}")[0] == {"apiVersion": "v1", "kind": "Pod"}


def test_the_stored_form() -> None:
    spec = {
        "nodeName": None,
        "containers": [None, {"name": "c", "args": [None], "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "x": None}}}],
        "nodeSelector": {"a": None},
    }
    body = {"metadata": {"creationTimestamp": "2026-01-01T02:00:00.5+02:00", "labels": None}, "spec": spec}
    obj, _ = decode(SCHEMA, PODS, json.dumps(body).encode())
    assert obj["metadata"] == {"creationTimestamp": "2026-01-01T00:00:00Z"}
    limits = {"cpu": "500m", "memory": "1Gi", "x": "0"}
    assert obj["spec"] == {"containers": [{}, {"name": "c", "args": [""], "resources": {"limits": limits}}], "nodeSelector": {"a": ""}}


def test_micro_times_keep_their_fraction() -> None:
    obj, _ = decode(SCHEMA, KINDS["leases.coordination.k8s.io"], b'{"spec":{"renewTime":"2026-01-01T02:00:00.1234567+02:00"}}')
    assert obj["spec"]["renewTime"] == "2026-01-01T00:00:00.123456Z"


def test_secrets_hold_base64() -> None:
    assert decode(SCHEMA, SECRETS, b'{"data":{"a":"YWI=","b":"","c":"YW\\nI="}}')[0]["data"]["a"] == "YWI="
    assert refusal(b'{"kind":"Secret","apiVersion":"v1","data":{"a":"pass word"}}', SECRETS).endswith("illegal base64 data at input byte 4")


def test_our_own_kind_is_as_strict() -> None:
    assert refusal(b'{"kind":"Machine","apiVersion":"labctl.internal/v1","spec":{"ram":"1Gi"}}', KINDS["machines.labctl.internal"]) == (
        'Machine in version "v1" cannot be handled as a Machine: strict decoding error: unknown field "spec.ram"'
    )


def test_a_patchs_result_is_invalid_rather_than_bad() -> None:
    with pytest.raises(ApiError) as refused:
        decode_patched(SCHEMA, PODS, {"spec": {"foo": 1}}, b'{"spec":{"foo":1}}', "Strict")
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    words = 'Invalid value: "{\\"spec\\":{\\"foo\\":1}}": strict decoding error: unknown field "spec.foo"'
    assert refused.value.message == f' "" is invalid: patch: {words}'
    assert refused.value.details["causes"] == [{"reason": "FieldValueInvalid", "message": words, "field": "patch"}]
    obj = {"spec": {"foo": 1}}
    assert decode_patched(SCHEMA, PODS, obj, b"", "Warn") == ['unknown field "spec.foo"'] and obj == {"spec": {}}


def test_a_kind_without_a_definition_takes_any_object() -> None:
    gadget = Kind(group="example.com", version="v1", kind="Gadget", plural="gadgets", singular="gadget", namespaced=True, view=PODS.view)
    assert decode(SCHEMA, gadget, b'{"spec":{"size":[null]}}')[0] == {
        "apiVersion": "example.com/v1",
        "kind": "Gadget",
        "spec": {"size": [None]},
    }
    assert "cannot unmarshal array into Go value" in refusal(b"[]", gadget)


def test_depth_is_no_danger() -> None:
    assert "json parse error" in refusal(b'{"spec":' + b"[" * 100_000)


NUMBERS = st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**63 - 1, 2**63, 1.0, 1.5])
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.sampled_from(["", "a", "\u00e9"]),
    "boolean": st.booleans(),
    "int32": NUMBERS,
    "int64": NUMBERS,
    "int-or-string": NUMBERS | st.sampled_from(["http", "80"]),
    "quantity": st.from_regex(r"[0-9]{1,4}(m|k|Ki|Mi|Gi|e3|x)?\n?", fullmatch=True)
    | st.sampled_from([1, 0.5, "1.5", "-1", "0Mi", "1024Mi"]),
    "time": st.from_regex(r"20[0-3][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](Z|\.5Z|\+02:00|Z\n)", fullmatch=True),
    "micro-time": st.from_regex(r"20[0-3][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{6}|\.5)?Z\n?", fullmatch=True),
    "bytes": st.from_regex(r"([A-Za-z0-9+/]{4})?([A-Za-z+]{1,3}=?=?)?\n?", fullmatch=True),
}
ANYTHING = st.none() | st.booleans() | NUMBERS | st.sampled_from(["", "x", [], {}])


def _values(type_: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Bodies that are nearly right: of the type's shape mostly, with anything else now and then."""
    if type_.shape not in ("struct", "list", "map"):
        right = SCALARS.get(type_.shape, st.just({}))
    elif depth > 4:
        right = st.just([] if type_.shape == "list" else {})
    elif type_.shape == "struct":
        some = {name: _values(field, depth + 1) for name, field in type_.fields.items()}
        names = st.lists(st.sampled_from(sorted(some)), max_size=3, unique=True)
        right = names.flatmap(lambda chosen: st.fixed_dictionaries({name: some[name] for name in chosen}))
    elif type_.shape == "list":
        right = st.lists(_values(type_.item, depth + 1), max_size=2)
    else:
        right = st.dictionaries(st.sampled_from(["cpu", "b"]), _values(type_.item, depth + 1), max_size=2)
    return st.integers(0, 19).flatmap(lambda dice: ANYTHING if dice == 0 else right)


def _agree(schema: Schema, type_: Type, body: Object) -> None:
    """What the quick way takes, the exact walk leaves as it is."""
    taken = quick.decode(type_, json.dumps(body).encode())
    if taken is not None:
        exact = copy.deepcopy(body)
        findings = check(type_, exact)
        assert (findings.error, findings.strict) == ("", [])
        assert taken == exact == body


@settings(max_examples=200)
@given(st.data())
@pytest.mark.parametrize("shape", sorted(SCALARS))
def test_the_quick_way_agrees_on_scalars(shape: str, data: st.DataObject) -> None:
    _agree(SCALAR_SCHEMA, SCALAR_SCHEMA.named("T"), {shape: data.draw(SCALARS[shape] | ANYTHING)})


def _one_of_each() -> Schema:
    """A definition with a field of every scalar shape."""
    references = {
        "quantity": "io.k8s.apimachinery.pkg.api.resource.Quantity",
        "int-or-string": "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        "time": META + "Time",
        "micro-time": META + "MicroTime",
    }
    plain = {
        "string": {"type": "string"},
        "boolean": {"type": "boolean"},
        "int32": {"type": "integer", "format": "int32"},
        "int64": {"type": "integer", "format": "int64"},
        "bytes": {"type": "string", "format": "byte"},
    }
    fields = plain | {shape: {"$ref": f"#/definitions/{name}"} for shape, name in references.items()}
    return Schema({**official(), "T": {"type": "object", "properties": fields}})


SCALAR_SCHEMA = _one_of_each()


@settings(max_examples=300)
@given(st.data(), st.sampled_from(["pods", "services", "secrets", "leases.coordination.k8s.io", "nodes"]))
def test_the_quick_way_agrees_on_kinds(data: st.DataObject, resource: str) -> None:
    kind = KINDS[resource]
    type_ = SCHEMA.type_of(kind.group, kind.version, kind.kind)
    part = data.draw(st.sampled_from(sorted(type_.fields.keys() - {"apiVersion", "kind"})))
    _agree(SCHEMA, type_, {part: data.draw(_values(type_.fields[part]))})


def test_the_quick_way_is_taken_by_ordinary_bodies() -> None:
    for kind in (PODS, SERVICES):
        body: Object = (
            POD if kind is PODS else {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80, "targetPort": "http"}]}}
        )
        assert quick.decode(SCHEMA.type_of("", "v1", kind.kind), json.dumps(body).encode()) == body


def test_an_ordinary_pod_is_decoded_and_defaulted_within_its_budget() -> None:
    """Some 40 us on a quiet machine; ten times that means that the quick way was lost."""
    body = json.dumps(POD).encode()

    def once() -> None:
        obj, _ = decode(SCHEMA, PODS, body)
        apply_defaults(SCHEMA, PODS, obj)

    once()
    assert min(timeit.repeat(once, number=20, repeat=10)) / 20 < 400e-6


DEFINITIONS = KINDS["customresourcedefinitions.apiextensions.k8s.io"]


def definition(**schema: Any) -> Object:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "foos", "kind": "Foo"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"apiVersion": DEFINITIONS.api_version, "kind": DEFINITIONS.kind, "metadata": {"name": "foos.example.com"}, "spec": spec}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"items": {"properties": {"k": 5}}}, "cannot unmarshal number into Go struct field"),
        ({"items": [{"required": 5}]}, "of type []string"),
        ({"additionalProperties": {"maxLength": "x"}}, "cannot unmarshal string into Go struct field"),
        ({"additionalProperties": "x"}, "boolean or JSON schema expected"),
        ({"dependencies": {"a": [1]}}, "of type string"),
    ],
)
def test_a_schema_inside_a_schema_has_types_too(schema: Object, said: str) -> None:
    assert said in refusal(json.dumps(definition(**schema)).encode(), DEFINITIONS)


def test_below_items_what_nobody_knows_is_dropped_without_a_word() -> None:
    body = definition(items={"type": "string", "new": 1, "additionalProperties": {"x": 1, "type": "integer"}}, additionalProperties=False)
    obj, warnings = decode(SCHEMA, DEFINITIONS, json.dumps(body).encode(), "Strict")
    schema = obj["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema == {"items": {"type": "string", "additionalProperties": {"type": "integer"}}, "additionalProperties": False}
    assert warnings == []


def test_an_object_without_fields_is_an_object() -> None:
    body = definition(type="object")
    body["spec"]["versions"][0]["subresources"] = {"status": "x"}
    assert "cannot unmarshal string into Go struct field" in refusal(json.dumps(body).encode(), DEFINITIONS)
    body["spec"]["versions"][0]["subresources"] = {"status": {"x": 1}}
    assert 'unknown field "spec.versions[0].subresources.status.x"' in refusal(json.dumps(body).encode(), DEFINITIONS)
