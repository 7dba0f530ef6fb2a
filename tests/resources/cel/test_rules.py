"""Rules in CEL, without a server: what they see, what they say, what is refused when a schema is written."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from labctl.resources.custom.correlate import ABSENT
from labctl.resources.custom.rules import violations
from labctl.resources.custom.schema import Node
from labctl.resources.custom.structural import problems

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}


def schema(spec: dict[str, Any], *rules: Any) -> dict[str, Any]:
    said = [rule if isinstance(rule, dict) else {"rule": rule} for rule in rules]
    return {"type": "object", "properties": {"spec": {**spec, "x-kubernetes-validations": said}}}


def struct(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def told(whole: dict[str, Any], new: Any, old: Any = ABSENT) -> list[str]:
    assert problems("s", whole) == []
    before = ABSENT if old is ABSENT else {"spec": old}
    return [f"{error.field}: {error.message}" for error in violations(Node(whole), {"spec": new}, before)]


def refused(whole: dict[str, Any]) -> str:
    return "\n".join(f"{error.field}: {error.message}" for error in problems("s", whole))


ODD = {"a-b": 1, "namespace": 2, "x.y/z": 3}
HOLDS = [
    (struct(a=NUMBER, b=NUMBER), "self.a <= self.b", {"a": 1, "b": 2}),
    (struct(a=TEXT), "!has(self.a) || self.a.startsWith('x')", {}),
    (struct(a={"type": "string", "format": "date-time"}), "self.a < timestamp('2030-01-01T00:00:00Z')", {"a": "2020-01-01T00:00:00Z"}),
    (struct(a={"type": "string", "format": "duration"}), "self.a > duration('1m')", {"a": "1h30m"}),
    (struct(a={"type": "string", "format": "byte"}), "self.a == b'abc'", {"a": "YWJj"}),
    (struct(a={"type": "number"}), "self.a * 2.0 == 2.0", {"a": 1}),
    ({"type": "number"}, "self >= 0 && self < 100 && 99 > self && self > -1", 0.5),
    (NUMBER, "self < 1.5 && 0.5 <= self && self + 1 == 2", 1),
    ({"type": "array", "items": {"type": "number"}, "maxItems": 5}, "self.all(x, x >= 0 && x <= self.size())", [1, 2.0]),
    ({"type": "object", "additionalProperties": NUMBER, "maxProperties": 5}, "self.all(k, v, v < 2.5 && k != '') && double('5') <= 100", {"a": 1}),
    (struct(**{"a-b": NUMBER, "namespace": NUMBER, "x.y/z": NUMBER}), "self.a__dash__b + self.__namespace__ + self.x__dot__y__slash__z == 6", ODD),
    (struct(a={"x-kubernetes-int-or-string": True}), "type(self.a) == int ? self.a > 1 : self.a == 'x'", {"a": "x"}),
    (struct(m={"type": "object", "additionalProperties": NUMBER, "maxProperties": 5}), "self.m.all(k, self.m[k] > 0)", {"m": {"a-b": 1}}),
    (struct(l={"type": "array", "items": TEXT, "maxItems": 5}), "self.l.all(x, x.size() < 3) && self.l.isSorted()", {"l": ["a", "b"]}),
    (struct(l={"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 5}), "self.l.filter(x, x != 'a').map(x, x + 'z') == ['bz']", {"l": ["a", "b"]}),
    (struct(q={"type": "string", "maxLength": 20}), "quantity(self.q).isLessThan(quantity('1Gi')) && quantity('1').add(2).asInteger() == 3", {"q": "1G"}),
    (struct(q={"type": "string", "maxLength": 20}), "ip(self.q).family() == 4 && cidr('10.0.0.0/8').containsIP(self.q)", {"q": "10.1.2.3"}),
    (struct(q={"type": "string", "maxLength": 90}), "url(self.q).getHostname() == 'a.b' && url(self.q).getPort() == '81' && !isURL('x')", {"q": "https://a.b:81/x?y=1"}),
    (struct(q={"type": "string", "maxLength": 20}), "semver(self.q).isLessThan(semver('1.2.3')) && self.q.find('[0-9]+') == '1'", {"q": "1.2.3-rc.1"}),
    (struct(q=TEXT), "self.?q.orValue('none') == 'none'", {}),
    (struct(l={"type": "array", "items": NUMBER, "maxItems": 5}), "self.l.sum() == self.l.max() + 1 && [1, 2].transformList(i, v, i + v) == [1, 3]", {"l": [1, 3]}),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "rule", "value"), HOLDS)
def test_a_rule_sees_values_as_kubernetes_shows_them(spec: dict[str, Any], rule: str, value: Any) -> None:
    assert told(schema(spec, rule), value) == []


WORDS = [
    ({"rule": "self.a < 1"}, 'spec: Invalid value: "object": failed rule: self.a < 1'),
    ({"rule": "self.a < 1", "message": "a is big"}, 'spec: Invalid value: "object": a is big'),
    ({"rule": "self.a < 1", "messageExpression": "'a is ' + string(self.a)"}, 'spec: Invalid value: "object": a is 5'),
    ({"rule": "self.a < 1", "message": "m", "messageExpression": "[''][self.a]"}, 'spec: Invalid value: "object": m'),
    ({"rule": "self.a < 1", "message": "m", "reason": "FieldValueForbidden", "fieldPath": ".a"}, "spec.a: Forbidden: m"),
    ({"rule": "self.a < 1", "message": "m", "reason": "FieldValueRequired"}, "spec: Required value: m"),
    ({"rule": "self.b > 1"}, 'spec: Invalid value: "object": no such key: b evaluating rule: self.b > 1'),
]

ERRORS = [
    ("duration(self.t) > duration('1s')", "type conversion error from 'string' to 'google.protobuf.Duration'"),
    ("timestamp(self.t) > timestamp('2026-01-31T10:00:00Z')", "type conversion error from 'string' to 'google.protobuf.Timestamp'"),
    ("int(self.t) > 1", "type conversion error from 'string' to 'int'"),
    ("double(self.t) > 1", "type conversion error from 'string' to 'double'"),
    ("bool(self.t)", "type conversion error from 'string' to 'bool'"),
    ("1 / self.n > 0", "division by zero"),
    ("1 % self.n > 0", "modulus by zero"),
    ("[1][self.n + 7] > 0", "index out of bounds: 7"),
]


@pytest.mark.parametrize(("rule", "words"), ERRORS)
def test_a_rule_that_fails_says_why_in_a_real_servers_words(rule: str, words: str) -> None:
    said = told(schema(struct(t=TEXT, n=NUMBER), rule), {"t": "next week", "n": 0})
    assert said == [f'spec: Invalid value: "object": {words} evaluating rule: {rule}']


@pytest.mark.parametrize(("rule", "words"), WORDS)
def test_a_violation_is_told_in_a_real_servers_words(rule: dict[str, Any], words: str) -> None:
    assert told(schema(struct(a=NUMBER, b=NUMBER), rule), {"a": 5}) == [words]


def test_transition_rules_see_the_old_value() -> None:
    whole = schema(struct(a=NUMBER), "self.a >= oldSelf.a")
    assert told(whole, {"a": 1}) == [] and told(whole, {"a": 2}, {"a": 1}) == []
    assert told(whole, {"a": 1}, {"a": 2}) == ['spec: Invalid value: "object": failed rule: self.a >= oldSelf.a']


def test_an_optional_old_self_is_asked_on_creation_too() -> None:
    whole = schema(struct(a=NUMBER), {"rule": "oldSelf.hasValue() || self.a == 0", "optionalOldSelf": True, "message": "begin with 0"})
    assert told(whole, {"a": 0}) == [] and told(whole, {"a": 3}, {"a": 0}) == []
    assert told(whole, {"a": 3}) == ['spec: Invalid value: "object": begin with 0']


def test_items_of_a_list_that_is_a_map_are_compared_by_their_keys() -> None:
    item = {
        **struct(id=TEXT, n=NUMBER),
        "required": ["id"],
        "x-kubernetes-validations": [{"rule": "self.n >= oldSelf.n", "message": "shrinks"}],
    }
    parts = {"type": "array", "maxItems": 9, "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]}
    whole = {"type": "object", "properties": {"spec": struct(parts=parts)}}
    old = {"parts": [{"id": "a", "n": 5}, {"id": "b", "n": 1}]}
    assert told(whole, {"parts": [{"id": "b", "n": 2}, {"id": "a", "n": 4}]}, old) == ['spec.parts[1]: Invalid value: "object": shrinks']
    atomic = {"type": "array", "maxItems": 9, "items": item}
    said = refused({"type": "object", "properties": {"spec": struct(parts=atomic)}})
    assert "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec].properties[parts]" in said


def test_what_did_not_change_is_not_judged_again() -> None:
    whole = {"type": "object", "properties": {"spec": struct(a={**NUMBER, "x-kubernetes-validations": [{"rule": "self < 1"}]}, b=NUMBER)}}
    assert told(whole, {"a": 5, "b": 2}, {"a": 5, "b": 1}) == []
    assert told(whole, {"a": 6, "b": 2}, {"a": 5, "b": 1}) == ['spec.a: Invalid value: "integer": failed rule: self < 1']


REFUSED = [
    ("self.nope > 1", "compilation failed: ERROR: <input>:1:5: undefined field 'nope'"),
    ("self.a + 'x' == 'x'", "compilation failed: ERROR: <input>:1:8: found no matching overload for '_+_' applied to '(int, string)'"),
    ("1 + 'x' == 'x'", "compilation failed: ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'"),
    ("self.a >", "compilation failed: ERROR: <input>:1:9: Syntax error"),
    ("self.a", "cel expression must evaluate to a bool"),
    ("'x'", "cel expression must evaluate to a bool"),
    ("", "Required value: rule is not specified"),
    ({"rule": "true", "message": "a\nb"}, "message must not contain line breaks"),
    ({"rule": "true", "messageExpression": "1"}, "messageExpression must evaluate to a string"),
    ({"rule": "true", "reason": "Because"}, 'Unsupported value: "Because"'),
    ("self.l.all(x, self.l.all(y, x.contains(y)))", "estimated rule cost exceeds budget by factor of more than 100x"),
]


@pytest.mark.parametrize(("rule", "words"), REFUSED)
def test_a_rule_that_can_not_work_is_refused_with_its_schema(rule: Any, words: str) -> None:
    said = refused(schema(struct(a=NUMBER, l={"type": "array", "items": TEXT}), rule))
    assert words in said and bool(said) == bool(words), said
    if words and "compilation" in words:
        assert said.startswith("s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{Rule:")


def test_bounds_in_the_schema_make_the_same_rule_cheap_enough() -> None:
    bounded = {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 20}}
    assert refused(schema(struct(l=bounded), "self.l.all(x, self.l.all(y, x == y || !x.contains(y)))")) == ""


def test_time_is_bounded_for_all_rules_of_one_object() -> None:
    whole = {
        "type": "object",
        "properties": {"spec": {"type": "array", "items": {**NUMBER, "x-kubernetes-validations": [{"rule": "self < 1"}]}}},
    }
    ticks = iter(range(10_000))
    found = violations(Node(whole), {"spec": [0] * 1000}, ABSENT, now_s=lambda: next(ticks) / 100)
    assert [error.message.partition(": ")[2] for error in found] == [
        '"integer": validation failed due to running out of cost budget, no further validation rules will be run'
    ]


def test_a_loop_ends_after_a_bounded_number_of_steps() -> None:
    whole = schema({"type": "array", "items": NUMBER}, "self.all(a, self.all(b, a + b >= 0))")
    begun = time.monotonic()
    [error] = violations(Node(whole), {"spec": list(range(5000))}, ABSENT)
    assert "cost limit exceeded" in error.message and time.monotonic() - begun < 2


def test_hostile_expressions_cost_little() -> None:
    """In a process of its own, with a bound on its memory."""
    code = """
