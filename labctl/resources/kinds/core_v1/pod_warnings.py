"""What is legal in a pod and probably a mistake, or out of use: Kubernetes' own warnings, for Pods and for the templates that make them.

Works on dicts after defaults. A pod's author is told once, when it is made; a template's whenever its owner's spec changes. What Kubernetes no longer
knows to be out of use (an address in an odd form, which is refused now) is not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from labctl.resources import names
from labctl.resources.kind import Object
from labctl.resources.kinds.core_v1 import outdated
from labctl.resources.quantities import canonical, to_milli

_SECCOMP, _SECCOMP_OF_CONTAINER = "seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/"
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_WHOLE_BYTES = ("memory", "ephemeral-storage")
_NO_SELECTOR = "a null labelSelector results in matching no pod"
COMPARED_MAX = 32
"""Paths of a volume, and equal ports, with which another one is compared. A body has room for a hundred thousand, and each may be compared with each."""
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")

Located = tuple[str, Object]
"""A container or port with its path."""


def of_pod(new: Object, old: Object | None) -> Iterator[str]:
    """Yields the warnings about a new pod. An update of a pod is a program's, and nobody is told."""
    if old is None:
        yield from of_name(new["metadata"].get("name", ""), "the Pod's hostname")
        yield from of_template("", new)


def of_name(name: str, used_in: str = "Pod names and hostnames") -> Iterator[str]:
    """Yields a warning about a name that pods' host names can't be made of."""
    if said := " ".join(names.label(name)):
        yield f"metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is recommended: [{said}]"


def of_template(at: str, said: Object) -> Iterator[str]:
    """Yields the warnings about a template at the path `at`; about a pod if that is empty."""
    prefix = f"{at}." if at else ""
    path, spec = f"{prefix}spec", said.get("spec") or {}
    annotations = (said.get("metadata") or {}).get("annotations") or {}
    yield from _node_labels(path, spec)
    for key, why in _ANNOTATIONS.items():
        if key in annotations:
            yield f"{prefix}metadata.annotations[{key}]: {why}"
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield from _volume(f"{path}.volumes[{index}]", volume)
    yield from _repeated(path, spec)
    yield from fractions(f"{path}.overhead", spec.get("overhead") or {}, _WHOLE_BYTES)
    yield from _profiles(prefix, annotations, spec)
    containers = list(_containers(path, spec))
    for place, container in containers:
        yield from _container(place, container)
    yield from _ports(containers)
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        yield f"{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
    if spec.get("resourceClaims"):
        yield f"{path}.resourceClaims: no minion of a lab has a driver of devices; as in such a cluster of Kubernetes, the pod is not placed"
    yield from _pod_affinity(f"{path}.affinity", spec.get("affinity") or {})


def fractions(path: str, amounts: Mapping[str, str], resources: Iterable[str]) -> Iterator[str]:
    """Yields a warning about each amount of these resources that is no whole number of bytes."""
    for name in resources:
        if name in amounts and to_milli(amounts[name]) % 1000:
            yield f'{path}[{name}]: fractional byte value "{canonical(amounts[name])}" is invalid, must be an integer'


def claim_spec(path: str, spec: Object) -> Iterator[str]:
    """Yields the warnings about a claim's spec, or a template's of one."""
    for kind in ("requests", "limits"):
        yield from fractions(f"{path}.resources.{kind}", (spec.get("resources") or {}).get(kind) or {}, ("storage",))


def _node_labels(path: str, spec: Object) -> Iterator[str]:
    for key in spec.get("nodeSelector") or {}:
        if key in outdated.NODE_LABELS:
            yield f"{path}.nodeSelector[{key}]: {outdated.NODE_LABELS[key]}"
    wanted = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
    for index, term in enumerate((wanted.get(required) or {}).get("nodeSelectorTerms") or ()):
        yield from outdated.expressions(f"{path}.affinity.nodeAffinity.{required}.nodeSelectorTerms[{index}]", term)
    for index, term in enumerate(wanted.get(preferred) or ()):
        yield from outdated.expressions(f"{path}.affinity.nodeAffinity.{preferred}[{index}].preference", term.get("preference") or {})
    for index, spread in enumerate(spec.get("topologySpreadConstraints") or ()):
        at, key = f"{path}.topologySpreadConstraints[{index}]", spread.get("topologyKey", "")
        if key in outdated.NODE_LABELS:
            yield f"{at}.topologyKey: {key} is {outdated.NODE_LABELS[key]}"
        if spread.get("labelSelector") is None:
            yield f"{at}.labelSelector: {_NO_SELECTOR}"


