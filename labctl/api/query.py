"""This module parses query parameters (once for each distinct string) and turns them into the options that `resources` takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs

import msgspec

from labctl.api import status
from labctl.decoding import from_json, from_values
from labctl.resources import failures, fields
from labctl.resources.cached import cached_if_short
from labctl.resources.encoding import NOT_JSON
from labctl.resources.kind import FieldError
from labctl.resources.resources import Body
from labctl.resources.service import DeleteOptions, ListOptions, User, WriteOptions

_INT64_DIGITS = 18  # every number of up to 18 digits fits into an int64
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DURATION = re.compile(r"[-+]?(?:0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")  # as Go's time.ParseDuration
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_CHARACTERS = 200
FIELD_MANAGER_MAX = 128  # bytes
_VALIDATIONS = ("Ignore", "Warn", "Strict")
_OPTIONS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}


class Query:
    """The parameters of a query. Never change one: all requests with the same query string share it."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, list[str]]) -> None:
        self._values = values

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def first(self, key: str, default: str = "") -> str:
        values = self._values.get(key)
        return values[0] if values else default

    def all(self, key: str) -> list[str]:
        return self._values.get(key, [])

    def flag(self, key: str) -> bool:
        """Reads a boolean as apimachinery does: everything but empty, 0 and false is true, and so is a bare `?watch`."""
        values = self._values.get(key)
        return values is not None and values[0].lower() not in ("0", "false")

    def integer(self, key: str) -> int | None:
        """Reads an int64 as Go does; None if the value is not one."""
        text = self.first(key)
        if not text:
            return None
        if not _INTEGER.fullmatch(text):
            raise status.bad_request(f'invalid query parameter {key}: strconv.ParseInt: parsing "{text}": invalid syntax')
        if len(text) > _INT64_DIGITS:
            raise status.bad_request(f'invalid query parameter {key}: strconv.ParseInt: parsing "{text}": value out of range')
        return int(text)


NONE = Query({})


@cached_if_short(1024)
def parse(text: str) -> Query:
    return Query(parse_qs(text, keep_blank_values=True)) if text else NONE


def list_options(query: Query) -> ListOptions:
    if not query:
        return ListOptions()
    return ListOptions(
        label_selector=query.first("labelSelector"),
        field_selector=query.first("fieldSelector"),
        limit=max(0, query.integer("limit") or 0),
        continue_token=query.first("continue"),
        resource_version=query.first("resourceVersion"),
        resource_version_match=query.first("resourceVersionMatch"),
        initial_events="sendInitialEvents" in query,
    )


def deadline_s(query: Query) -> float:
    """Returns the seconds within which the client wants its answer (`timeout`); 0 if it does not say. Raises 400 if it is no duration."""
    text = query.first("timeout")
    if not text:
        return 0.0
    if not _DURATION.fullmatch(text):
        raise status.bad_request(f'invalid timeout specified in the request URL - time: invalid duration "{text[:100]}"')
    if text.startswith("-"):
        return 0.0
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text[:_DURATION_CHARACTERS]))


def write_options(query: Query, user: User, method: str = "POST", program: str = "", *, apply: bool = False) -> WriteOptions:
    """Returns the options of a POST, PUT or PATCH. `program` is the client's name in its User-Agent; `apply`: it is a server-side apply. Raises 422."""
    validation = query.first("fieldValidation") or "Warn"
    if not query:
        return WriteOptions(user=user, program=program)
    errors = [*_wrong_dry_run(query.all("dryRun")), *_wrong_manager(query.first("fieldManager"))]
    if validation not in _VALIDATIONS:
        errors.append(fields.not_supported("fieldValidation", validation, _VALIDATIONS))
    if method == "PATCH" and "force" in query and not apply:
        errors.append(fields.forbidden("force", "may not be specified for non-apply patch"))
    if errors:
        raise failures.invalid_of(_OPTIONS[method], "meta.k8s.io", "", errors)
    return WriteOptions(
        user=user,
        dry_run="dryRun" in query,
        field_manager=query.first("fieldManager"),
        program=program,
        field_validation=validation,
        force=query.flag("force"),
    )


def _wrong_dry_run(values: list[str]) -> Iterator[FieldError]:
    if any(value != "All" for value in values):
        yield fields.not_supported("dryRun", values, ("All",))


def _wrong_manager(name: str) -> Iterator[FieldError]:
    if len(name.encode()) > FIELD_MANAGER_MAX:
        yield fields.too_long("fieldManager", FIELD_MANAGER_MAX)
    bad = next((index for index, c in enumerate(name) if not c.isprintable()), None)
    if bad is not None:
        yield fields.invalid("fieldManager", name, f"invalid character U+{ord(name[bad]):04X} (at position {bad})")


class _Preconditions(msgspec.Struct, rename={"resource_version": "resourceVersion"}):
    uid: str | None = None
    resource_version: str | None = None


class _DeleteBody(msgspec.Struct, rename="camel"):
    """The form of metav1.DeleteOptions in a request's body."""

    grace_period_seconds: int | None = None
    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    preconditions: _Preconditions | None = None
    dry_run: list[str] | None = None


def delete_options(query: Query, body: Body | None) -> DeleteOptions:
    """Returns the options of a deletion. If there is a body, the query does not count, as in a real server."""
    if body:
        given = _delete_body(body)
    else:
        given = _DeleteBody(
            grace_period_seconds=query.integer("gracePeriodSeconds"),
            propagation_policy=query.first("propagationPolicy") or None,
            orphan_dependents=query.flag("orphanDependents") if query.first("orphanDependents") else None,
            dry_run=query.all("dryRun"),
        )
    policy = given.propagation_policy
    errors = list(_wrong_dry_run(given.dry_run or []))
    if policy is not None and given.orphan_dependents is not None:
        errors.append(fields.invalid("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set"))
    if policy is None and given.orphan_dependents is not None:
        policy = "Orphan" if given.orphan_dependents else "Background"
    if errors:
        raise failures.invalid_of("DeleteOptions", "meta.k8s.io", "", errors)
    preconditions = given.preconditions or _Preconditions()
    return DeleteOptions(
        grace_period_seconds=given.grace_period_seconds,
        propagation_policy=policy,
        precondition_uid=preconditions.uid or "",
        precondition_resource_version=preconditions.resource_version or "",
        dry_run=bool(given.dry_run),
    )


def _delete_body(body: Body) -> _DeleteBody:
    try:
        if isinstance(body, bytes):
            return from_json(body, _DeleteBody)
        return from_values(body, _DeleteBody)
    except NOT_JSON as error:
        raise status.bad_request(f"couldn't decode DeleteOptions: {error}") from error
