"""What a rule allows and what rules cover, as Kubernetes' RBAC authorizer defines them; a RuleSet answers as its rules one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.resources.kinds.rbac_v1.rules import PolicyRule
from labctl.resources.rbac.matching import ATOMS_MAX, Request, RuleSet, allows, uncovered

VERBS = st.sampled_from(["get", "list", "*"])
GROUPS = st.sampled_from(["", "apps", "*"])
RESOURCES = st.sampled_from(["pods", "pods/log", "*", "*/log", "*/scale", "deployments"])
NAMES = st.sampled_from(["a", "b"])
PATHS = st.sampled_from(["/api", "/api/*", "*", "/healthz"])


def several(values: st.SearchStrategy[str], least: int = 1) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(values, min_size=least, max_size=3).map(tuple)


RULES = st.one_of(
    st.builds(PolicyRule, several(VERBS), several(GROUPS), several(RESOURCES), several(NAMES, 0)),
    st.builds(lambda verbs, paths: PolicyRule(verbs, non_resource_urls=paths), several(VERBS), several(PATHS)),
)
REQUESTS = st.one_of(
    st.builds(
        Request,
        st.sampled_from(["get", "list", "delete"]),
        st.sampled_from(["", "apps", "other"]),
        st.sampled_from(["pods", "deployments"]),
        st.sampled_from(["", "log", "scale"]),
        st.just("default"),
        st.sampled_from(["", "a", "c"]),
    ),
    st.builds(lambda verb, path: Request(verb, path=path), st.sampled_from(["get", "post"]), st.sampled_from(["/api", "/api/v1", "/x"])),
)


@given(st.lists(RULES, max_size=5), REQUESTS)
def test_a_rule_set_answers_as_its_rules(rules: list[PolicyRule], request: Request) -> None:
    assert RuleSet(rules).allows(request) == any(allows(rule, request) for rule in rules)


@given(st.lists(RULES, max_size=4), RULES, REQUESTS)
def test_what_is_covered_allows_nothing_new(held: list[PolicyRule], wanted: PolicyRule, request: Request) -> None:
    if not uncovered(held, [wanted]) and allows(wanted, request):
        assert any(allows(rule, request) for rule in held)


@given(st.lists(RULES, min_size=1, max_size=4))
def test_everybody_covers_what_they_hold(held: list[PolicyRule]) -> None:
    assert uncovered(held, held) == []


@pytest.mark.parametrize(
    ("held", "wanted", "covered"),
    [
        ([PolicyRule(("*",), ("*",), ("*",))], PolicyRule(("get",), ("apps",), ("deployments/scale",)), True),
        ([PolicyRule(("get",), ("",), ("pods",), ("a", "b"))], PolicyRule(("get",), ("",), ("pods",), ("a",)), True),
        ([PolicyRule(("get",), ("",), ("pods",), ("a",))], PolicyRule(("get",), ("",), ("pods",)), False),
        ([PolicyRule(("get",), ("",), ("*/scale",))], PolicyRule(("get",), ("",), ("pods/scale",)), True),
        ([PolicyRule(("get",), ("",), ("pods",))], PolicyRule(("get",), ("",), ("pods/log",)), False),
        ([PolicyRule(("get",), non_resource_urls=("/a*",))], PolicyRule(("get",), non_resource_urls=("/abc",)), True),
        ([PolicyRule(("get",), non_resource_urls=("/a",))], PolicyRule(("get",), non_resource_urls=("/a*",)), False),
        (
            [PolicyRule(("get",), ("",), ("pods",)), PolicyRule(("list",), ("",), ("pods",))],
            PolicyRule(("get", "list"), ("",), ("pods",)),
            True,
        ),
    ],
)
def test_coverage(held: list[PolicyRule], wanted: PolicyRule, covered: bool) -> None:
    assert (uncovered(held, [wanted]) == []) is covered


def test_a_rule_of_too_many_parts_is_not_taken_apart() -> None:
    many = tuple(str(number) for number in range(ATOMS_MAX))
    huge = PolicyRule(many, many, many, many)
    assert uncovered([PolicyRule(("get",), ("",), ("pods",))], [huge]) == [huge]
    assert not RuleSet([huge]).allows(Request("get", "", "pods"))
