"""What may stand in a pod's spec, and what of it may change: for Pods, and for the templates that make them.

Works on dicts after defaults, answers field errors in Kubernetes' words and order. An unchanged spec is not looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1 import (
    annotation_rules,
    container_rules,
    name_rules,
    placement_rules,
    resize_rules,
    resource_rules,
    security_rules,
    volume_rules,
)
from labctl.resources.labels import key_errors, value_errors

_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_PREEMPTION = ("Never", "PreemptLowerPriority")
_UPDATABLE = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)


def spec(path: str, said: Object, *, template: bool = False) -> Iterator[FieldError]:
    """Validates the spec of a pod, or of a template that pods are made of."""
    if said.get("volumes"):
        yield from volume_rules.volumes(f"{path}.volumes", said["volumes"], template=template)
    if said.get("resourceClaims"):
        yield from _claims(f"{path}.resourceClaims", said["resourceClaims"])
    yield from _containers(path, said, template=template)
    if said["restartPolicy"] not in _RESTART_POLICIES:
        yield fields.not_supported(f"{path}.restartPolicy", said["restartPolicy"], _RESTART_POLICIES)
    if said["dnsPolicy"] not in _DNS_POLICIES:
        yield fields.not_supported(f"{path}.dnsPolicy", said["dnsPolicy"], _DNS_POLICIES)
    for key, value in said.get("nodeSelector", {}).items():
        yield from names.checked(f"{path}.nodeSelector", key, key_errors)
        yield from names.checked(f"{path}.nodeSelector", value, value_errors)
    yield from security_rules.of_pod(path, said)
    yield from name_rules.dns_config(f"{path}.dnsConfig", said)
    for index, gate in enumerate(said.get("readinessGates") or ()):
        yield from names.checked(f"{path}.readinessGates[{index}].conditionType", gate.get("conditionType", ""), key_errors)
    yield from placement_rules.placement(path, said)
    yield from name_rules.hostnames(path, said)
    for name in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        if said.get(name):
            yield from names.checked(f"{path}.{name}", said[name], names.subdomain)
    deadline = said.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline < 2**31:
        yield fields.invalid(f"{path}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive")
    for index, each in enumerate(said.get("tolerations", ())):
        yield from toleration(f"{path}.tolerations[{index}]", each)
    yield from name_rules.host_aliases(f"{path}.hostAliases", said)
    if said.get("preemptionPolicy") not in (None, *_PREEMPTION):
        yield fields.not_supported(f"{path}.preemptionPolicy", said["preemptionPolicy"], _PREEMPTION)
    if said.get("overhead"):
        yield from resource_rules.of_container(f"{path}.overhead", {"limits": said["overhead"]})
    yield from resource_rules.of_pod(path, said)
    yield from security_rules.operating_system(path, said)


def template(path: str, given: Object) -> Iterator[FieldError]:
    """Validates a template's metadata and spec. Kubernetes says `labels` where the path has `metadata.labels`."""
    metadata = given.get("metadata") or {}
    yield from names.labels(f"{path}.labels", metadata.get("labels") or {})
    yield from names.annotation_keys(f"{path}.annotations", metadata.get("annotations") or {})
    said = given.get("spec")
    yield from annotation_rules.of_values(f"{path}.annotations", metadata.get("annotations") or {})
    yield from annotation_rules.of_spec(f"{path}.annotations", metadata.get("annotations") or {}, said or {})
    if said is None:
        yield fields.required(f"{path}.spec.containers")
        return
    yield from spec(f"{path}.spec", said, template=True)
    if said.get("ephemeralContainers"):
        yield fields.forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")


def _containers(path: str, said: Object, *, template: bool) -> Iterator[FieldError]:
    if not said.get("containers"):
        yield fields.required(f"{path}.containers")
    pod = container_rules.of_pod(said, template=template)
    seen: set[str] = set()
    for part in ("containers", "initContainers"):
        for index, c in enumerate(said.get(part, ())):
            at = f"{path}.{part}[{index}]"
            yield from container_rules.container(at, c, pod, init=part == "initContainers")
            yield from resize_rules.policies(f"{at}.resizePolicy", c, said["restartPolicy"])
            name = c.get("name", "")
            if name and name in seen:
                yield fields.duplicate(f"{at}.name", name)
            seen.add(name)
            if part == "initContainers":
                yield from container_rules.host_ports(f"{path}.{part}", (c,))
    yield from container_rules.host_ports(f"{path}.containers", said.get("containers", ()))
    if said.get("hostNetwork"):
        yield from _host_network(f"{path}.containers", said.get("containers", ()), template=template)


