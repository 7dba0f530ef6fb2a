"""The variable `authorizer` of policies' and webhooks' expressions: what the user who writes may do."""

from __future__ import annotations

from labctl.resources.admission import Attributes
from labctl.resources.cel.authorizer import Authorizer, Question
from labctl.resources.kind import Kind
from labctl.resources.rbac.matching import Permissions, Request
from labctl.resources.service import MASTERS, User


def authorizer_of(permissions: Permissions, attributes: Attributes, kind: Kind) -> Authorizer:
    """Returns the variable for a write that is shown as this version of its kind."""

    def decide(asked: Question) -> str:
        if MASTERS in asked.groups:
            return "admin"
        where = asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace, asked.name, asked.path
        return permissions.why_allowed(User(asked.user, asked.groups), Request(*where, field_selector=asked.field_selector))

    about = {
        "group": kind.group,
        "resource": kind.plural,
        "subresource": attributes.subresource,
        "namespace": attributes.namespace,
        "name": attributes.name,
    }
    return Authorizer(decide, attributes.user.name, tuple(attributes.user.groups), about)
