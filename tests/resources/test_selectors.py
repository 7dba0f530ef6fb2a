"""Selectors: Kubernetes' grammar, its words for what is wrong, and that the compiled matcher means what the terms say."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.resources import labels, selectors

NAME = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or "
    "'123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""), ("a=b", "a=b"), (" a == b , c != d ", "a==b,c!=d"), ("tier in (front,back),!old,app", "app,!old,tier in (back,front)"),
        ("x in (foo,,baz),y,z notin ()", "x in (,baz,foo),y,z notin ()"), ("in in (in,notin)", "in in (in,notin)"), ("a=", "a="), ("a=,b", "a=,b"),
        ("example.com/role=x", "example.com/role=x"), ("n>1,n<5", "n>1,n<5"), ("a in (,b)", "a in (,b)"), ("a in (b,)", "a in (,b)"), ("a notin(b)", "a notin (b)"),
    ],
)  # fmt: skip
def test_what_is_a_selector(text: str, said: str) -> None:
    assert str(selectors.parse(text)) == said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a,,b", "found ',', expected: identifier after ','"),
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("a==!", "unable to parse requirement: found '!', expected: identifier"),
        ("a>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"),
        ("a&=c", f'unable to parse requirement: <nil>: Invalid value: "a&": name part {NAME}'),
    ],
)
def test_what_is_none(text: str, words: str) -> None:
    with pytest.raises(ValueError) as refused:
        selectors.parse(text)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("app=web", {"app": "web"}, {"app": "db"}),
        ("app=web,tier=front", {"app": "web", "tier": "front", "x": ""}, {"app": "web"}),
        ("app!=web", {}, {"app": "web"}),
        ("app", {"app": ""}, {}),
        ("!app", {}, {"app": ""}),
        ("app in (web,db)", {"app": "db"}, {"app": "x"}),
        ("app notin (web,db)", {"app": "x"}, {"app": "db"}),
        ("n>9", {"n": "10"}, {"n": "9"}),
        ("n<9", {"n": "-1"}, {"n": "many"}),
        ("a=", {"a": ""}, {}),
        ("a=x,b=x", {"a": "x", "b": "x"}, {"a": "x", "b": "y"}),
        ("a=x,a=y", None, {"a": "x"}),
    ],
)
def test_matching(text: str, matching: dict[str, str] | None, other: dict[str, str]) -> None:
    selector = selectors.parse(text)
    assert matching is None or selector.matches(matching)
    assert not selector.matches(other)


def test_everything_and_nothing() -> None:
    assert selectors.parse("").everything and selectors.EVERYTHING.matches({"a": "b"})
    assert selectors.from_object({}).everything
    assert not selectors.from_object(None).matches({})
    assert not selectors.NOTHING.matches({"": ""})


def test_the_object_form() -> None:
    selector = selectors.from_object(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}],
        }
    )
    assert str(selector) == "app=web,!old,tier in (a,b)"
    assert selector.matches({"app": "web", "tier": "b"})
    assert not selector.matches({"app": "web", "tier": "b", "old": ""})
    with pytest.raises(ValueError, match='"Equals" is not a valid label selector operator'):
        selectors.from_object({"matchExpressions": [{"key": "a", "operator": "Equals"}]})


def test_an_index_is_told_the_one_value() -> None:
    assert selectors.parse("a=x,b in (y),c in (p,q),d!=z").exact("a") == "x"
    assert selectors.parse("b in (y)").exact("b") == "y"
    assert selectors.parse("c in (p,q)").exact("c") is None
    assert selectors.parse_fields("spec.nodeName=m", ("spec.nodeName",)).exact("spec.nodeName") == "m"


WORDS = st.sampled_from(["a", "b", "app", "x1"])
TERMS = st.one_of(
    st.tuples(WORDS, st.sampled_from(["=", "==", "!="]), WORDS).map("".join),
    st.tuples(WORDS, st.sampled_from([" in ", " notin "]), st.lists(WORDS, min_size=1, max_size=3)).map(
        lambda t: f"{t[0]}{t[1]}({','.join(t[2])})"
    ),
    WORDS,
    WORDS.map("!{}".format),
)


def _means(term: str, of: Mapping[str, str]) -> bool:
    """A slow reading of one term, for comparison."""
    if " in " in term or " notin " in term:
        key, operator, values = term.replace("(", "").replace(")", "").split(" ")
        return (of.get(key) in values.split(",")) == (operator == "in")
    if "!=" in term:
        key, value = term.split("!=")
        return of.get(key) != value
    if "=" in term:
        key, value = term.replace("==", "=").split("=")
        return of.get(key) == value
    return (term.lstrip("!") in of) != term.startswith("!")


@given(st.lists(TERMS, max_size=4), st.dictionaries(WORDS, WORDS))
def test_the_compiled_matcher_means_what_the_terms_say(terms: list[str], of: dict[str, str]) -> None:
    selector = selectors.parse(",".join(terms))
    assert selector.matches(of) == all(_means(term, of) for term in terms)
    assert selectors.parse(str(selector)).matches(of) == selector.matches(of)


@given(st.text(alphabet="ab=!(), in<>notx/&", max_size=12))
def test_any_text_is_a_selector_or_a_value_error(text: str) -> None:
    try:
        assert str(selectors.parse(str(selectors.parse(text)))) == str(selectors.parse(text))
    except ValueError:
        pass


# ---- fields


def test_field_selectors() -> None:
    selector = selectors.parse_fields("spec.nodeName=m,status.phase!=Running", ("spec.nodeName", "status.phase"))
    assert selector.matches({"spec.nodeName": "m"})
    assert not selector.matches({"spec.nodeName": "m", "status.phase": "Running"})
    assert selectors.parse_fields("").everything
    assert selectors.parse_fields(r"metadata.name=a\,b\=c").terms[0].value == "a,b=c"
    assert selectors.parse_fields("metadata.name==a") == selectors.parse_fields("metadata.name=a")


@pytest.mark.parametrize(
    ("text", "supported", "words"),
    [
        ("foo", selectors.META_FIELDS, "invalid selector: 'foo'; can't understand 'foo'"),
        ("a.b=c", selectors.META_FIELDS, '"a.b" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        ("spec.foo=c", ("metadata.name", "spec.nodeName"), "field label not supported: spec.foo"),
        (r"metadata.name=a\b", selectors.META_FIELDS, r"invalid field selector: invalid escape sequence: \b"),
        ("metadata.name=a=b", selectors.META_FIELDS, "invalid field selector: unescaped character in value: 61"),
    ],
)
def test_bad_field_selectors(text: str, supported: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError) as refused:
        selectors.parse_fields(text, supported)
    assert str(refused.value) == words


# ---- labels


@pytest.mark.parametrize(
    ("key", "errors"),
    [
        ("app", []), ("example.com/app", []), ("A-b_c.9", []),
        ("", ["name part must be non-empty", f"name part {NAME}"]),
        ("/a", ["prefix part must be non-empty"]),
        ("a/b/c", [f"a qualified name {NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]),
        ("-a", [f"name part {NAME}"]), ("a\n", [f"name part {NAME}"]), ("x" * 64, ["name part must be no more than 63 bytes"]),
    ],
)  # fmt: skip
def test_label_keys(key: str, errors: list[str]) -> None:
    assert list(labels.key_errors(key)) == errors


def test_label_values() -> None:
    assert not labels.value_errors("") and not labels.value_errors("a-b.c_9")
    assert labels.value_errors("x" * 64) == ("must be no more than 63 bytes",)
    assert labels.value_errors("a b")[0].startswith("a valid label must be an empty string or consist of alphanumeric characters")
    assert labels.key_errors("Upper.com/a")[0].startswith("prefix part a lowercase RFC 1123 subdomain must consist of")