def _volume(path: str, volume: Object) -> Iterator[str]:
    yield from outdated.volume_types(path, volume)
    template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if template:
        yield from claim_spec(f"{path}.ephemeral.volumeClaimTemplate.spec", template.get("spec") or {})
    at = f'volume "{volume.get("name", "")}"'
    for field, told in (("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")):
        source = volume.get(field) or {}
        name = source.get("secretName" if field == "secret" else "name")
        yield from _overlaps(f"{at} ({_titled(told, name)})", _paths(source), [])
    earlier: list[str] = []
    for source in (volume.get("projected") or {}).get("sources") or ():
        if not source:
            yield f"{at} (Projected) has no sources provided"
        for title, paths in _projected(source):
            yield from _overlaps(f"{at} (Projected {title})", paths, earlier)
            earlier += paths[: COMPARED_MAX - len(earlier)]


def _titled(kind: str, name: str | None) -> str:
    return kind if name is None else f'{kind} "{name}"'


def _paths(source: Object) -> list[str]:
    return [item.get("path", "") for item in source.get("items") or ()]


def _projected(source: Object) -> Iterator[tuple[str, list[str]]]:
    for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")):
        if source.get(field):
            yield _titled(kind, source[field].get("name")), _paths(source[field])
    if token := source.get("serviceAccountToken"):
        yield "ServiceAccountToken", [token.get("path", "")]
    if bundle := source.get("clusterTrustBundle"):
        yield _titled("ClusterTrustBundle", bundle.get("name") or bundle.get("signerName", "")), [bundle.get("path", "")]
    if certificate := source.get("podCertificate"):
        for field, what in (("certificateChainPath", "chain"), ("keyPath", "key"), ("credentialBundlePath", "credential bundle")):
            if certificate.get(field):
                yield f"PodCertificate {what}", [certificate[field]]


def _overlaps(title: str, paths: Sequence[str], earlier: Sequence[str]) -> Iterator[str]:
    """Yields a warning for each path that is another one's, or lies below it, or above it."""
    seen = [path.rstrip("/") for path in earlier[:COMPARED_MAX]]
    for path in (path.rstrip("/") for path in paths):
        other = next((each for each in seen if each and path and _overlap(each, path)), None)
        if other is not None:
            yield f'{title}: overlapping paths: "{path}" with "{other}"'
        if len(seen) < COMPARED_MAX:
            seen.append(path)


def _overlap(a: str, b: str) -> bool:
    return f"{a}/".startswith(f"{b}/") or f"{b}/".startswith(f"{a}/")


def _repeated(path: str, spec: Object) -> Iterator[str]:
    for field, key in (("hostAliases", "ip"), ("imagePullSecrets", "name")):
        seen: set[str] = set()
        for index, item in enumerate(spec.get(field) or ()):
            value = item.get(key, "")
            if value in seen:
                yield f'{path}.{field}[{index}].{key}: duplicate {key} "{value}"'
            seen.add(value)
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            yield f'{path}.imagePullSecrets[{index}].name: invalid empty name ""'


def _profiles(prefix: str, annotations: Mapping[str, str], spec: Object) -> Iterator[str]:
    """Yields warnings about annotations that stood for `seccompProfile` and `appArmorProfile`, where the fields are not set."""
    security = spec.get("securityContext") or {}
    at = f"{prefix}metadata.annotations"
    if _SECCOMP in annotations and not security.get("seccompProfile"):
        yield f'{at}[{_SECCOMP}]: non-functional in v1.27+; use the "seccompProfile" field instead'
    for _, container in _containers("", spec):
        own, name = container.get("securityContext") or {}, container.get("name", "")
        if _SECCOMP_OF_CONTAINER + name in annotations and not own.get("seccompProfile"):
            yield f'{at}[{_SECCOMP_OF_CONTAINER}{name}]: non-functional in v1.27+; use the "seccompProfile" field instead'
        if _APP_ARMOR + name in annotations and not (security.get("appArmorProfile") or own.get("appArmorProfile")):
            yield f'{at}[{_APP_ARMOR}{name}]: deprecated since v1.30; use the "appArmorProfile" field instead'


