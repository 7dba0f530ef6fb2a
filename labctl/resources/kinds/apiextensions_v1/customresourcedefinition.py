"""CustomResourceDefinition: a kind that somebody defines. resources/custom/ makes Kinds of it, controllers/customresources.py accepts its names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from labctl.resources import fields
from labctl.resources.cells import NAME
from labctl.resources.custom import openapischema
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds import admissionrules
from labctl.resources.kinds.apiextensions_v1 import version_rules
from labctl.resources.kinds.shared import Condition, condition_status

_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_GROUP = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+")
_NOT_A_LABEL = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric "
    "character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
APPROVED = "api-approved.kubernetes.io"
_APPROVAL_PAGE = "https://github.com/kubernetes/enhancements/pull/1111"
_INVALID_APPROVAL = f'protected groups must have approval annotation "{APPROVED}" with either a URL or a reason starting with "unapproved", see {_APPROVAL_PAGE}'
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


class Names(msgspec.Struct, frozen=True, rename="camel", gc=False):
    plural: str = ""
    singular: str = ""
    kind: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


class Validation(msgspec.Struct, frozen=True, gc=False):
    schema: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"{}"), name="openAPIV3Schema")


class Scale(msgspec.Struct, frozen=True, rename="camel", gc=False):
    spec_replicas_path: str = ""
    status_replicas_path: str = ""
    label_selector_path: str = ""


class Subresources(msgspec.Struct, frozen=True, gc=False):
    status: dict[str, Any] | None = None
    scale: Scale | None = None


class PrinterColumn(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str = ""
    type: str = ""
    format: str = ""
    description: str = ""
    priority: int = 0
    json_path: str = msgspec.field(default="", name="jsonPath")


class SelectableField(msgspec.Struct, frozen=True, gc=False):
    json_path: str = msgspec.field(default="", name="jsonPath")


class Version(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str = ""
    served: bool = False
    storage: bool = False
    deprecated: bool = False
    deprecation_warning: str = ""
    schema: Validation = Validation()
    subresources: Subresources = Subresources()
    additional_printer_columns: tuple[PrinterColumn, ...] = ()
    selectable_fields: tuple[SelectableField, ...] = ()


class Conversion(msgspec.Struct, frozen=True, gc=False):
    strategy: str = "None"
    webhook: msgspec.Raw = msgspec.Raw(b"null")


class CustomResourceDefinitionSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    group: str = ""
    scope: str = ""
    names: Names = Names()
    versions: tuple[Version, ...] = ()
    conversion: Conversion = Conversion()
    preserve_unknown_fields: bool = False


class DefinitionCondition(Condition, frozen=True, rename="camel", gc=False):
    observed_generation: int = 0


class CustomResourceDefinitionStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    accepted_names: Names = Names()
    stored_versions: tuple[str, ...] = ()
    conditions: tuple[DefinitionCondition, ...] = ()
    observed_generation: int = 0


class CustomResourceDefinition(Viewed, frozen=True, rename="camel", gc=False):
    spec: CustomResourceDefinitionSpec = CustomResourceDefinitionSpec()
    status: CustomResourceDefinitionStatus = CustomResourceDefinitionStatus()

    @property
    def resource(self) -> str:
        """Return the name that plans and clients use for its objects: `widgets.example.com`."""
        return f"{self.spec.names.plural}.{self.spec.group}"

    def has(self, condition: str) -> bool:
        return condition_status(self.status.conditions, condition) == "True"


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        stored = [version.get("name", "") for version in new.get("spec", {}).get("versions") or () if version.get("storage")]
        empty = {"plural": "", "kind": ""}
        new["status"] = {"conditions": [], "acceptedNames": empty, "storedVersions": stored}
        new["metadata"]["finalizers"] = [
            *(new["metadata"].get("finalizers") or ()),
            *([] if CLEANUP in (new["metadata"].get("finalizers") or ()) else [CLEANUP]),
        ]
        return
    stored = [version.get("name", "") for version in new.get("spec", {}).get("versions") or () if version.get("storage")]
    known = new.setdefault("status", {}).setdefault("storedVersions", [])
    known += [name for name in stored if name not in known]


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    names = spec.get("names") or {}
    wanted = f"{names.get('plural', '')}.{spec.get('group', '')}"
    if new["metadata"].get("name") != wanted:
        yield fields.invalid("metadata.name", new["metadata"].get("name"), 'must be spec.names.plural+"."+spec.group')
    yield from _identity(spec, names)
    if is_protected(spec.get("group", "")) and (old is None or APPROVED in (old["metadata"].get("annotations") or {})):
        yield from _approval(new)
    yield from _versions(spec, _schemas((old or {}).get("spec", {})))
    yield from _conversion(spec)
    if spec.get("preserveUnknownFields"):
        why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        yield fields.invalid("spec.preserveUnknownFields", True, why)
    if old is not None:
        yield from _changed(new, old)


def warnings(new: Object, old: Object | None) -> Iterator[str]:
    """Warns of each format that Kubernetes would not check, unless the definition had it before."""
    known = _unknown_formats(old) if old is not None else []
    yield from (f'unrecognized format "{name}"' for name in dict.fromkeys(_unknown_formats(new)) if name not in known)


def _unknown_formats(definition: Object) -> list[str]:
    versions = definition.get("spec", {}).get("versions") or ()
    return [name for version in versions for name in openapischema.unknown_formats((version.get("schema") or {}).get("openAPIV3Schema"))]


def is_protected(group: str) -> bool:
    """Tell whether a group belongs to the Kubernetes community."""
    return group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))


def approval(annotations: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the condition KubernetesAPIApprovalPolicyConformant of a definition in a protected group: status, reason, message (KEP-1111)."""
    said = annotations.get(APPROVED, "")
    if not said:
        return "False", "MissingAnnotation", f'protected groups must have approval annotation "{APPROVED}", see {_APPROVAL_PAGE}'
    if said.startswith("unapproved"):
        return "False", "UnapprovedAPI", f'not approved: "{said}"'
    if said.startswith(("https://", "http://")):
        return "True", "ApprovedAnnotation", f"approved in {said}"
    return "False", "InvalidAnnotation", _INVALID_APPROVAL


