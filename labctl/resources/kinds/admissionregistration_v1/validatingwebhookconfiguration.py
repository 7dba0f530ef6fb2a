"""ValidatingWebhookConfiguration: servers that are asked about writes, and may only refuse them."""

from __future__ import annotations

from labctl.resources.generic import GenericObject
from labctl.resources.kind import Kind, TypeDefaults
from labctl.resources.kinds import webhookconfigurations as hooks
from labctl.resources.kinds.admissionrules import DEFINITION, GROUP, name_warnings

KIND = Kind(
    group=GROUP,
    version="v1",
    kind="ValidatingWebhookConfiguration",
    plural="validatingwebhookconfigurations",
    singular="validatingwebhookconfiguration",
    namespaced=False,
    view=GenericObject,
    categories=("api-extensions",),
    columns=hooks.COLUMNS,
    has_generation=True,
    validate=hooks.validate,
    warnings=name_warnings,
    type_defaults={DEFINITION + "ValidatingWebhook": TypeDefaults(function=hooks.defaults)},
)
