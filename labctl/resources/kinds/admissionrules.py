"""What the kinds of admissionregistration.k8s.io have in common: rules, selectors, failure policies, conditions in CEL; their defaults and their validation.

The room `admission` acts on them (webhooks.py, policies.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from labctl.resources import fields, labels
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.selector_rules import label_selector

OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
MOST_CONDITIONS = 64
REQUEST_VARIABLES: Mapping[str, str] = {"object": "dyn", "oldObject": "dyn", "request": "dyn", "authorizer": "opaque"}
GROUP = "admissionregistration.k8s.io"
DEFINITION = "io.k8s.api.admissionregistration.v1."
OF_FILES = ".static.k8s.io"


def name_warnings(new: Object, old: Object | None) -> Iterator[str]:
    """Warn about a name that Kubernetes keeps for what it reads from files (KEP-5793, whose switch is off by default)."""
    if old is None and new["metadata"].get("name", "").endswith(OF_FILES):
        yield (
            f'metadata.name: names ending with "{OF_FILES}" are reserved for static manifest-based configurations'
            " and cannot be managed via the API"
        )


def rule_defaults(rule: Object) -> None:
    rule.setdefault("scope", "*")


def matching_defaults(said: Object) -> None:
    """Fill a webhook's, and a policy's `matchConstraints`: everything in every namespace."""
    said.setdefault("matchPolicy", "Equivalent")
    said.setdefault("namespaceSelector", {})
    said.setdefault("objectSelector", {})


def rules(path: str, said: Iterable[Object]) -> Iterator[FieldError]:
    for number, rule in enumerate(said):
        yield from _rule(f"{path}[{number}]", rule)


def _rule(path: str, rule: Object) -> Iterator[FieldError]:
    for name in ("apiGroups", "apiVersions", "operations", "resources"):
        values = rule.get(name) or ()
        if not values:
            yield fields.required(f"{path}.{name}")
        elif "*" in values and len(values) > 1 and name != "resources":
            why = {"operations": "if '*' is present, must not specify other operations"}.get(
                name, f"if '*' is present, must not specify other {_words(name)}"
            )
            yield fields.invalid(f"{path}.{name}", values, why)
    for number, operation in enumerate(rule.get("operations") or ()):
        if operation not in OPERATIONS:
            yield fields.not_supported(f"{path}.operations[{number}]", operation, OPERATIONS)
    yield from _resources(f"{path}.resources", rule.get("resources") or ())
    if rule.get("scope", "*") not in ("*", "Cluster", "Namespaced"):
        yield fields.not_supported(f"{path}.scope", rule["scope"], ("*", "Cluster", "Namespaced"))


def _resources(path: str, resources: Sequence[str]) -> Iterator[FieldError]:
    """Check that no resource is named that a wildcard beside it names already."""
    all_of: set[str] = set()
    everywhere: set[str] = set()
    for number, resource in enumerate(resources):
        if not resource:
            yield fields.required(f"{path}[{number}]")
            continue
        whole, slash, part = resource.partition("/")
        if not slash:
            continue
        if whole in all_of:
            yield fields.invalid(f"{path}[{number}]", resource, f"if '{whole}/*' is present, must not specify {resource}")
        if part in everywhere:
            yield fields.invalid(f"{path}[{number}]", resource, f"if '*/{part}' is present, must not specify {resource}")
        if part == "*":
            all_of.add(whole)
        if whole == "*":
            everywhere.add(part)
    if "*/*" in resources and len(resources) > 1:
        yield fields.invalid(path, resources, "if '*/*' is present, must not specify other resources")
    if "*" in resources and any(each and each != "*" and "/" not in each for each in resources):
        yield fields.invalid(path, resources, "if '*' is present, must not specify other resources without subresources")


def _words(name: str) -> str:
    return {"apiGroups": "API groups", "apiVersions": "API versions"}.get(name, name)


def one_of(path: str, value: Any, allowed: Sequence[str]) -> Iterator[FieldError]:
    if value is not None and value not in allowed:
        yield fields.not_supported(path, value, allowed)


def label_selectors(path: str, said: Object) -> Iterator[FieldError]:
    for name in ("namespaceSelector", "objectSelector"):
        if said.get(name) is not None:
            yield from label_selector(f"{path}.{name}", said[name], may_be_empty=True)


def conditions(path: str, said: Sequence[Object], variables: Mapping[str, str]) -> Iterator[FieldError]:
    """Validate `matchConditions`."""
    if len(said) > MOST_CONDITIONS:
        yield fields.too_many(path, len(said), MOST_CONDITIONS)
        return
    seen: set[str] = set()
    for number, condition in enumerate(said):
        below, name = f"{path}[{number}]", condition.get("name", "")
        if not name:
            yield fields.required(f"{below}.name")
        elif name in seen:
            yield fields.duplicate(f"{below}.name", name)
        else:
            yield from (fields.invalid(f"{below}.name", name, why) for why in labels.key_errors(name))
        seen.add(name)
        yield from expression(f"{below}.expression", condition.get("expression") or "", variables, "bool")


def expression(path: str, text: str, variables: Mapping[str, str], wanted: str) -> Iterator[FieldError]:
    """Check that an expression compiles and has the wanted type."""
    from labctl.resources.cel.expressions import CompileError, Environment  # only who writes an expression pays for it

    if not text.strip():
        yield fields.required(path)
        return
    try:
        Environment(variables).compile(text, wanted)
    except CompileError as error:
        said = str(error).replace("cel expression must evaluate to a", "must evaluate to")
        yield fields.invalid(path, text, said)


def client_config(path: str, config: Object | None) -> Iterator[FieldError]:
    """Check where a webhook is called: a URL or a Service."""
    config = config or {}
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        yield fields.required(path, "exactly one of url or service is required")
    elif service is not None:
        for name in ("name", "namespace"):
            if not service.get(name):
                yield fields.required(f"{path}.service.{name}", f"service {name} is required")
        if not 0 < service.get("port", 443) < 65536:
            yield fields.invalid(f"{path}.service.port", service["port"], "port is not valid: must be between 1 and 65535, inclusive")
        if service.get("path") and not service["path"].startswith("/"):
            yield fields.invalid(f"{path}.service.path", service["path"], "must start with a '/'")
    else:
        yield from _url(f"{path}.url", url or "")


def _url(path: str, url: str) -> Iterator[FieldError]:
    form = "; desired format: https://host[/path]"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        yield fields.required(path, f"url must be a valid URL: {error}{form}")
        return
    if parts.scheme != "https":
        yield fields.invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{form}")
    if not parts.hostname:
        yield fields.invalid(path, parts.netloc, f"host must be specified{form}")
    if "@" in parts.netloc:
        yield fields.invalid(path, parts.username or "", "user information is not permitted in the URL")
    if parts.fragment:
        yield fields.invalid(path, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        yield fields.invalid(path, parts.query, "query parameters are not permitted in the URL")
