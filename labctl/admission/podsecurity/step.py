"""PodSecurity: pods that a namespace's labels forbid are refused, and who writes a template of such pods is warned.

A validating step, with the words of Kubernetes' plugin of the same name. Namespaces without such labels cost a look at their labels, and the checks are not imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.admission.podsecurity.levels import PREFIX, PRIVILEGED, Standard, wanted
from labctl.resources import failures, plurals
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kind import Object

_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    plurals.REPLICATION_CONTROLLERS: ("spec", "template"),
    "podtemplates": ("template",),
    plurals.REPLICA_SETS: ("spec", "template"),
    plurals.DEPLOYMENTS: ("spec", "template"),
    plurals.STATEFUL_SETS: ("spec", "template"),
    plurals.DAEMON_SETS: ("spec", "template"),
    plurals.JOBS: ("spec", "template"),
    plurals.CRON_JOBS: ("spec", "jobTemplate", "spec", "template"),
}
_OF_PODS = ("", "ephemeralcontainers", "resize")  # the other subresources change nothing that the checks look at
_OLD_SECCOMP = ("seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/")
_MOST_PODS = 3000  # so many pods of a namespace are looked at when its labels change


class PodSecurity:
    name = "PodSecurity"
    kinds: frozenset[str] | None = frozenset((plurals.PODS, plurals.NAMESPACES, *_TEMPLATES))
    verbs: frozenset[Verb] = frozenset({"create", "update"})

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        if attributes.new is None:
            return
        resource = attributes.kind.resource
        if resource == plurals.NAMESPACES:
            if not attributes.subresource:
                self._namespace(attributes, attributes.new)
        elif resource == plurals.PODS:
            if attributes.subresource in _OF_PODS:
                self._pod(attributes, attributes.new)
        elif not attributes.subresource:
            template: Any = attributes.new
            for key in _TEMPLATES[resource]:
                template = (template or {}).get(key)
            if template:
                self._warn(attributes, self._labels(attributes.namespace), template)

    def _pod(self, attributes: Attributes, pod: Object) -> None:
        labels = self._labels(attributes.namespace)
        if not labels or (attributes.old is not None and _same(pod, attributes.old)):
            return
        enforced = wanted(labels).enforce
        wrong = _violations(enforced, pod)
        if wrong:
            raise failures.forbidden(attributes.kind, attributes.name, f'violates PodSecurity "{enforced}": {_shown(wrong)}')
        self._warn(attributes, labels, pod)

    def _warn(self, attributes: Attributes, labels: Mapping[str, str], pod: Object) -> None:
        if labels:
            standard = wanted(labels).warn
            if wrong := _violations(standard, pod):
                attributes.warnings.append(f'would violate PodSecurity "{standard}": {_shown(wrong)}')

    def _labels(self, namespace: str) -> Mapping[str, str]:
        """Returns the labels of a namespace that are about pod security."""
        found = self._client.get(plurals.NAMESPACES, namespace)
        return {} if found is None else _about_pods(found.metadata.labels)

    def _namespace(self, attributes: Attributes, new: Object) -> None:
        """Labels that say nothing are refused, unless they stood there before; of a stricter level, the pods that violate it are told."""
        labels, before = (_about_pods((each or {}).get("metadata", {}).get("labels") or {}) for each in (new, attributes.old))
        if labels == before:
            return
        now, old = wanted(labels), wanted(before)
        if now.errors and now.errors != old.errors:
            raise failures.invalid(attributes.kind, attributes.name, now.errors)
        if attributes.old is None or now.enforce == old.enforce or now.enforce.level == PRIVILEGED:
            return
        if now.enforce.minor != old.enforce.minor or now.enforce.stricter_than(old.enforce):
            attributes.warnings.extend(self._violating(attributes.name, now.enforce))

    def _violating(self, namespace: str, enforced: Standard) -> list[str]:
        """Returns the warnings about a namespace's pods: one for each thing that is wrong, with the first pod's name."""
        names = sorted(pod.metadata.name for pod in self._client.list(plurals.PODS, namespace))
        found: dict[str, list[str]] = {}
        for name in names[:_MOST_PODS]:
            pod = self._client.raw(plurals.PODS, f"{namespace}/{name}")
            wrong = _violations(enforced, pod) if pod else []
            if wrong:
                found.setdefault(", ".join(reason for reason, _where in wrong), []).append(name)
        warnings = []
        if len(names) > _MOST_PODS:
            warnings.append(f"new PodSecurity enforce level only checked against the first {_MOST_PODS} of {len(names)} existing pods")
        if found:
            warnings.append(f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{enforced}"')
        return [*warnings, *sorted(f"{pods[0]}{_others(len(pods) - 1)}: {reason}" for reason, pods in found.items())]


def _others(count: int) -> str:
    return "" if not count else f" (and {count} other pod{'s' if count > 1 else ''})"


def _about_pods(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if key.startswith(PREFIX)}


def _violations(standard: Standard, pod: Object) -> list[tuple[str, str]]:
    if standard.level == PRIVILEGED:
        return []
    from labctl.admission.podsecurity.checks import violations

    return violations(standard, pod.get("metadata") or {}, pod.get("spec") or {})


def _shown(wrong: list[tuple[str, str]]) -> str:
    return ", ".join(f"{reason} ({where})" if where else reason for reason, where in wrong)


def _same(new: Object, old: Object) -> bool:
    """True if an update changes nothing that may change in a pod and that the checks look at: images, and which containers there are."""
    return _looked_at(new) == _looked_at(old)


def _looked_at(pod: Object) -> list[Any]:
    spec, annotations = pod.get("spec") or {}, (pod.get("metadata") or {}).get("annotations") or {}
    parts = ("containers", "initContainers", "ephemeralContainers")
    images = [[(c.get("name"), c.get("image")) for c in spec.get(part) or ()] for part in parts]
    return [*images, {key: value for key, value in annotations.items() if key.startswith(_OLD_SECCOMP)}]
