"""The check of a policy's expressions: it is done in pieces, because whoever asks the API for something waits for each of them."""

from __future__ import annotations

from typing import Any

from labctl.controllers import policytypes
from labctl.controllers.policytypes import PolicyTypes
from labctl.reconcile.plan import Patch, Plan
from labctl.resources.registry import builtin_registry
from labctl.sim.picture import Picture

PER_KIND = 100
RESOURCES = ["pods", "services", "configmaps"]


def policy(*expressions: str, generation: int = 1) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": RESOURCES}
    validations = [{"expression": text} for text in expressions]
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": validations}
    return {"kind": "ValidatingAdmissionPolicy", "metadata": {"name": "big", "generation": generation}, "spec": spec}


def checked(made: Picture) -> tuple[list[Plan], Any]:
    """Return the plans that only go on, and what the last one writes."""
    plans: list[Plan] = []
    while not (plan := made.plan("big")).actions:
        assert plan.again_s == 0.0 and len(plans) < 1000
        plans.append(plan)
    [patch] = plan.actions
    assert isinstance(patch, Patch)
    return plans, patch.patch["status"]


def picture() -> Picture:
    registry = builtin_registry()
    return Picture([PolicyTypes(registry)], registry)


def test_many_expressions_are_compiled_in_pieces() -> None:
    made = picture()
    made.put(policy(*["object.metadata.name != 'a'"] * (PER_KIND // 2), "object.metadata.nonsense == 'a'"))
    plans, status = checked(made)
    assert len(plans) >= len(RESOURCES) * (PER_KIND // 2) // policytypes.AT_ONCE
    [warning] = status["typeChecking"]["expressionWarnings"]
    assert warning["fieldRef"] == f"spec.validations[{PER_KIND // 2}].expression"
    assert [f"v1, Kind={kind}:" in warning["warning"] for kind in ("ConfigMap", "Pod", "Service")] == [True] * 3


def test_a_policy_that_changes_meanwhile_is_checked_anew() -> None:
    made = picture()
    made.put(policy(*["object.metadata.nonsense == 'a'"] * 40))
    assert made.plan("big").again_s == 0.0
    made.put(policy("object.metadata.name != 'a'", generation=2))
    plans, status = checked(made)
    assert len(plans) == len(RESOURCES)
    assert status == {"observedGeneration": 2, "typeChecking": {"expressionWarnings": None}}
