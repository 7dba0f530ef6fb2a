"""Evaluates expressions about a write: in a thread and for a bounded time, so that no expression that somebody wrote holds up the server.

An expression that is cheap by its looks is evaluated on the loop, in microseconds: it has no loop and walks through no text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from labctl.resources.cel.expressions import EvaluationError, Expression
from labctl.resources.custom.schema import is_dear
from labctl.resources.kind import Object

MOST_S = 2.0
"""An evaluation that takes longer fails. Its thread ends when the library's own bounds let it."""

_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="expressions")


async def value(expression: Expression, variables: Mapping[str, Any]) -> Any:
    """The expression's value. Raises EvaluationError, also when it takes too long."""
    if not is_dear(expression.text):
        return expression.value(variables)
    loop = asyncio.get_running_loop()
    try:
        return await asyncio.wait_for(loop.run_in_executor(_threads, expression.value, variables), MOST_S)
    except TimeoutError:
        raise EvaluationError("operation cancelled: actual cost limit exceeded") from None


class Condition(msgspec.Struct, frozen=True):
    """One of `matchConditions`."""

    name: str
    expression: Expression


def conditions_of(said: Sequence[Object], variables: Mapping[str, str]) -> list[Condition]:
    """Compiles them; they were tried when their object was written."""
    from labctl.resources.cel.expressions import Environment

    return [Condition(each.get("name", ""), Environment(variables).compile(each.get("expression") or "")) for each in said]


async def all_hold(conditions: Sequence[Condition], variables: Mapping[str, Any]) -> bool:
    """Whether every condition is true; one that is false decides, whatever fails beside it. Raises EvaluationError."""
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
