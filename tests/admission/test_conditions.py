"""Expressions about writes never hold up the server, whatever somebody wrote and sent."""

from __future__ import annotations

import time
from typing import Any

import pytest

from labctl.admission.conditions import all_hold, conditions_of, value
from labctl.resources.cel.expressions import Environment, EvaluationError

ENV = Environment({"object": "dyn"})


DEAR = [
    ("object.text.contains(object.part)", {"text": "a" * 400_000, "part": "a" * 200_000 + "b"}),
    (
        "object.data.all(k, object.data[k].contains(object.part))",
        {"data": {str(n): "a" * 20_000 for n in range(100)}, "part": "a" * 9_000 + "b"},
    ),
    ("object.l.all(a, object.l.all(b, a != b || a == b))", {"l": ["x" * 1000 for _ in range(500)]}),
    ("object.l.map(a, a + a).exists(b, b.replace(object.part, 'y') == b)", {"l": ["x" * 5000] * 1000, "part": "x" * 900}),
]


@pytest.mark.parametrize(("text", "obj"), DEAR)
async def test_an_expression_that_could_take_long_is_not_begun(text: str, obj: dict[str, Any]) -> None:
    expression = ENV.compile(text)
    begun_s = time.monotonic()
    with pytest.raises(EvaluationError, match="cost limit exceeded"):
        await value(expression, {"object": obj})
    assert time.monotonic() - begun_s < 0.5


async def test_loops_over_common_objects_are_cheap_enough() -> None:
    containers = [
        {"name": f"c{n}", "image": f"registry.example/team/image-{n}:1.0", "env": [{"name": "A", "value": "b" * 200}] * 20}
        for n in range(10)
    ]
    texts = [
        "object.spec.containers.all(c, c.image.startsWith('registry.example/') && !c.image.contains('latest'))",
        "object.spec.containers.all(c, !has(c.env) || c.env.all(e, e.name.matches('^[A-Z]+$') && !e.value.contains('secret')))",
        "object.data.all(k, !object.data[k].contains('secret'))",
    ]
    for text in texts:
        assert await value(ENV.compile(text), {"object": {"spec": {"containers": containers}, "data": {"a": "b" * 100_000}}})


async def test_a_condition_that_is_false_decides_whatever_fails_beside_it() -> None:
    said = [{"name": "bad", "expression": "object.x == 1"}, {"name": "no", "expression": "1 == 2"}]
    conditions = conditions_of(said, {"object": "dyn"})
    assert not await all_hold(conditions, {"object": {}})
    with pytest.raises(EvaluationError, match=r"matchConditions\[bad\]: .*no such key: x"):
        await all_hold(conditions[:1], {"object": {}})
