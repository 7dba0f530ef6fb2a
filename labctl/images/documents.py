"""The JSON documents of an image as they come from outside: indexes, manifests, configurations, and docker's list. Each is read with its types and a bound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from labctl.decoding import from_json
from labctl.errors import LabctlError

LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCUMENT_BYTES_MAX = 16 << 20  # registries take manifests of 4 MB

T = TypeVar("T")


class Described(msgspec.Struct, frozen=True, rename="camel"):
    """A descriptor of a blob."""

    digest: str
    size: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    media_type: str = LAYER


class Platform(msgspec.Struct, frozen=True):
    os: str | None = None
    architecture: str | None = None


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of an index."""

    digest: str
    media_type: str | None = None
    platform: Platform | None = None
    annotations: dict[str, Any] | None = None


class Document(msgspec.Struct, frozen=True):
    """An index, which has `manifests`, or a manifest, which has the others."""

    manifests: list[Entry] | None = None
    config: Described | None = None
    layers: list[Described] | None = None


class Config(msgspec.Struct, frozen=True):
    """What is read of an image's configuration; all of it is kept."""

    os: str = "linux"
    architecture: str = ""
    variant: str | None = None


class Saved(msgspec.Struct, frozen=True, rename={"config": "Config", "layers": "Layers", "tags": "RepoTags"}):
    """An entry of the list that `docker save` writes."""

    config: str
    layers: list[str] = []
    tags: list[str] | None = None


def read(path: Path) -> bytes:
    """Return the bytes of a document's file. Raises LabctlError if it is too large."""
    with open(path, "rb") as file:
        raw = file.read(DOCUMENT_BYTES_MAX + 1)
    if len(raw) > DOCUMENT_BYTES_MAX:
        raise LabctlError(f"{path.name} is damaged: it has more than {DOCUMENT_BYTES_MAX} bytes")
    return raw


def decoded(raw: bytes, type_: type[T], name: str) -> T:
    """Return the document in these bytes. Raises LabctlError if it is damaged, or no such document."""
    try:
        return from_json(raw, type_)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise LabctlError(f"{name[:100]} is damaged: {error}") from error