import resource, time
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from labctl.resources.custom.structural import problems
begun = time.process_time()
for rule in ["(" * 5000 + "1" + ")" * 5000, "self" + ".a" * 5000, "+".join(["1"] * 5000), "!" * 5000 + "true", "[" * 300 + "]" * 300, "a" * 200000, "\\x00",
             "a{" * 30000, "a.validate(" * 9000, "a{x" * 9000 + "}" * 9000]:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-validations": [{"rule": rule}]}}}
    problems("s", schema)
print(time.process_time() - begun)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 10


UNORDERED = [
    ({"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"}, ["a", "b"], ["b", "a"], ["a", "c"]),
    (
        {
            "type": "array",
            "items": {**struct(k=TEXT, v=NUMBER), "required": ["k"]},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
        },
        [{"k": "a", "v": 1}, {"k": "b", "v": 2}],
        [{"k": "b", "v": 2}, {"k": "a", "v": 1}],
        [{"k": "b", "v": 3}, {"k": "a", "v": 1}],
    ),
]


@pytest.mark.parametrize(("list_", "old", "moved", "changed"), UNORDERED)
def test_the_order_of_a_set_makes_no_difference_between_old_and_new(list_: Any, old: Any, moved: Any, changed: Any) -> None:
    whole = schema(struct(l=list_, a=NUMBER), {"rule": "self.l == oldSelf.l", "message": "immutable"})
    assert told(whole, {"l": moved, "a": 2}, {"l": old, "a": 1}) == []
    assert told(whole, {"l": changed}, {"l": old}) == ['spec: Invalid value: "object": immutable']
    assert told(whole, {"l": old[:1]}, {"l": old}) == ['spec: Invalid value: "object": immutable']
    placed = schema(struct(l=list_), {"rule": "self.l[0] == oldSelf.l[0]", "message": "first"})
    assert told(placed, {"l": moved}, {"l": old}) == ['spec: Invalid value: "object": first']
    whole = schema({**struct(l=list_), "x-kubernetes-validations": []}, {"rule": "self == oldSelf", "message": "immutable"})
    assert told(whole, {"l": moved}, {"l": old}) == []
    plain = schema(struct(l={**list_, "x-kubernetes-list-type": "atomic", "x-kubernetes-list-map-keys": None}), "self.l == oldSelf.l")
    assert told(plain, {"l": moved}, {"l": old}) != []
