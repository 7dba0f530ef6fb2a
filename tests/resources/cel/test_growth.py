"""Expressions that make far more than they are given end at the bound on their cost, before the memory is taken; those that people write do not."""

import pytest

from labctl.admission.conditions import value
from labctl.resources.cel.expressions import Environment, EvaluationError

OBJECT = {"text": "a" * 3_000_000, "list": ["a" * 30_000] * 100, "name": "a-b-c"}


def doubled(times: int) -> str:
    """A text of 100 characters, doubled so often."""
    expression = f"b{times}.size()"
    for number in range(times, 0, -1):
        expression = f"cel.bind(b{number}, b{number - 1} + b{number - 1}, {expression})"
    return f'cel.bind(b0, "{"x" * 100}", {expression}) > 0'


def thousand(text: str) -> str:
    return ", ".join([text] * 1000)


@pytest.mark.parametrize(
    "expression",
    [
        doubled(28),
        " + ".join(["object.text"] * 28) + ' != ""',
        f'[{thousand("object.text")}].join("") != ""',
        f'object.list.join(object.text) + [{thousand("object.text")}].join(object.text) != ""',
        f'"{"%s" * 1000}".format([{thousand("object.text")}]) != ""',
        'object.text.replace("a", object.text) != ""',
        'object.text.replace("", object.text) != ""',
    ],
    ids=("cel.bind", "+", "join", "separator", "format", "replace", "replace nothing"),
)
async def test_what_grows_out_of_proportion_is_not_evaluated(expression):
    compiled = Environment({"object": "dyn"}).compile(expression)
    with pytest.raises(EvaluationError, match="cost limit exceeded"):
        await value(compiled, {"object": OBJECT})


@pytest.mark.parametrize(
    "expression",
    [
        doubled(5),
        'object.name.replace("-", "_") == "a_b_c"',
        'object.text.replace("b", "c").size() > 0',
        'object.list.join(",").size() > 3000000',
        '([object.name] + object.list).join("").startsWith("a-b-c")',
        'object.name.split("-").map(s, s.trim()).join(",") == "a,b,c"',
        '"%s is %d".format([object.name, 3]) == "a-b-c is 3"',
        'object.list.map(x, x + x).join("").size() == 6000000',
    ],
)
async def test_what_people_write_is(expression):
    assert await value(Environment({"object": "dyn"}).compile(expression), {"object": OBJECT}) is True
