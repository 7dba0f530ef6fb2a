"""What MutatingWebhookConfiguration and ValidatingWebhookConfiguration have in common."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Object
from labctl.resources.kinds import admissionrules as shared

COLUMNS = (
    NAME,
    Column("Webhooks", lambda view, _now: len(view.whole.get("webhooks") or ()), type="integer", description="How many it names."),
    AGE,
)


def defaults(webhook: Object) -> None:
    shared.matching_defaults(webhook)
    webhook.setdefault("failurePolicy", "Fail")
    webhook.setdefault("timeoutSeconds", 10)
    service = (webhook.get("clientConfig") or {}).get("service")
    if isinstance(service, dict):
        service.setdefault("port", 443)
    for rule in webhook.get("rules") or ():
        shared.rule_defaults(rule)


def mutating_defaults(webhook: Object) -> None:
    defaults(webhook)
    webhook.setdefault("reinvocationPolicy", "Never")


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    seen: set[str] = set()
    for number, webhook in enumerate(new.get("webhooks") or ()):
        path, name = f"webhooks[{number}]", webhook.get("name", "")
        if not name:
            yield fields.required(f"{path}.name")
        elif wrong := names.subdomain(name):
            yield fields.invalid(f"{path}.name", name, ",".join(wrong))
        elif name.count(".") < 2:
            yield fields.invalid(f"{path}.name", name, "should be a domain with at least three segments separated by dots")
        if name in seen:
            yield fields.duplicate(f"{path}.name", name)
        seen.add(name)
        yield from _webhook(path, webhook)


def _webhook(path: str, webhook: Object) -> Iterator[FieldError]:
    yield from shared.rules(f"{path}.rules", webhook.get("rules") or ())
    yield from shared.label_selectors(path, webhook)
    yield from shared.one_of(f"{path}.failurePolicy", webhook.get("failurePolicy"), ("Fail", "Ignore"))
    yield from shared.one_of(f"{path}.matchPolicy", webhook.get("matchPolicy"), ("Equivalent", "Exact"))
    yield from shared.one_of(f"{path}.reinvocationPolicy", webhook.get("reinvocationPolicy"), ("IfNeeded", "Never"))
    if webhook.get("sideEffects") is None:
        yield fields.required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun")
    else:
        yield from shared.one_of(f"{path}.sideEffects", webhook["sideEffects"], ("None", "NoneOnDryRun"))
    if not 1 <= (webhook.get("timeoutSeconds") or 0) <= 30:
        yield fields.invalid(f"{path}.timeoutSeconds", webhook.get("timeoutSeconds"), "the timeout value must be between 1 and 30 seconds")
    versions = webhook.get("admissionReviewVersions") or ()
    if not versions:
        yield fields.required(f"{path}.admissionReviewVersions", "must specify one of v1, v1beta1")
    for number, version in enumerate(versions):
        if version in versions[:number]:
            yield fields.invalid(f"{path}.admissionReviewVersions[{number}]", version, "duplicate version")
        else:
            yield from names.checked(f"{path}.admissionReviewVersions[{number}]", version, names.label_1035)
    if versions and not {"v1", "v1beta1"} & set(versions):
        yield fields.invalid(f"{path}.admissionReviewVersions", versions, "must include at least one of v1, v1beta1")
    yield from shared.client_config(f"{path}.clientConfig", webhook.get("clientConfig"))
    yield from shared.conditions(f"{path}.matchConditions", webhook.get("matchConditions") or (), shared.REQUEST_VARIABLES)
