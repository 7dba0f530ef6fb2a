"""Rules for a container's probes and lifecycle hooks, in Kubernetes' words and order (validateProbe, validateHandler, validateLifecycle)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object

_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_LINUX = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 "
    "VTALRM WINCH XCPU XFSZ RTMIN RTMAX"
)
_REAL_TIME = (*(f"RTMIN+{number}" for number in range(1, 16)), *(f"RTMAX-{number}" for number in range(1, 15)))
_SIGNALS = {"linux": tuple(sorted(f"SIG{name}" for name in (*_LINUX.split(), *_REAL_TIME))), "windows": ("SIGKILL", "SIGTERM")}
_OF_SIDECARS = "may not be set for init containers without restartPolicy=Always"


def hooks(path: str, c: Object, *, init: bool, grace_s: int, os: str) -> Iterator[FieldError]:
    """Validates probes and lifecycle. An init container that is no sidecar may have neither. `grace_s` are the seconds that the pod has to end."""
    plain_init = init and c.get("restartPolicy") != "Always"
    lifecycle = c.get("lifecycle")
    if lifecycle and plain_init:
        yield fields.forbidden(f"{path}.lifecycle", _OF_SIDECARS)
    elif lifecycle:
        for name in ("postStart", "preStop"):
            if name in lifecycle:
                yield from _handler(f"{path}.lifecycle.{name}", lifecycle[name], grace_s)
        if lifecycle.get("stopSignal"):
            yield from _signal(f"{path}.lifecycle.stopSignal", lifecycle["stopSignal"], os)
    for name in _PROBES:
        if name in c:
            if plain_init:
                yield fields.forbidden(f"{path}.{name}", _OF_SIDECARS)
            else:
                yield from _probe(f"{path}.{name}", c[name], grace_s, readiness=name == "readinessProbe")


def _signal(path: str, name: str, os: str) -> Iterator[FieldError]:
    """Validates the signal that ends a container: each system has its own."""
    if not os:
        yield fields.forbidden(path, "may not be set for containers with empty `spec.os.name`")
    elif os in _SIGNALS and name not in _SIGNALS[os]:
        yield fields.not_supported(path, name, _SIGNALS[os])


def _probe(path: str, probe: Object, grace_s: int, *, readiness: bool) -> Iterator[FieldError]:
    yield from _handler(path, probe, grace_s)
    for name in _NUMBERS:
        if probe.get(name, 0) < 0:
            yield fields.invalid(f"{path}.{name}", probe[name], "must be greater than or equal to 0")
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        yield fields.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0")
    if readiness and grace is not None:
        yield fields.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes")
    if not readiness and probe.get("successThreshold", 1) != 1:
        yield fields.invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _handler(path: str, handler: Object, grace_s: int) -> Iterator[FieldError]:
    handlers = [kind for kind in _HANDLERS if kind in handler]
    if not handlers:
        yield fields.required(path, "must specify a handler type")
        return
    kind = handlers[0]
    at, action = f"{path}.{kind}", handler[kind]
    if kind == "exec" and not action.get("command"):
        yield fields.required(f"{at}.command")
    elif kind in ("httpGet", "tcpSocket", "grpc"):
        yield from port_reference(f"{at}.port", action.get("port", 0))
    elif kind == "sleep" and not 0 <= action.get("seconds", 0) <= grace_s:
        why = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_s})"
        yield fields.invalid(at, action.get("seconds", 0), why)
    if kind == "httpGet":
        if action["scheme"] not in ("HTTP", "HTTPS"):
            yield fields.not_supported(f"{at}.scheme", action["scheme"], ("HTTP", "HTTPS"))
        for header in action.get("httpHeaders") or ():
            yield from names.checked(f"{at}.httpHeaders", header.get("name", ""), names.http_header)
    for other in handlers[1:]:
        yield fields.forbidden(f"{path}.{other}", "may not specify more than 1 handler type")


def port_reference(path: str, port: Any) -> Iterator[FieldError]:
    """Validates a reference to a port by number or by name."""
    yield from names.checked(path, port, names.port if isinstance(port, int) else names.port_name)
