"""The functions that Kubernetes adds to CEL beside those of the library: named formats, the authorizer, lists, versions; and messages that are written out."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.admission.conditions import value
from labctl.resources.cel import messages
from labctl.resources.cel.authorizer import Authorizer, Question, deciding
from labctl.resources.cel.estimate import Made, estimate
from labctl.resources.cel.expressions import CompileError, Environment, EvaluationError
from labctl.resources.cel.formats import CHECKS
from labctl.resources.cel.rewrite import rewritten

ENV = Environment({"object": "dyn", "text": "string", "authorizer": "opaque"}, messages.ROOTS)

VALID = {
    "dns1123Label": "a-b",
    "dns1123Subdomain": "a.b",
    "dns1035Label": "a1",
    "qualifiedName": "example.com/a",
    "dns1123LabelPrefix": "a-",
    "dns1123SubdomainPrefix": "a.b-",
    "dns1035LabelPrefix": "a-",
    "labelValue": "",
    "uri": "https://a.b/c",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "byte": "aGVsbG8=",
    "date": "2026-01-31",
    "datetime": "2026-01-31T10:00:00Z",
}


def test_a_list_that_is_made_of_a_number_is_not_longer_than_a_million() -> None:
    with pytest.raises(EvaluationError, match="cost limit exceeded"):
        ENV.compile("lists.range(object.n).size() == 0").value({"object": {"n": 10**12}})


def test_every_format_is_tried() -> None:
    assert VALID.keys() == CHECKS.keys()


@pytest.mark.parametrize("name", VALID)
def test_a_named_format_is_an_optional_list_of_errors(name: str) -> None:
    for text in (f"format.{name}()", f"format.named('{name}').value()"):
        assert ENV.compile(f"!{text}.validate(text).hasValue()").value({"text": VALID[name]}) is True
        assert ENV.compile(f"{text}.validate(text).value().size() > 0").value({"text": " no such thing%\n"}) is True
    assert ENV.compile("format.named('nope').hasValue()").value({}) is False


def test_a_format_tells_what_is_wrong() -> None:
    said = ENV.compile("format.dns1123Label().validate('A').value().join(';')", "string").value({})
    assert said.startswith("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'")


TRUE = [
    "[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2 && ['a'].indexOf('b') == -1",
    "'abcb'.indexOf('b') == 1 && 'abcb'.indexOf('b', 2) == 3 && 'abcb'.lastIndexOf('b') == 3 && 'abcb'.lastIndexOf('b', 2) == 1",
    "object.l.indexOf('y') == 1 && object.t.indexOf('y') == 0",
    "semver('v1.0', true) == semver('1.0.0') && isSemver('01.2', true) && !isSemver('01.2') && !isSemver('x', true)",
    "!isSemver('v1.0-rc', true) && semver('v01.02.03-rc.1', true) == semver('1.2.3-rc.1') && semver('000.1', true) == semver('0.1.0')",
    "jsonpatch.escapeKey('a/b~c') == 'a~1b~0c'",
    "[optional.of(1), optional.none()].unwrapOpt() == [1] && ['a', ?object.l[?0], ?object.l[?9], 'b'] == ['a', object.l[0], 'b']",
    "{'a': 1, ?'b': optional.of(2), ?'c': object.?nope} == {'a': 1, 'b': 2} && [object.l.size() > 1 ? 1 : 2, 3].size() == 2",
    "sign(quantity('-1')) == -1 && quantity('2').sign() == 1",
    "string(ip('::0:1')) == '::1' && string(cidr('10.1.0.0/8').masked()) == '10.0.0.0/8' && string( cidr('10.0.0.0/8').prefixLength()) == '8'",
    "[3, 1, 2].sort() == [1, 2, 3] && ['bb', 'a'].sortBy(x, size(x)) == ['a', 'bb'] && [1, 1].distinct() == [1] && [1, 2].reverse() == [2, 1]",
    "[[1], [2, 3]].flatten() == [1, 2, 3] && [1, 2, 3].slice(1, 2) == [2] && lists.range(3) == [0, 1, 2] && [1].first().value() == [1].last().value()",
    "'x {validate(1)}' + r'format.named(\\d' == \"x {validate(1)}\" + 'format.named(\\\\d'  // x{y: 1}",
    "{'a': 1}.transformMap(k, v, k != 'b', v + [v, 2].size()) == {'a': 3} && [5, 6].transformMap(i, v, v) == {0: 5, 1: 6}",
    "{'a': 1}.transformMap(k, v, {k: v}.transformMap(a, b, b)) == {'a': {'a': 1}} && ['x'].transformMapEntry(i, v, {v: i}) == {'x': 0}",
    "3 in {3: 1} && object.l.all(x, x in {'x': 1, 'y': 2})",
]  # fmt: skip


@pytest.mark.parametrize("text", TRUE)
def test_functions_and_texts_that_look_like_them(text: str) -> None:
    assert ENV.compile(text).value({"object": {"l": ["x", "y"], "t": "y"}}) is True


def test_a_map_has_each_key_once() -> None:
    with pytest.raises(EvaluationError, match='insert failed: key "x" already exists'):
        ENV.compile("object.l.transformMapEntry(i, v, {'x': v}).size() > 0").value({"object": {"l": ["x", "y"]}})


def test_only_comparisons_are_between_integers_and_doubles() -> None:
    for text in ("1 == 1.0", "1 + 1.0 > 2.0", "1 < 'x'"):
        with pytest.raises(CompileError, match="found no matching overload"):
            ENV.compile(text)


def test_messages_are_maps_that_know_their_name() -> None:
    text = "Object{spec: Object.spec{replicas: object.n + 1, ?none: optional.none(), labels: {'a/b': 'c'}, list: [Object.spec.list{a: 1}]}}"
    spec = {"": "Object.spec", "replicas": 3, "labels": {"a/b": "c"}, "list": [{"": "Object.spec.list", "a": 1}]}
    assert ENV.compile(text, "").value({"object": {"n": 2}}) == {"": "Object", "spec": spec}
    assert ENV.compile("true ? [] : [JSONPatch{op: 'add'}]", "").value({}) == []


def test_messages_are_for_those_who_ask_for_them() -> None:
    with pytest.raises(CompileError, match="'Object'"):
        Environment({"object": "dyn"}).compile("Object{a: 1}.a == 1")
    with pytest.raises(CompileError, match="'Other'"):
        ENV.compile("Other{a: 1}", "")


def test_an_apply_configuration_is_what_the_messages_say() -> None:
    text = "Object{spec: Object.spec{at: timestamp('2026-01-02T03:04:05Z'), for: duration('90s'), raw: b'abc', list: [Object.spec.list{a: null}], map: {'a': 1.5}}}"
    spec = {"at": "2026-01-02T03:04:05Z", "for": "90s", "raw": "YWJj", "list": [{"a": None}], "map": {"a": 1.5}}
    assert messages.configuration(messages.compile_apply(text, {}).value({})) == {"spec": spec}
    patch = "[JSONPatch{op: 'test', path: '/a'}, JSONPatch{op: 'add', path: '/b', value: Object.b{c: [1]}}] + [JSONPatch{op: 'move', from: '/x', path: '/y'}]"
    assert messages.patch(messages.compile_patch(patch, {}).value({})) == [
        {"op": "test", "path": "/a"},
        {"op": "add", "path": "/b", "value": {"c": [1]}},
        {"op": "move", "path": "/y", "from": "/x"},
    ]


@pytest.mark.parametrize("text", ["{'a': 1}", "1", "Object.spec{}", "true ? Object{} : Object.spec{}", "JSONPatch{}", "[Object{}]"])
def test_an_apply_configuration_must_be_an_object(text: str) -> None:
    with pytest.raises(CompileError, match="must evaluate to Object"):
        messages.compile_apply(text, {})


@pytest.mark.parametrize("text", ["JSONPatch{}", "[1]", "[Object{}]", "true ? [] : [Object{}]"])
def test_a_patch_must_be_a_list_of_operations(text: str) -> None:
    with pytest.raises(CompileError, match="must evaluate to"):
        messages.compile_patch(text, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("object.x", "unsupported return type"),
        ("Object{spec: Object.status{}}", 'unexpected type name "Object.status", expected "Object.spec"'),
        ("Object{spec: Object.spec{l: [Object.spec{}]}}", 'expected "Object.spec.l"'),
        ("Object{spec: {1: 2}}", "keys must be strings"),
        ("Object{spec: type(1)}", "can't be a part"),
    ],
)
def test_what_an_apply_configuration_can_not_be(text: str, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        messages.configuration(messages.compile_apply(text, {"object": "dyn"}).value({"object": {"x": {}}}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[JSONPatch{op: 'nope', path: '/a'}]", "unexpected op 'nope'"),
        ("[JSONPatch{op: 'add', where: '/a'}]", "no field 'where'"),
        ("[JSONPatch{op: 'add', path: 1}]", "is a string"),
        ("object.l", "array of JSONPatch"),
    ],
)
def test_what_a_patch_can_not_be(text: str, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        messages.patch(messages.compile_patch(text, {"object": "dyn"}).value({"object": {"l": [1]}}))


WRONG = [
    ("Object{spec: Object.spec{a: nope}}", "<input>:1:29: undeclared reference to 'nope'", "Object{spec: Object.spec{a: nope}}"),
    ("Object{\n a: 1 + 'x'}", "<input>:2:7: found no matching overload for '_+_'", " a: 1 + 'x'}"),
    ("[1].indexOf(1, 2, 3)", "<input>:1:12: undeclared reference to 'indexOf'", "[1].indexOf(1, 2, 3)"),
    ("format.dns1123Label().validate(1)", "found no matching overload for 'validate'", "format.dns1123Label().validate(1)"),
    ("Object{a: 1", "Syntax error", "Object{a: 1"),
]


@pytest.mark.parametrize(("text", "words", "line"), WRONG)
def test_an_error_shows_the_text_as_it_was_written(text: str, words: str, line: str) -> None:
    with pytest.raises(CompileError) as caught:
        ENV.compile(text, "")
    assert words in str(caught.value) and f" | {line}\n" in str(caught.value)


def test_every_place_of_a_rewritten_text_has_an_origin() -> None:
    text = "f(A.b{c: [1].indexOf(2), d: format.named('x')}) + y"
    new = rewritten(text, frozenset("A"))
    for word in ("f(", "[1]", "(2)", "format", "'x'", "+ y"):
        assert new.origin(new.text.index(word)) == text.index(word), word


# -- the authorizer


def asked_with(text: str, *, user: str = "bob") -> tuple[Any, list[Question]]:
    asked: list[Question] = []

    def decide(question: Question) -> str:
        asked.append(question)
        return "RBAC: allowed" if question.verb == "create" else ""

    about = {"group": "apps", "resource": "deployments", "namespace": "here", "name": "web", "subresource": ""}
    variables = {"authorizer": Authorizer(decide, user, ("people",), about)}
    with deciding(variables):
        return ENV.compile(text, "").value(variables), asked


def test_the_authorizer_asks_what_the_expression_says() -> None:
    chain = "authorizer.group('apps').resource('deployments').subresource('scale').namespace('n').name('x').check('create')"
    found, [asked] = asked_with(f"{chain}.allowed()")
    assert found is True
    assert asked == Question("bob", ("people",), "create", "", "apps", "deployments", "scale", "n", "x")
    assert asked_with(f"{chain}.reason() + string({chain}.errored()) + {chain}.error()")[0] == "RBAC: allowedfalse"
    assert asked_with("authorizer.path('/healthz').check('get').allowed()") == (False, [Question("bob", ("people",), "get", "/healthz")])
    found, [asked] = asked_with("authorizer.requestResource.check('create').allowed()")
    assert found is True and (asked.group, asked.resource, asked.namespace, asked.name) == ("apps", "deployments", "here", "web")
    _, [asked] = asked_with("authorizer.serviceAccount('ns', 'me').group('').resource('pods').labelSelector('a=b').check('list').allowed()")
    assert asked.user == "system:serviceaccount:ns:me" and "system:serviceaccounts:ns" in asked.groups


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("authorizer.path(' ').check('get').allowed()", "path must not be empty"),
        ("authorizer.group('').resource('').check('get').allowed()", "resource must not be empty"),
        ("authorizer.serviceAccount('A', 'x').path('/').check('get').allowed()", "Invalid service account namespace"),
        ("authorizer.allowed()", "no such overload"),
        ("authorizer.group('').check('get').allowed()", "no such overload"),
    ],
)
def test_a_chain_that_makes_no_sense_has_no_value(text: str, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        asked_with(text)


async def test_questions_and_formats_have_a_price() -> None:
    many = ENV.compile("object.l.all(x, authorizer.group('').resource(x).check('get').allowed())")
    authorizer = Authorizer(lambda _asked: "yes", "bob", (), {})
    assert await value(many, {"object": {"l": ["pods"] * 10}, "authorizer": authorizer}) is True
    with pytest.raises(EvaluationError, match="cost limit exceeded"):
        await value(many, {"object": {"l": ["pods"] * 100}, "authorizer": authorizer})
    long = estimate(ENV.compile("format.dns1123Label().validate(text).hasValue()").tree, {"text": Made(1_000_000)})
    assert long.cost > 1_000_000
