"""Compares and names templates. Two templates are the same if their JSON is, in one order and without the label of the template's hash."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import msgspec

HASH_LABEL = "pod-template-hash"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # without vowels, so that no word appears by chance
_LENGTH = 10


@lru_cache(maxsize=1024)
def canonical(template: bytes) -> bytes:
    """Return the template's JSON in one order, without the label of its hash, so that equal templates are equal bytes."""
    said: dict[str, Any] = msgspec.json.decode(template)
    metadata = dict(said.get("metadata") or {})
    metadata["labels"] = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    return msgspec.json.encode({"metadata": metadata, "spec": said.get("spec") or {}}, order="sorted")


def same(one: bytes, other: bytes) -> bool:
    return one == other or canonical(bytes(one)) == canonical(bytes(other))


def hash_of(template: bytes, collisions: int) -> str:
    """Return a word that names a template. `collisions` counts the names that another template had already."""
    plain = canonical(bytes(template))
    number = int.from_bytes(hashlib.blake2b(plain + b"%d" % collisions if collisions else plain, digest_size=16).digest(), "big")
    word = ""
    for _ in range(_LENGTH):
        number, letter = divmod(number, len(_ALPHABET))
        word += _ALPHABET[letter]
    return word
