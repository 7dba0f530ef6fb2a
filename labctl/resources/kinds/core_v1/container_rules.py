"""This module validates containers by the rules of Kubernetes' ValidateContainers, as far as labctl acts on them. It takes dicts and yields field errors.

`path` is the path of the container, e.g. `spec.containers[0]` in a pod or `spec.template.spec.containers[0]` in a template.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1 import resource_rules

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
RESTART_POLICIES = ("Always", "Never", "OnFailure")
RESTART_ACTIONS = ("Restart", "RestartAllContainers")
MOST_RESTART_RULES, MOST_EXIT_CODES = 20, 255
PROTOCOLS = ("SCTP", "TCP", "UDP")
_NOT_NEGATIVE = "must be greater than or equal to 0"
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_FIELD_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_PROBE_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def container(path: str, c: Object, volumes: Collection[str], *, init: bool) -> Iterator[FieldError]:
    if not c.get("name"):
        yield fields.required(f"{path}.name")
    else:
        yield from names.checked(f"{path}.name", c["name"], names.label)
    image = c.get("image", "")
    if not image:
        yield fields.required(f"{path}.image")
    elif image != image.strip():
        yield fields.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    if c["imagePullPolicy"] not in PULL_POLICIES:
        yield fields.not_supported(f"{path}.imagePullPolicy", c["imagePullPolicy"], PULL_POLICIES)
    if c.get("terminationMessagePolicy", "File") not in ("File", "FallbackToLogsOnError"):
        yield fields.not_supported(f"{path}.terminationMessagePolicy", c["terminationMessagePolicy"], ("FallbackToLogsOnError", "File"))
    if "ports" in c:
        yield from _ports(f"{path}.ports", c["ports"])
    if "env" in c:
        for index, env in enumerate(c["env"]):
            yield from _env(f"{path}.env[{index}]", env)
    for index, source in enumerate(c.get("envFrom", ())):
        yield from _env_from(f"{path}.envFrom[{index}]", source)
    if "volumeMounts" in c:
        yield from _mounts(f"{path}.volumeMounts", c["volumeMounts"], volumes)
    if "resources" in c:
        yield from resource_rules.of_container(f"{path}.resources", c["resources"])
    if "securityContext" in c:
        yield from _security(f"{path}.securityContext", c["securityContext"])
    if "restartPolicy" in c and c["restartPolicy"] not in RESTART_POLICIES:
        yield fields.not_supported(f"{path}.restartPolicy", c["restartPolicy"], RESTART_POLICIES)
    if c.get("restartPolicyRules"):
        yield from _restart_rules(path, c)
    yield from _hooks(path, c, init=init)


def _restart_rules(path: str, c: Object) -> Iterator[FieldError]:
    """Validates the rules that start a container, or all of its pod, again by its exit code (KEP-5307, KEP-5532)."""
    if "restartPolicy" not in c:
        yield fields.required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")
    rules = c["restartPolicyRules"]
    if len(rules) > MOST_RESTART_RULES:
        yield fields.too_many(f"{path}.restartPolicyRules", len(rules), MOST_RESTART_RULES)
    for index, rule in enumerate(rules[:MOST_RESTART_RULES]):
        at, said = f"{path}.restartPolicyRules[{index}]", rule.get("exitCodes")
        if rule.get("action") not in RESTART_ACTIONS:
            yield fields.not_supported(f"{at}.action", rule.get("action", ""), RESTART_ACTIONS)
        if said is None:
            yield fields.required(f"{at}.exitCodes", "must be specified")
            continue
        if said.get("operator") not in ("In", "NotIn"):
            yield fields.not_supported(f"{at}.exitCodes.operator", said.get("operator", ""), ("In", "NotIn"))
        if len(said.get("values") or ()) > MOST_EXIT_CODES:
            yield fields.too_many(f"{at}.exitCodes.values", len(said["values"]), MOST_EXIT_CODES)


def _hooks(path: str, c: Object, *, init: bool) -> Iterator[FieldError]:
    """Validates probes and lifecycle. An init container that is no sidecar may have neither."""
    plain_init = init and c.get("restartPolicy") != "Always"
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in c:
            if plain_init:
                yield fields.forbidden(f"{path}.{name}", "may not be set for init containers without restartPolicy=Always")
            else:
                yield from _probe(f"{path}.{name}", c[name], readiness=name == "readinessProbe")
    lifecycle = c.get("lifecycle")
    if lifecycle and plain_init:
        yield fields.forbidden(f"{path}.lifecycle", "may not be set for init containers without restartPolicy=Always")
    elif lifecycle:
        for name, handler in lifecycle.items():
            if isinstance(handler, dict):
                yield from _handler(f"{path}.lifecycle.{name}", handler)


def _security(path: str, context: Object) -> Iterator[FieldError]:
    yield from user_ids(path, context)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            yield fields.invalid(path, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
        if "CAP_SYS_ADMIN" in context.get("capabilities", {}).get("add", ()):
            yield fields.invalid(path, context, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")


def user_ids(path: str, context: Object) -> Iterator[FieldError]:
    """Validates the numbers of users and groups in the securityContext of a container or a pod."""
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        if name in context:
            yield from names.checked(f"{path}.{name}", context[name], _user_id)
    for index, group in enumerate(context.get("supplementalGroups", ())):
        yield from names.checked(f"{path}.supplementalGroups[{index}]", group, _user_id)


def _user_id(number: int) -> list[str]:
    return [] if 0 <= number < 2**31 else ["must be between 0 and 2147483647, inclusive"]


# -- ports


def _ports(path: str, ports: Sequence[Object]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        at = f"{path}[{index}]"
        name = port.get("name", "")
        if name:
            yield from names.checked(f"{at}.name", name, names.port_name)
            if name in seen:
                yield fields.duplicate(f"{at}.name", name)
            seen.add(name)
        if not port.get("containerPort"):
            yield fields.required(f"{at}.containerPort")
        else:
            yield from names.checked(f"{at}.containerPort", port["containerPort"], names.port)
        if port.get("hostPort"):
            yield from names.checked(f"{at}.hostPort", port["hostPort"], names.port)
        if port["protocol"] not in PROTOCOLS:
            yield fields.not_supported(f"{at}.protocol", port["protocol"], PROTOCOLS)
        if port.get("hostIP"):
            yield from names.checked(f"{at}.hostIP", port["hostIP"], names.address)


def host_ports(path: str, containers: Sequence[Object]) -> Iterator[FieldError]:
    """Refuses two containers of a pod with the same host port."""
    seen: set[str] = set()
    for position, c in enumerate(containers):
        for index, port in enumerate(c.get("ports", ())):
            if not port.get("hostPort"):
                continue
            host_port = f"{port['protocol']}/{port.get('hostIP', '')}/{port['hostPort']}"
            if host_port in seen:
                yield fields.duplicate(f"{path}[{position}].ports[{index}].hostPort", host_port)
            seen.add(host_port)


def port_reference(path: str, port: Any) -> Iterator[FieldError]:
    """Validates a reference to a port by number or by name."""
    yield from names.checked(path, port, names.port if isinstance(port, int) else names.port_name)


# -- environment


def _env_name(text: str) -> list[str]:
    if all(" " <= char <= "~" and char != "=" for char in text):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def _env(path: str, env: Object) -> Iterator[FieldError]:
    name = env.get("name", "")
    if not name:
        yield fields.required(f"{path}.name")
    else:
        yield from names.checked(f"{path}.name", name, _env_name)
    source = env.get("valueFrom")
    if source is None:
        return
    sources = [kind for kind in _SOURCES if kind in source]
    at = f"{path}.valueFrom"
    if not sources:
        yield fields.invalid(
            at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
    elif len(sources) > 1:
        yield fields.invalid(at, "", "may not have more than one field specified at a time")
    elif env.get("value"):
        yield fields.invalid(at, "", "may not be specified when `value` is not empty")
    else:
        yield from _env_source(f"{at}.{sources[0]}", sources[0], source[sources[0]])


def _env_source(path: str, kind: str, source: Object) -> Iterator[FieldError]:
    if kind in ("configMapKeyRef", "secretKeyRef"):
        if not source.get("name"):
            yield fields.required(f"{path}.name")
        if not source.get("key"):
            yield fields.required(f"{path}.key")
        else:
            yield from names.checked(f"{path}.key", source["key"], names.config_key)
    elif kind == "fieldRef":
        yield from field_path(f"{path}.fieldPath", source.get("fieldPath", ""))
    elif kind == "resourceFieldRef" and not source.get("resource"):
        yield fields.required(f"{path}.resource")


def field_path(path: str, value: str) -> Iterator[FieldError]:
    """Validates a reference of the downward API: a field of the pod, or one of its labels or annotations."""
    if not value:
        yield fields.required(path)
    elif not (value in _FIELD_PATHS or (value.startswith(("metadata.labels['", "metadata.annotations['")) and value.endswith("']"))):
        yield fields.not_supported(path, value, _FIELD_PATHS)


def _env_from(path: str, source: Object) -> Iterator[FieldError]:
    if source.get("prefix"):
        yield from names.checked(f"{path}.prefix", source["prefix"], _env_name)
    sources = [kind for kind in ("configMapRef", "secretRef") if kind in source]
    if not sources:
        yield fields.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
    elif len(sources) > 1:
        yield fields.invalid(path, "", "may not have more than one field specified at a time")
    elif not source[sources[0]].get("name"):
        yield fields.required(f"{path}.{sources[0]}.name")


# -- mounts


def _mounts(path: str, mounts: Sequence[Object], volumes: Collection[str]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        at = f"{path}[{index}]"
        name, where = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield fields.required(f"{at}.name")
        elif name not in volumes:
            yield fields.not_found(f"{at}.name", name)
        if not where:
            yield fields.required(f"{at}.mountPath")
        if where in seen:
            yield fields.invalid(f"{at}.mountPath", where, "must be unique")
        seen.add(where)
        below = mount.get("subPath", "")
        if below.startswith("/"):
            yield fields.invalid(f"{at}.subPath", below, "must be a relative path")
        if ".." in below.split("/"):
            yield fields.invalid(f"{at}.subPath", below, "must not contain '..'")


# -- probes and lifecycle


def _probe(path: str, probe: Object, *, readiness: bool) -> Iterator[FieldError]:
    yield from _handler(path, probe)
    for name in _PROBE_NUMBERS:
        if probe.get(name, 0) < 0:
            yield fields.invalid(f"{path}.{name}", probe[name], _NOT_NEGATIVE)
    if not readiness and probe.get("successThreshold", 1) != 1:
        yield fields.invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and readiness:
        yield fields.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes")
    elif grace is not None and grace <= 0:
        yield fields.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0")


def _handler(path: str, handler: Object) -> Iterator[FieldError]:
    handlers = [kind for kind in _HANDLERS if kind in handler]
    if not handlers:
        yield fields.required(path, "must specify a handler type")
        return
    for kind in handlers[1:]:
        yield fields.forbidden(f"{path}.{kind}", "may not specify more than 1 handler type")
    at, action = f"{path}.{handlers[0]}", handler[handlers[0]]
    if handlers[0] == "exec" and not action.get("command"):
        yield fields.required(f"{at}.command")
    if handlers[0] in ("httpGet", "tcpSocket", "grpc"):
        yield from port_reference(f"{at}.port", action.get("port", 0))
    if handlers[0] == "httpGet" and action["scheme"] not in ("HTTP", "HTTPS"):
        yield fields.not_supported(f"{at}.scheme", action["scheme"], ("HTTP", "HTTPS"))
