"""Evaluates expressions about a write, within a bound on what they may cost, so that no expression that somebody wrote holds up the server.

The library holds Python's lock while it evaluates, so a thread would not help. Instead, what an expression with loops or searches may cost at most is
estimated from the sizes of the values at hand, before it is evaluated. The other expressions take microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from labctl.resources.cel.authorizer import deciding
from labctl.resources.cel.estimate import estimate
from labctl.resources.cel.expressions import EvaluationError, Expression
from labctl.resources.cel.shapes import ValueShape
from labctl.resources.custom.schema import is_dear
from labctl.resources.kind import Object

MOST_COST = 10_000_000
"""In steps of the model of estimate.py; on a common machine this is 0.2 s at most. Kubernetes' budget is the same."""


async def value(expression: Expression, variables: Mapping[str, Any]) -> Any:
    """Return the expression's value. Raises EvaluationError, also when it could cost too much."""
    if is_dear(expression.text):
        shapes = {name: ValueShape((each,)) for name, each in variables.items()}
        if estimate(expression.tree, shapes).cost > MOST_COST:
            raise EvaluationError("operation cancelled: actual cost limit exceeded")
    with deciding(variables):
        return expression.value(variables)


class Condition(msgspec.Struct, frozen=True):
    """One of `matchConditions`."""

    name: str
    expression: Expression


def conditions_of(said: Sequence[Object], variables: Mapping[str, str]) -> list[Condition]:
    """Compiles them; they were tried when their object was written."""
    from labctl.resources.cel.expressions import Environment

    return [Condition(each.get("name", ""), Environment(variables).compile(each.get("expression") or "")) for each in said]


async def all_hold(conditions: Sequence[Condition], variables: Mapping[str, Any]) -> bool:
    """Tell whether every condition is true. One that is false decides, even if another one fails. Raises EvaluationError."""
    failed: EvaluationError | None = None
    for condition in conditions:
        try:
            if not await value(condition.expression, variables):
                return False
        except EvaluationError as error:
            failed = EvaluationError(
                f"matchConditions[{condition.name}]: expression {condition.expression.text!r} resulted in error: {error}"
            )
    if failed is not None:
        raise failed
    return True
