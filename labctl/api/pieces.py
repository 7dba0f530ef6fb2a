"""Pieces of a long answer, which are joined only when they are sent.

A client that asks for a list of ten megabytes and reads nothing would otherwise cost these ten megabytes for each of its connections, while the
objects themselves lie in the store once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain

PIECE_BYTES = 128 << 10  # about the size of the pieces in which a list is sent; smaller ones cost more calls, larger ones leave the caches


class Pieces:
    """Bytes in pieces, and how many they are together. They can be iterated over again and again."""

    __slots__ = ("_parts", "size")

    def __init__(self, size: int, *parts: Iterable[bytes]) -> None:
        self.size = size
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self._parts)

    def within(self, head: bytes, tail: bytes) -> Pieces:
        """Returns these pieces with bytes before and after them."""
        return Pieces(len(head) + self.size + len(tail), (head,), *self._parts, (tail,))

    def made(self) -> Pieces:
        """Returns the same pieces, joined already."""
        return Pieces(self.size, list(self))


def joined(objects: Sequence[bytes]) -> Pieces:
    """Joins objects with commas, in pieces of at least PIECE_BYTES that follow each other; none for no objects."""
    lengths = sum(map(len, objects))
    return Pieces(lengths + max(0, len(objects) - 1), _Joined(objects))


class _Joined:
    """Makes one piece after the other, each time somebody iterates over it."""

    __slots__ = ("_objects",)

    def __init__(self, objects: Sequence[bytes]) -> None:
        self._objects = objects

    def __iter__(self) -> Iterator[bytes]:
        objects = self._objects
        ends = list(accumulate(map(len, objects)))
        start = 0
        while start < len(objects):
            before = ends[start - 1] if start else 0
            stop = min(bisect_left(ends, before + PIECE_BYTES, start) + 1, len(objects))
            piece = b",".join(objects[start:stop])
            yield piece + b"," if stop < len(objects) else piece
            start = stop