def _approval(new: Object) -> Iterator[FieldError]:
    annotations = new["metadata"].get("annotations") or {}
    _, reason, why = approval(annotations)
    if reason == "MissingAnnotation":
        yield fields.required(f"metadata.annotations[{APPROVED}]", why)
    elif reason == "InvalidAnnotation":
        yield fields.invalid(f"metadata.annotations[{APPROVED}]", annotations[APPROVED], why)


def _identity(spec: Object, names: Object) -> Iterator[FieldError]:
    group = spec.get("group", "")
    if not group:
        yield fields.required("spec.group")
    elif not _GROUP.fullmatch(group):
        yield fields.invalid(
            "spec.group", group, "should be a domain with at least one dot" if "." not in group else "must be a DNS-1123 subdomain"
        )
    if not spec.get("scope"):
        yield fields.required("spec.scope")
    elif spec["scope"] not in ("Cluster", "Namespaced"):
        yield fields.not_supported("spec.scope", spec["scope"], ("Cluster", "Namespaced"))
    for name in ("plural", "singular"):
        if not names.get(name):
            yield fields.required(f"spec.names.{name}")
        elif not _LABEL.fullmatch(names[name]):
            yield fields.invalid(f"spec.names.{name}", names[name], _NOT_A_LABEL)
    for name in ("kind", "listKind"):
        if not names.get(name):
            yield fields.required(f"spec.names.{name}")
        elif not _LABEL.fullmatch(names[name].lower()):
            yield fields.invalid(f"spec.names.{name}", names[name], f"may have mixed case, but should otherwise match: {_NOT_A_LABEL}")
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        yield fields.invalid("spec.names.listKind", names["listKind"], "kind and listKind may not be the same")
    for name in ("shortNames", "categories"):
        for number, said in enumerate(names.get(name) or ()):
            if not _LABEL.fullmatch(said):
                yield fields.invalid(f"spec.names.{name}[{number}]", said, _NOT_A_LABEL)


def _schemas(spec: Object) -> Mapping[str, Any]:
    """Return the schemas of a definition by the names of its versions."""
    return {version.get("name", ""): (version.get("schema") or {}).get("openAPIV3Schema") for version in spec.get("versions") or ()}


def _versions(spec: Object, before: Mapping[str, Any]) -> Iterator[FieldError]:
    """Check the versions. `before` are the schemas that they had: one that stays as it is is not judged again, whatever was changed in the rules since it was
    written, such as what a rule in CEL may cost; compiling its rules takes long, too."""
    versions = spec.get("versions") or []
    if not versions:
        yield fields.required("spec.versions", "must have exactly one version marked as storage version")
        return
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield fields.invalid("spec.versions", versions, "must have exactly one version marked as storage version")
    seen: set[str] = set()
    for number, version in enumerate(versions):
        path, name = f"spec.versions[{number}]", version.get("name", "")
        if not _LABEL.fullmatch(name):
            yield fields.invalid(f"{path}.name", name, _NOT_A_LABEL)
        seen.add(name)
        yield from version_rules.problems(path, version, before)
    if len(seen) < len(versions):
        yield fields.invalid("spec.versions", versions, "must contain unique version names")


