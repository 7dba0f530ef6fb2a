"""What rules may cost, in Kubernetes' numbers: its users wrote bounds into their schemas until these were small enough, so they must be the same here."""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest

from labctl.resources.cel.estimate import estimate
from labctl.resources.custom.rules import compile_rule
from labctl.resources.custom.schema import Node
from labctl.resources.custom.schemarules import SchemaShape
from labctl.resources.custom.structural import problems

TEXT, NUMBER, BOOL = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}


def struct(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def items(of: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": of, **more}


def entries(of: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": of, **more}


def text(most: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": most}


PORT = struct("name", "port", name=TEXT, port=NUMBER, kind={"type": "string", "default": "tcp"})
COSTS = [
    (struct(a=TEXT, b=TEXT), "has(self.a) || has(self.b)", 2),
    (struct(a=TEXT, b=TEXT), "!has(self.a) && !has(self.b)", 4),
    (struct(a=TEXT), "self.a.startsWith('fe80:') || self.a.endsWith('eleven chars')", 3 + 4),
    (struct(a=TEXT), "self.a == 'eleven chars'", 4),
    (struct(a={**TEXT, "enum": ["on", "off"]}), "self.a != 'eleven chars'", 3),
    (struct(a=NUMBER, b=NUMBER), "self.a == self.b", 4),
    (struct(a=NUMBER, b=NUMBER), "self.a <= self.b", 5),
    (struct(a=struct(b=NUMBER)), "self.a == self.a", 4),
    (struct(a=text(5)), "self.a.matches('^[a-z]+$')", 2 + 3 * 2),
    (struct(a=TEXT), "isCIDR(self.a) && quantity(self.a).isGreaterThan(quantity('1'))", 3 + 3 + 1 + 1),
    (struct(a=TEXT), "self.a in ['x', 'y', 'z']", 2 + 10 + 3),
    (struct(a=TEXT, m=entries(TEXT)), "self.a in self.m", 5),
    (struct(a=text(25), b=text(25)), "self.a.contains(self.b)", 4 + 10 * 10),
    (struct(a=text(25)), "self.a.lowerAscii() == 'x'", 2 + 10 + 1),
    (struct(a=text(25), b=text(50)), "self.a + self.b == 'x'", 4 + 30 + 1),
    (struct(a=BOOL, b=BOOL), "self.a ? self.b : self.a && self.b", 2 + 4),
    (items(NUMBER), "self.size() > 2", 3),
    (items(NUMBER), "self.size() == 2", 3),
    (items(NUMBER, maxItems=7), "self.all(each, each > 2)", 2 + 7 * (2 + 1 + 2)),
    (items(NUMBER), "self.all(each, true)", 2 + 3 * ((3145726) // 2)),
    (items(BOOL), "self.all(each, true)", 2 + 3 * ((3145726) // 5)),
    (items(PORT), "self.all(each, true)", 2 + 3 * ((3145726) // (2 + 10 + 9 + 1))),
    (items({"type": "string", "format": "date-time"}), "self.all(each, true)", 2 + 3 * ((3145726) // 22)),
    (entries(TEXT), "self.all(key, true)", 2 + 3 * ((3145726) // 8)),
    (entries(TEXT, maxProperties=4), "self.all(key, key.matches('[a-z]+'))", 2 + 4 * (2 + 1 + 1 + 2)),
    (items(NUMBER, maxItems=8), "self.sort()[0] == 1", 1 + ceil(8 * 3 * 0.1) + 11 + 1),
    (items(NUMBER, maxItems=8), "self.distinct().size() == 8", 1 + 64 + 11 + 2),
    (items(NUMBER, maxItems=8), "self.reverse() == self.slice(1, 3)", 1 + 8 + 11 + 1 + 2 + 11 + 1),
    (items(items(NUMBER, maxItems=4), maxItems=8), "self.flatten().size() == 8", 1 + 8 + 11 + 2),
    (items(items(NUMBER, maxItems=4), maxItems=8), "self.flatten(2).size() == 8", 1 + 8 * 4 * 2 + 11 + 2),
    (struct(a=NUMBER), "lists.range(5).size() == self.a", 2 + 5 + 11 + 1),
    (struct(a=TEXT, b=TEXT), "ip(self.a) == ip(self.b)", 2 + 1 + 2 + 1 + 1),
    (struct(a=TEXT, b=text(25)), "cidr(self.a).containsIP(self.b)", 2 + 1 + 2 + 4 + 10),
    (struct(a=TEXT, b=text(25)), "cidr(self.a).containsCIDR(cidr(self.b))", 2 + 1 + 2 + 1 + 7),
    (items(text(10), maxItems=3), "self.map(each, each + 'x').isSorted()", None),
]


@pytest.mark.parametrize(("schema", "rule", "cost"), COSTS)
def test_a_rule_costs_what_it_costs_in_kubernetes(schema: dict[str, Any], rule: str, cost: int | None) -> None:
    node = Node(schema)
    shape = SchemaShape(node)
    found = estimate(compile_rule(node, {"rule": rule}).rule.tree, {"self": shape, "oldSelf": shape}).cost
    assert found == cost if cost is not None else 0 < found < 200


def refused(schema: dict[str, Any]) -> str:
    return "\n".join(error.message for error in problems("s", struct(spec=schema)))


def ruled(schema: dict[str, Any], rule: str) -> dict[str, Any]:
    return {**schema, "x-kubernetes-validations": [{"rule": rule}]}


def test_in_a_list_without_a_bound_a_rule_is_asked_as_often_as_fits_into_a_request() -> None:
    """Not that often for each item of the list around it: they are in one request together."""
    peer = ruled(struct("name", name=TEXT, address=TEXT), "self.name != '' || has(self.address)")
    assert refused(items(struct(peers=items(peer)), maxItems=16)) == ""
    assert refused(items(struct(peers=items(peer, maxItems=1000)), maxItems=1000)) == ""
    assert "exceeds budget by factor of 1.170000x" in refused(items(struct(peers=items(peer, maxItems=1500)), maxItems=2600))
    assert refused(entries(struct(peers=items(peer)))) == ""


def test_what_must_be_there_makes_items_fewer() -> None:
    rule = "self.all(a, self.all(b, a.name == b.name))"
    assert "more than 100x" in refused(ruled(items(struct(name=text(10))), rule))
    assert refused(ruled(items(struct("name", name=text(10)), maxItems=200), rule)) == ""
