"""This module validates containers by the rules of Kubernetes' ValidateContainers, as far as labctl acts on them. It takes dicts and yields field errors.

`path` is the path of the container, e.g. `spec.containers[0]` in a pod or `spec.template.spec.containers[0]` in a template.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1 import env_rules, mount_rules, probe_rules, resource_rules, security_rules, windows_rules
from labctl.resources.kinds.core_v1.probe_rules import port_reference as port_reference

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
RESTART_POLICIES = ("Always", "Never", "OnFailure")
RESTART_ACTIONS = ("Restart", "RestartAllContainers")
MOST_RESTART_RULES, MOST_EXIT_CODES = 20, 255
PROTOCOLS = ("SCTP", "TCP", "UDP")


@dataclass(frozen=True, slots=True)
class OfPod:
    """What the rules of containers must know of their pod. A template may leave to the pods what is filled in later, and keeps an image's name as it is."""

    volumes: Mapping[str, Object]
    claims: Collection[str] = ()
    grace_s: int = 30
    host_users: bool = True
    os: str = ""
    template: bool = False


def of_pod(said: Object, *, template: bool = False) -> OfPod:
    return OfPod(
        volumes={volume.get("name", ""): volume for volume in said.get("volumes") or ()},
        claims=[each.get("name", "") for each in said.get("resourceClaims") or ()],
        grace_s=said.get("terminationGracePeriodSeconds", 30),
        host_users=said.get("hostUsers") is not False,
        os=(said.get("os") or {}).get("name", ""),
        template=template,
    )


def container(path: str, c: Object, pod: OfPod, *, init: bool) -> Iterator[FieldError]:
    if not c.get("name"):
        yield fields.required(f"{path}.name")
    else:
        yield from names.checked(f"{path}.name", c["name"], names.label)
    image = c.get("image", "")
    if not image:
        yield fields.required(f"{path}.image")
    elif image != image.strip() and not pod.template:
        yield fields.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    if c.get("terminationMessagePolicy", "File") not in ("File", "FallbackToLogsOnError"):
        yield fields.not_supported(f"{path}.terminationMessagePolicy", c["terminationMessagePolicy"], ("FallbackToLogsOnError", "File"))
    if "ports" in c:
        yield from _ports(f"{path}.ports", c["ports"])
    if "env" in c:
        yield from env_rules.env(f"{path}.env", c["env"], pod.volumes)
    if "envFrom" in c:
        yield from env_rules.env_from(f"{path}.envFrom", c["envFrom"])
    if "volumeMounts" in c:
        yield from mount_rules.mounts(f"{path}.volumeMounts", c, pod.volumes)
    if "volumeDevices" in c:
        yield from mount_rules.devices(f"{path}.volumeDevices", c["volumeDevices"], c.get("volumeMounts") or (), pod.volumes)
        if c["volumeDevices"] and not pod.host_users:
            yield fields.forbidden(f"{path}.volumeDevices", security_rules.NOT_OWN_USERS)
    if c["imagePullPolicy"] not in PULL_POLICIES:
        yield fields.not_supported(f"{path}.imagePullPolicy", c["imagePullPolicy"], PULL_POLICIES)
    if "resources" in c:
        yield from resource_rules.of_container(f"{path}.resources", c["resources"])
        yield from resource_rules.claims(f"{path}.resources.claims", c["resources"].get("claims") or (), pod.claims)
    if "securityContext" in c:
        yield from security_rules.of_container(f"{path}.securityContext", c["securityContext"], host_users=pod.host_users)
        yield from windows_rules.options(f"{path}.securityContext.windowsOptions", c["securityContext"].get("windowsOptions"))
    if "restartPolicy" in c and c["restartPolicy"] not in RESTART_POLICIES:
        yield fields.not_supported(f"{path}.restartPolicy", c["restartPolicy"], RESTART_POLICIES)
    if c.get("restartPolicyRules"):
        yield from _restart_rules(path, c)
    yield from probe_rules.hooks(path, c, init=init, grace_s=pod.grace_s, os=pod.os)


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
