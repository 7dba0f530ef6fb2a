"""Rules of webhooks, policies' bindings, flow control, certificates, devices and access reviews, in a real server's words."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.resources.kinds.authorization_v1 import access
from tests.resources.conftest import Lab

FLOWS, LEVELS = "flowschemas.flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io"
WEBHOOKS, BINDINGS = (
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
)
SLICES, CLASSES, CLAIMS = "resourceslices.resource.k8s.io", "deviceclasses.resource.k8s.io", "resourceclaims.resource.k8s.io"


def named(**more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, **more}


def webhook(name: str = "a.example.com", resources: tuple[str, ...] = ("pods",), **more: Any) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": list(resources)}
    hook = {"name": name, "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://a"}}
    return named(webhooks=[{**hook, **more}])


def binding(**spec: Any) -> dict[str, Any]:
    return named(spec={"policyName": "web", "validationActions": ["Deny"], **spec})


def flow(subject: dict[str, Any] | None = None, **rules: Any) -> dict[str, Any]:
    whole = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
    given = rules or {"resourceRules": [whole]}
    rule = {"subjects": [subject or {"kind": "User", "user": {"name": "*"}}], **given}
    return named(spec={"priorityLevelConfiguration": {"name": "low"}, "rules": [rule]})


def resources(**changes: Any) -> dict[str, Any]:
    return flow(resourceRules=[{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"], **changes}])


def paths(*urls: str) -> dict[str, Any]:
    return flow(nonResourceRules=[{"verbs": ["get"], "nonResourceURLs": list(urls)}])


def slice_of(**device: Any) -> dict[str, Any]:
    pool = {"name": "p", "resourceSliceCount": 1}
    return named(spec={"driver": "d.example.com", "pool": pool, "allNodes": True, "devices": [{"name": "a", **device}]})


def review(**requirement: Any) -> dict[str, Any]:
    return {"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "labelSelector": {"requirements": [requirement]}}}}


HOOK, RULE = "webhooks[0]", "spec.rules[0]"
REFUSED = [
    (WEBHOOKS, webhook("a.b"), f'{HOOK}.name: Invalid value: "a.b": should be a domain with at least three segments separated by dots'),
    (WEBHOOKS, webhook("A.b.c"), f'{HOOK}.name: Invalid value: "A.b.c": a lowercase RFC 1123 subdomain must consist of'),
    (WEBHOOKS, webhook(admissionReviewVersions=["v2"]), "must include at least one of v1, v1beta1"),
    (
        WEBHOOKS,
        webhook(admissionReviewVersions=["v1", "v1"]),
        f'{HOOK}.admissionReviewVersions[1]: Invalid value: "v1": duplicate version',
    ),
    (
        WEBHOOKS,
        webhook(admissionReviewVersions=["v1", "1"]),
        f'{HOOK}.admissionReviewVersions[1]: Invalid value: "1": a DNS-1035 label must',
    ),
    (
        WEBHOOKS,
        webhook(resources=("pods/*", "pods/log")),
        f"{HOOK}.rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
    ),
    (WEBHOOKS, webhook(resources=("*/*", "pods")), "if '*/*' is present, must not specify other resources"),
    (WEBHOOKS, webhook(resources=("*", "pods")), "if '*' is present, must not specify other resources without subresources"),
    (
        BINDINGS,
        binding(validationActions=["Deny", "Log"]),
        'spec.validationActions[1]: Unsupported value: "Log": supported values: "Audit", "Deny", "Warn"',
    ),
    (
        BINDINGS,
        binding(paramRef={"parameterNotFoundAction": "Deny"}),
        "spec.paramRef: Required value: one of name or selector must be specified",
    ),
    (
        BINDINGS,
        binding(paramRef={"name": "a", "selector": {}, "parameterNotFoundAction": "Deny"}),
        "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
    ),
    (
        FLOWS,
        flow({"kind": "ServiceAccount", "serviceAccount": {"name": "*"}}),
        f"{RULE}.subjects[0].serviceAccount.namespace: Required value: must specify namespace for service account",
    ),
    (
        FLOWS,
        flow({"kind": "User", "user": {"name": "a"}, "group": {"name": "b"}}),
        f"{RULE}.subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
    ),
    (FLOWS, resources(verbs=["look"]), f'{RULE}.resourceRules[0].verbs: Unsupported value: ["look"]: supported values: "create", "delete"'),
    (FLOWS, resources(verbs=["*", "get"]), "if '*' is present, must not specify other verbs"),
    (FLOWS, resources(namespaces=["A"]), "each member of this list must be '*' or a DNS-1123 label; a lowercase RFC 1123 label must"),
    (FLOWS, paths("healthz"), f'{RULE}.nonResourceRules[0].nonResourceURLs[0]: Invalid value: "healthz": must start with slash'),
    (FLOWS, paths("/a*"), "wildcard can only do suffix matching"),
    (
        LEVELS,
        named(spec={"type": "Exempt"}),
        "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'",
    ),
    (SLICES, slice_of(attributes={"a": {}}), "spec.devices[0].attributes[a]: Required value: exactly one value must be specified"),
    (
        SLICES,
        slice_of(taints=[{"key": "a", "effect": "Sometimes"}]),
        'spec.devices[0].taints[0].effect: Unsupported value: "Sometimes": supported values: "NoExecute", "NoSchedule", "None"',
    ),
    (CLASSES, named(spec={"selectors": [{"cel": {"expression": ""}}]}), "spec.selectors[0].cel.expression: Required value"),
    (CLASSES, named(spec={"config": [{}]}), "spec.config[0].opaque: Required value"),
    (
        CLAIMS,
        named(spec={"devices": {"config": [{"opaque": {"driver": "d"}}]}}),
        "spec.devices.config[0].opaque.parameters: Required value",
    ),
]


@pytest.mark.parametrize(("resource", "body", "words"), REFUSED, ids=[f"{kind.split('.')[0]}-{words[:60]}" for kind, _, words in REFUSED])
async def test_refused(lab: Lab, resource: str, body: dict[str, Any], words: str) -> None:
    error = await lab.refused(resource, body)
    assert (error.code, error.reason) == (422, "Invalid")
    assert words in error.message


@pytest.mark.parametrize(
    ("resource", "body"),
    [
        (WEBHOOKS, webhook(admissionReviewVersions=["v2", "v1beta1"])),
        (WEBHOOKS, webhook(resources=("pods", "pods/log", "*/scale"))),
        (BINDINGS, binding(paramRef={"selector": {"matchLabels": {"a": "b"}}, "parameterNotFoundAction": "Deny"})),
        (FLOWS, flow()),
        (FLOWS, paths("/healthz", "/livez/*")),
        (SLICES, slice_of(attributes={"a": {"int": 0}}, taints=[{"key": "a", "effect": "None"}])),
        (CLASSES, named(spec={"config": [{"opaque": {"driver": "d.example.com", "parameters": {"a": 1}}}]})),
    ],
)
async def test_taken(lab: Lab, resource: str, body: dict[str, Any]) -> None:
    await lab.create(resource, body)


@pytest.mark.parametrize(
    ("requirement", "field", "words"),
    [
        ({"operator": "In", "values": ["a"]}, "key", "Required value: must be specified"),
        ({"key": "a", "operator": "NotIn"}, "values", "Required value: must be specified when `operator` is 'In' or 'NotIn'"),
        (
            {"key": "a", "operator": "Exists", "values": ["a"]},
            "values",
            "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
    ],
)
def test_a_question_about_selected_objects(requirement: dict[str, Any], field: str, words: str) -> None:
    (error,) = access.attributes(review(**requirement), None)
    assert (error.field, error.message) == (f"spec.resourceAttributes.labelSelector.requirements[0].{field}", words)