def _containers(path: str, spec: Object) -> Iterator[Located]:
    for field in _CONTAINERS:
        for index, container in enumerate(spec.get(field) or ()):
            yield f"{path}.{field}[{index}]", container


def _container(path: str, container: Object) -> Iterator[str]:
    resources = container.get("resources") or {}
    for name in _WHOLE_BYTES:
        for kind in ("limits", "requests"):
            yield from fractions(f"{path}.resources.{kind}", resources.get(kind) or {}, (name,))
    seen: set[str] = set()
    for index, env in enumerate(container.get("env") or ()):
        name, value = env.get("name", ""), env.get("value") or ""
        before = f"$({name})"
        if name in seen and (env.get("valueFrom") or value == before or before not in value):
            yield f'{path}.env[{index}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)


def _ports(containers: Iterable[Located]) -> Iterator[str]:
    """Yields warnings about ports of containers that run at the same time: all but init containers that end before the others begin."""
    known: dict[tuple[int, str], list[Located]] = {}
    named: dict[str, str] = {}
    clashes: list[str] = []
    for place, container in containers:
        if ".initContainers[" in place and container.get("restartPolicy") != "Always":
            continue
        for index, port in enumerate(container.get("ports") or ()):
            at = f"{place}.ports[{index}]"
            if port.get("hostIP") and not port.get("hostPort"):
                yield f"{at}: hostIP set without hostPort: {_shown(port)}"
            same = known.setdefault((port.get("containerPort", 0), port.get("protocol", "")), [])
            for other_at, other in same:
                if what := _clash(port, other):
                    yield f"{at}: {what} port definition with {other_at}"
            if len(same) < COMPARED_MAX:
                same.append((at, port))
            if name := port.get("name"):
                first = named.setdefault(name, at)
                if first != at:
                    by_name = f"services and probes that select ports by name will use {first}"
                    clashes.append(f'{at}: duplicate port name "{name}" with {first}, {by_name}')
    yield from clashes


def _clash(port: Object, other: Object) -> str:
    """Returns what is wrong with two equal ports of containers; nothing if they are different ports of the host."""
    mine, others = port.get("hostPort", 0), other.get("hostPort", 0)
    my_ip, other_ip = port.get("hostIP", ""), other.get("hostIP", "")
    if (mine, my_ip) == (others, other_ip):
        return "duplicate"
    if not mine or not others:
        return "overlapping"
    return "dangerously ambiguous" if mine == others and bool(my_ip) != bool(other_ip) else ""


def _shown(port: Object) -> str:
    """Formats a port as Go prints the structure that it is in Kubernetes."""
    name, number, protocol = port.get("name", ""), port.get("containerPort", 0), port.get("protocol", "")
    return f"{{Name:{name} HostPort:{port.get('hostPort', 0)} ContainerPort:{number} Protocol:{protocol} HostIP:{port.get('hostIP', '')}}}"


def _pod_affinity(path: str, affinity: Object) -> Iterator[str]:
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        at = f"{path}.{kind}.requiredDuringSchedulingIgnoredDuringExecution"
        for index, term in enumerate(terms.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
            if term.get("labelSelector") is None:
                yield f"{at}[{index}].labelSelector: {_NO_SELECTOR}"
        at = f"{path}.{kind}.preferredDuringSchedulingIgnoredDuringExecution"
        for index, term in enumerate(terms.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            if (term.get("podAffinityTerm") or {}).get("labelSelector") is None:
                yield f"{at}[{index}].podAffinityTerm.labelSelector: {_NO_SELECTOR}"
