"""What an update of a CustomResourceDefinition is judged by: not by a schema that stays as it is."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from labctl.resources.kinds.apiextensions_v1.customresourcedefinition import KIND

DEAR = {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self.contains('x')"}]}}
"""Its rule may be asked as often as texts fit into a request, and each of them may be as long: no server of today takes that."""


def definition(spec: dict[str, Any], *names: str, **version: Any) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    versions = [{"name": name, "served": True, "storage": name == "v1", "schema": schema, **version} for name in names or ("v1",)]
    called = {"plural": "cats", "singular": "cat", "kind": "Cat", "listKind": "CatList"}
    return {
        "metadata": {"name": "cats.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": called, "versions": versions},
        "status": {"storedVersions": ["v1"]},
    }


def wrong(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    return [f"{error.field}: {error.message}" for error in KIND.validate(new, old)]


def test_a_schema_that_stays_is_not_judged_again_and_one_that_changes_is() -> None:
    """apiextensions suppresses the limits of cost for versions with unchanged schemas: a server may count differently than the one that took them."""
    stored = definition(DEAR)
    assert "estimated rule cost exceeds budget" in "".join(wrong(stored, None))
    served = deepcopy(stored)
    served["metadata"]["labels"] = {"a": "b"}
    served["spec"]["versions"][0]["additionalPrinterColumns"] = [{"name": "N", "type": "string", "jsonPath": ".spec"}]
    assert wrong(served, stored) == []
    changed = deepcopy(stored)
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "d"
    assert "estimated rule cost exceeds budget" in "".join(wrong(changed, stored))


def test_a_version_is_compared_with_itself() -> None:
    stored = definition(DEAR)
    more = definition(DEAR, "v2", "v1")
    [said] = [each for each in wrong(more, stored) if "exceeds budget" in each and ".rule" in each]
    assert said.startswith("spec.versions[0].schema")


def test_what_a_status_makes_of_the_root_is_judged_whenever_it_comes() -> None:
    stored = definition({"type": "object"})
    stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["oneOf"] = [{"required": ["spec"]}]
    assert wrong(stored, None) == wrong(stored, stored) == []
    with_status = deepcopy(stored)
    with_status["spec"]["versions"][0]["subresources"] = {"status": {}}
    assert "fields are allowed at the root of the schema if the status subresource is enabled" in "".join(wrong(with_status, stored))


def test_all_else_of_a_version_is_judged_every_time() -> None:
    stored = definition({"type": "object"}, additionalPrinterColumns=[{"name": "N", "type": "nothing", "jsonPath": ".spec"}])
    assert len(wrong(stored, stored)) == 1 and "additionalPrinterColumns[0].type" in wrong(stored, stored)[0]


def test_a_rule_that_was_stored_with_wrong_types_is_no_reason_to_refuse_another_change() -> None:
    """An earlier labctl took such rules; what Kubernetes' own newer versions would refuse may stay there, too."""

    def ruled(rule: str, **more: Any) -> dict[str, Any]:
        number = {"type": "integer", "x-kubernetes-validations": [{"rule": rule, "messageExpression": "self"}]}
        return definition({"type": "object", "properties": {"a": number, **more}})

    said = "".join(wrong(ruled("self == 'x'"), None))
    assert "found no matching overload for '_==_' applied to '(int, string)'" in said
    assert "messageExpression must evaluate to a string" in "".join(wrong(ruled("self == 1"), None))
    assert wrong(ruled("self == 'x'", b={"type": "string"}), ruled("self == 'x'")) == []
    assert "'(int, string)'" in "".join(wrong(ruled("self == 'y'"), ruled("self == 'x'")))
    fitted = definition({"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-validations": [{"rule": "self == 'x'"}]}}})
    assert "'(int, string)'" in "".join(wrong(ruled("self == 'x'"), fitted)), "the rule is as it was, but not its type"
