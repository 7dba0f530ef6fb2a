"""This module lists objects. A list is made of the store's entries at one revision; the API joins their bytes.

A list with a limit returns a continue token, which holds the revision of the first page and the last key. If that revision was compacted meanwhile, the
answer is 410 with another token, with which the list goes on at the current revision.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from labctl.decoding import from_json
from labctl.errors import ApiError, Compacted
from labctl.resources import failures, fields
from labctl.resources.encoding import NOT_JSON
from labctl.resources.kind import FieldError, Kind
from labctl.resources.service import ListOptions, ListResult
from labctl.resources.verbs.context import Context
from labctl.resources.verbs.match import Match, is_late, matcher
from labctl.resources.verbs.versions import convert_entries
from labctl.store.interface import Entry, Page

_NOW = -1  # a token with this revision goes on at the current revision: the list is then not of one moment
_CHUNK = 500  # entries read at a time when a selector drops some
_GONE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, "
    "or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an "
    "inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list."
)


class Token(msgspec.Struct, frozen=True):
    """A continue token of the API, whose content clients must not interpret."""

    v: str
    rv: int
    start: str

    def encode(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).rstrip(b"=").decode()


def get(ctx: Context, kind: Kind, namespace: str, name: str, resource_version: str) -> Entry:
    """Returns an object as it is now. Raises 404 if there is none, 504 if the revision that the client knows of is not there yet."""
    if resource_version:
        refuse_future(ctx, revision_of(resource_version))
    return ctx.existing(kind, namespace, name)


async def list_converted(ctx: Context, kind: Kind, namespace: str, options: ListOptions) -> ListResult:
    """Returns the matching objects in this version of the kind."""
    if not is_late(ctx, kind, options.label_selector, options.field_selector):
        listed = list_(ctx, kind, namespace, options)
        return msgspec.structs.replace(listed, entries=await convert_entries(kind, listed.entries)) if kind.conversion else listed
    match = matcher(ctx, kind, options.label_selector, options.field_selector)
    prefix = kind.prefix(namespace if kind.namespaced else "")
    _, after, listed_at = _where(ctx, options, prefix)
    with _told(ctx, options, prefix, after, listed_at):
        return await _late_pieces(ctx, kind, prefix, after, options.limit, match, listed_at)


def list_(ctx: Context, kind: Kind, namespace: str, options: ListOptions) -> ListResult:
    """Returns the matching objects as they are stored."""
    match = matcher(ctx, kind, options.label_selector, options.field_selector)
    prefix = kind.prefix(namespace if kind.namespaced else "")
    at, after, listed_at = _where(ctx, options, prefix)
    with _told(ctx, options, prefix, after, at):
        return _pieces(ctx, prefix, at, after, options.limit, match, listed_at)


@contextmanager
def _told(ctx: Context, options: ListOptions, prefix: str, after: str, at: int) -> Iterator[None]:
    """Raises an API server's errors for a revision that is not kept any more, or not there yet."""
    try:
        yield
    except Compacted:
        if options.continue_token:
            raise failures.expired(_GONE, Token("meta.k8s.io/v1", _NOW, after.removeprefix(prefix)).encode()) from None
        raise failures.expired("The resourceVersion for the provided list is too old.") from None
    except ValueError:
        raise failures.too_large(at, ctx.store.revision) from None


def _where(ctx: Context, options: ListOptions, prefix: str) -> tuple[int, str, int]:
    """Returns the revision to read at (0: the current one), the key after which to go on, and the revision to put into the answer."""
    _check_options(options)
    revision = revision_of(options.resource_version)
    if options.continue_token:
        if revision:
            raise failures.bad_request("specifying resource version is not allowed when using continue")
        token = _token(options.continue_token)
        at = 0 if token.rv == _NOW else token.rv
        return at, prefix + token.start, at or ctx.store.revision
    refuse_future(ctx, revision)
    exact = options.resource_version_match == "Exact" or (revision and options.limit and not options.resource_version_match)
    at = revision if exact else 0
    return at, "", at or ctx.store.revision


