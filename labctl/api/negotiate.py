"""This module reads `Accept` and `Content-Type` as Kubernetes does, and decides in which form to answer and how to read a body.

kubectl asks for `application/json;as=Table;v=v1;g=meta.k8s.io,application/json`; client-go for protobuf with JSON behind it; aggregated discovery
for `...;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io`. labctl answers JSON, and YAML for people with curl; it also reads protobuf.
"""

from __future__ import annotations

import msgspec

from labctl.api import status
from labctl.resources.cached import cached_if_short

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
ACCEPTED = f"{JSON}, {YAML}"
_BODY_TYPES = {"": JSON, JSON: JSON, "text/json": JSON, "*/*": JSON, YAML: YAML, "application/x-yaml": YAML, PROTOBUF: PROTOBUF}
_JSON_NAMES = frozenset({JSON, "application/*", "*/*"})

TABLE = "Table"
PARTIAL = "PartialObjectMetadata"
PARTIAL_LIST = "PartialObjectMetadataList"
DISCOVERY = "APIGroupDiscoveryList"
OBJECT_SHAPES = frozenset(("meta.k8s.io", version, name) for version in ("v1", "v1beta1") for name in (TABLE, PARTIAL, PARTIAL_LIST))
NO_SHAPES: frozenset[tuple[str, str, str]] = frozenset()
DISCOVERY_SHAPES = frozenset({("apidiscovery.k8s.io", "v2", DISCOVERY)})

APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY_PATCH,
)


class Format(msgspec.Struct, frozen=True):
    """The form of an answer. `shape` is the kind that the client asked for with `as=`; it is empty for the object itself. `version` is the shape's."""

    shape: str = ""
    yaml: bool = False
    version: str = "v1"

    @property
    def content_type(self) -> str:
        if self.shape == DISCOVERY:
            return f"{JSON};g=apidiscovery.k8s.io;v=v2;as={DISCOVERY}"
        return YAML if self.yaml else JSON


PLAIN = Format()


@cached_if_short(256)
def accepted(accept: str, shapes: frozenset[tuple[str, str, str]] = OBJECT_SHAPES) -> Format:
    """Returns the form that the client likes best among those labctl can answer. Raises 406 if there is none."""
    if not accept:
        return PLAIN
    for media, parameters in _clauses(accept):
        yaml = media == YAML
        if not yaml and media not in _JSON_NAMES:
            continue
        wanted = parameters.get("as", "")
        if not wanted:
            return Format(yaml=yaml)
        version = parameters.get("v", "")
        if (parameters.get("g", ""), version, wanted) in shapes:
            return Format(shape=PARTIAL if wanted == PARTIAL_LIST else wanted, yaml=yaml, version=version)
    raise status.not_acceptable(ACCEPTED)


def _clauses(accept: str) -> list[tuple[str, dict[str, str]]]:
    """Returns (media type, parameters) of each clause of `Accept`, the highest `q` first; clauses of equal `q` keep their order."""
    clauses = []
    for clause in accept.split(","):
        media, *pairs = (part.strip() for part in clause.split(";"))
        clauses.append((media.lower(), dict(pair.split("=", 1) for pair in pairs if "=" in pair)))
    return sorted(clauses, key=lambda clause: -_quality(clause[1].get("q", "1")))


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def media_type(content_type: str) -> str:
    """Returns the media type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def body_type(content_type: str) -> str:
    """Returns JSON, YAML or PROTOBUF; JSON if there is no Content-Type. Raises 415 for anything else."""
    media = media_type(content_type)
    if media in _BODY_TYPES:
        return _BODY_TYPES[media]
    raise status.unsupported_media_type(f"{ACCEPTED}, {PROTOBUF}")


def patch_type(content_type: str) -> str:
    """Returns the type of a patch. Raises 415, which names the types that are accepted."""
    media = media_type(content_type)
    if media in PATCH_TYPES:
        return media
    raise status.unsupported_media_type(", ".join(PATCH_TYPES))
