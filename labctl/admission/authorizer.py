"""The variable `authorizer` of policies' and webhooks' expressions: what RBAC allows the user who writes.

A node's agent has other rights beside those of RBAC, which depend on the objects it asks about (api/authorize.py); they are not asked here.
"""

from __future__ import annotations

from labctl.resources.admission import Attributes
from labctl.resources.cel.authorizer import Authorizer, Question
from labctl.resources.kind import Kind
from labctl.resources.rbac.holders import Rbac
from labctl.resources.rbac.matching import Request
from labctl.resources.service import MASTERS, User


def authorizer_of(rbac: Rbac, attributes: Attributes, kind: Kind) -> Authorizer:
    """Returns the variable for a write that is shown as this version of its kind."""

    def decide(asked: Question) -> str:
        if MASTERS in asked.groups:
            return "admin"
        request = Request(asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace, asked.name, asked.path)
        return rbac.why_allowed(User(asked.user, asked.groups), request)

    about = {
        "group": kind.group,
        "resource": kind.plural,
        "subresource": attributes.subresource,
        "namespace": attributes.namespace,
        "name": attributes.name,
    }
    return Authorizer(decide, attributes.user.name, tuple(attributes.user.groups), about)