def _pieces(ctx: Context, prefix: str, at: int, after: str, limit: int, match: Match | None, revision: int) -> ListResult:
    if match is None:
        page = ctx.store.range(prefix, at, after, limit)
        token = _after(page, prefix, revision) if page.more else ""
        return ListResult(page.entries, revision, token, page.remaining if page.more and page.remaining >= 0 else None)
    if not limit:
        return ListResult([entry for entry in ctx.store.range(prefix, at, after).entries if match(entry)], revision)
    found: list[Entry] = []
    while True:
        page = ctx.store.range(prefix, at, after, max(limit, _CHUNK))
        for position, entry in enumerate(page.entries):
            if match(entry):
                found.append(entry)
            if len(found) == limit and (page.more or position + 1 < len(page.entries)):
                return ListResult(found, revision, Token("meta.k8s.io/v1", revision, entry.key.removeprefix(prefix)).encode())
        if not page.more:
            return ListResult(found, revision)
        after = page.entries[-1].key


async def _late_pieces(ctx: Context, kind: Kind, prefix: str, after: str, limit: int, match: Match | None, revision: int) -> ListResult:
    """Converts what there is, piece by piece, and returns what then matches."""
    found: list[Entry] = []
    while True:
        page = ctx.store.range(prefix, revision, after, max(limit, _CHUNK))
        converted = await convert_entries(kind, page.entries)
        for position, entry in enumerate(converted):
            if match is None or match(entry):
                found.append(entry)
            if limit and len(found) == limit and (page.more or position + 1 < len(converted)):
                return ListResult(found, revision, Token("meta.k8s.io/v1", revision, entry.key.removeprefix(prefix)).encode())
        if not page.more:
            return ListResult(found, revision)
        after = page.entries[-1].key


def _after(page: Page, prefix: str, revision: int) -> str:
    return Token("meta.k8s.io/v1", revision, page.entries[-1].key.removeprefix(prefix)).encode()


def _token(text: str) -> Token:
    try:
        token = from_json(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), Token)
    except (ValueError, *NOT_JSON):
        raise failures.bad_request("continue key is not valid: illegal base64 data or encoding") from None
    if token.v != "meta.k8s.io/v1" or not token.start or token.rv < _NOW:
        raise failures.bad_request("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    return token


def revision_of(text: str) -> int:
    """Parses a resourceVersion parameter; 0 if it is not set."""
    if not text:
        return 0
    wrong = "invalid syntax" if not (text.isascii() and text.isdigit()) else "value out of range" if len(text) >= 20 else ""
    if wrong:
        raise failures.bad_request(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": {wrong}')
    return int(text)


def refuse_future(ctx: Context, revision: int) -> None:
    """Raises 504 for a revision that the store has not reached. What is read is of now, and so not older than any other one."""
    if revision > ctx.store.revision:
        raise failures.too_large(revision, ctx.store.revision)


def _check_options(options: ListOptions) -> None:
    """Checks what of a list's options may go together. Raises 422 with all that is wrong."""
    wanted, path = options.resource_version_match, "resourceVersionMatch"
    errors: list[FieldError] = []
    if wanted:
        if not options.resource_version:
            errors.append(fields.forbidden(path, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if options.continue_token:
            errors.append(fields.forbidden(path, "resourceVersionMatch is forbidden when continue is provided"))
        if wanted not in ("Exact", "NotOlderThan"):
            errors.append(fields.not_supported(path, wanted, ("Exact", "NotOlderThan", "")))
        if wanted == "Exact" and options.resource_version == "0":
            errors.append(fields.forbidden(path, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if options.initial_events:
        errors.append(fields.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if errors:
        raise list_options_invalid(errors)


def list_options_invalid(errors: Sequence[FieldError]) -> ApiError:
    return failures.invalid_of("ListOptions", "meta.k8s.io", "", errors)