def _conversion(spec: Object) -> Iterator[FieldError]:
    conversion = spec.get("conversion") or {}
    strategy, webhook = conversion.get("strategy", "None"), conversion.get("webhook")
    if strategy not in ("None", "Webhook"):
        yield fields.not_supported("spec.conversion.strategy", strategy, ("None", "Webhook"))
    elif strategy == "None" and webhook:
        for name, field in (("clientConfig", "webhookClientConfig"), ("conversionReviewVersions", "conversionReviewVersions")):
            if webhook.get(name):
                yield fields.forbidden(f"spec.conversion.{field}", "should not be set when strategy is not set to Webhook")
    elif strategy == "Webhook":
        client = (webhook or {}).get("clientConfig")
        path = "spec.conversion.webhookClientConfig"
        if not client:
            yield fields.required(path, "required when strategy is set to Webhook")
        else:
            yield from admissionrules.client_config(path, client)
        yield from _review_versions((webhook or {}).get("conversionReviewVersions") or [])


def _review_versions(versions: Sequence[str]) -> Iterator[FieldError]:
    path = "spec.conversion.conversionReviewVersions"
    if not versions:
        yield fields.required(path)
        return
    for number, version in enumerate(versions):
        if version in versions[:number]:
            yield fields.invalid(f"{path}[{number}]", version, "duplicate version")
        elif not _LABEL.fullmatch(version):
            yield fields.invalid(f"{path}[{number}]", version, _NOT_A_LABEL)
    if not {"v1", "v1beta1"} & set(versions):
        yield fields.invalid(path, versions, "must include at least one of v1, v1beta1")


def _changed(new: Object, old: Object) -> Iterator[FieldError]:
    """Names and scope are for life once they are accepted; a version that objects are stored in must stay listed."""
    spec = new.get("spec", {})
    established = any(c.get("type") == "Established" and c.get("status") == "True" for c in old.get("status", {}).get("conditions") or ())
    if established:
        for path in (("scope",), ("names", "kind")):
            now, before = _at(spec, path), _at(old["spec"], path)
            if now != before:
                yield fields.invalid(f"spec.{'.'.join(path)}", now, "field is immutable")
    for path in (("group",), ("names", "plural")):
        now, before = _at(spec, path), _at(old["spec"], path)
        if now != before:
            yield fields.invalid(f"spec.{'.'.join(path)}", now, "field is immutable")
    named = {version.get("name") for version in spec.get("versions") or ()}
    for number, stored in enumerate(new.get("status", {}).get("storedVersions") or ()):
        if stored not in named:
            why = (
                f"missing from spec.versions; {stored} was previously a storage version, and must remain in spec.versions until a storage "
                f"migration ensures no data remains persisted in {stored} and removes {stored} from status.storedVersions"
            )
            yield fields.invalid(f"status.storedVersions[{number}]", stored, why)


def _at(value: Object, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) or {}
    return value


def _spec_defaults(spec: Object) -> None:
    names = spec.setdefault("names", {})
    if names.get("kind"):
        names["singular"] = names.get("singular") or names["kind"].lower()
        names["listKind"] = names.get("listKind") or names["kind"] + "List"
    spec.setdefault("conversion", {}).setdefault("strategy", "None")
    for version in spec.get("versions") or ():
        version.setdefault("served", False)
        version.setdefault("storage", False)


def _served(view: CustomResourceDefinition, _now_s: float) -> str:
    return ",".join(version.name for version in view.spec.versions if version.served)


KIND = Kind(
    group="apiextensions.k8s.io",
    version="v1",
    kind="CustomResourceDefinition",
    plural="customresourcedefinitions",
    singular="customresourcedefinition",
    namespaced=False,
    view=CustomResourceDefinition,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    columns=(
        NAME,
        Column("Group", lambda view, _now: view.spec.group, description="The group of its objects."),
        Column("Scope", lambda view, _now: view.spec.scope, description="Namespaced or Cluster."),
        Column("Versions", _served, description="The versions that are served."),
        Column("Created At", lambda view, _now: view.metadata.creation_timestamp or "", type="date", description="When it was made."),
    ),
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=warnings,
    acts_on=frozenset({"spec.conversion", "spec.group", "spec.names", "spec.preserveUnknownFields", "spec.scope", "spec.versions"}),
    type_defaults={
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionSpec": TypeDefaults(function=_spec_defaults)
    },
)