def _host_network(path: str, containers: Sequence[Object], *, template: bool) -> Iterator[FieldError]:
    """On the host's network a port is the host's. In a template the host's port may be left out: a pod gets it when it is made."""
    for position, c in enumerate(containers):
        for index, port in enumerate(c.get("ports", ())):
            on_host = port.get("hostPort", 0)
            if on_host != port.get("containerPort", 0) and (on_host or not template):
                why = "must match `containerPort` when `hostNetwork` is true"
                yield fields.invalid(f"{path}[{position}].ports[{index}].hostPort", on_host, why)


def _claims(path: str, claims: Sequence[Object]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        at, name = f"{path}[{index}]", claim.get("name", "")
        if not name:
            yield fields.required(f"{at}.name")
        elif name in seen:
            yield fields.duplicate(f"{at}.name", name)
        else:
            yield from names.checked(f"{at}.name", name, names.label)
        seen.add(name)
        sources = [each for each in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(each) is not None]
        if len(sources) > 1:
            yield fields.invalid(at, claim, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
        elif not sources:
            yield fields.invalid(at, claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
        for each in sources:
            yield from names.checked(f"{at}.{each}", claim[each], names.subdomain)


def toleration(path: str, said: Object) -> Iterator[FieldError]:
    """Validates one toleration, of a pod or of a RuntimeClass."""
    key, operator, effect = said.get("key", ""), said.get("operator", ""), said.get("effect", "")
    if key:
        yield from names.checked(f"{path}.key", key, key_errors)
    elif operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield fields.invalid(f"{path}.operator", operator, why)
    if "tolerationSeconds" in said and effect != "NoExecute":
        yield fields.invalid(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    wrong = value_errors(said.get("value", "")) if operator in ("", "Equal") else ()
    if wrong:
        yield fields.invalid(f"{path}.operator", said["value"], ";".join(wrong))
    if operator not in ("", "Equal", "Exists"):
        yield fields.not_supported(f"{path}.operator", operator, ("Equal", "Exists"))
    elif operator == "Exists" and said.get("value"):
        yield fields.invalid(f"{path}.operator", said["value"], "value must be empty when `operator` is 'Exists'")
    if effect and effect not in _EFFECTS:
        yield fields.not_supported(f"{path}.effect", effect, _EFFECTS)


def changed(new: Object, old: Object) -> Iterator[FieldError]:
    """Check that only the few mutable fields of a pod's spec change."""
    for part in ("containers", "initContainers"):
        if len(new.get(part, ())) != len(old.get(part, ())):
            yield fields.forbidden(f"spec.{part}", "pod updates may not add or remove containers")
            return
    deadline, before = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if before is not None and deadline is None:
        yield fields.invalid("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")
    elif before is not None and deadline > before:
        yield fields.invalid("spec.activeDeadlineSeconds", deadline, "must be less than or equal to previous value")
    if not _encoded(old.get("tolerations", ())) <= _encoded(new.get("tolerations", ())):
        yield fields.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    yield from placement_rules.changed(new, old)
    if _fixed(new, old) != _fixed(old, old):
        yield fields.forbidden("spec", f"pod updates may not change fields other than {','.join(_UPDATABLE)}")


def _encoded(tolerations: Iterable[Object]) -> set[bytes]:
    """Tolerations as a set, so that each is looked up and not searched for: a list may have tens of thousands. Their seconds may change."""
    kept = ({name: value for name, value in each.items() if name != "tolerationSeconds"} for each in tolerations)
    return {msgspec.json.encode(each, order="deterministic") for each in kept}


def _fixed(said: Object, old: Object) -> Object:
    """Return the spec without what may change."""
    changing = ("activeDeadlineSeconds", "tolerations", "schedulingGates")
    kept = {name: value for name, value in said.items() if name not in changing}
    if old.get("schedulingGates"):
        kept = placement_rules.without_nodes(kept)
    for part in ("containers", "initContainers"):
        if part in kept:
            kept[part] = [{name: value for name, value in c.items() if name != "image"} for c in kept[part]]
    if old.get("terminationGracePeriodSeconds", 0) < 0 and kept.get("terminationGracePeriodSeconds") == 1:
        kept["terminationGracePeriodSeconds"] = old["terminationGracePeriodSeconds"]
    return kept
