"""Admission policies that are made to hurt."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.resources.kinds.admissionregistration_v1 import mutatingadmissionpolicy, validatingadmissionpolicy

LONG = "true" + " || object.metadata.name == 'a'" * 700


@pytest.mark.parametrize(
    "spec",
    [
        {"validations": [{"expression": LONG}]},
        {"validations": [{"expression": "true"}], "variables": [{"name": f"v{number}", "expression": LONG[:9]} for number in range(3000)]},
        {"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": LONG}}]},
    ],
)
def test_expressions_of_a_policy_are_bounded_together(spec: dict[str, Any]) -> None:
    """They are compiled in the first write that they concern: 450 KB of them held up everybody for ten seconds, and each later write for five."""
    kind = mutatingadmissionpolicy if "mutations" in spec else validatingadmissionpolicy
    [error] = kind.validate({"spec": spec}, None)
    assert error.field == "spec" and "expressions of a policy may have 20000 characters together" in error.message
