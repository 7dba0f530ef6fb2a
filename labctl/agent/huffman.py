"""HPACK's Huffman code (RFC 7541, appendix B), to read what a gRPC server says in its headers: its letters, digits and signs. Pure.

The code is canonical: within one length the symbols stand in their own order, and each one's number is the next one. So the lengths are all that is written
here. Of the rest (control characters and what is no ASCII) only the length of one is needed, which lies between; gRPC sends none of them (its messages are
percent-encoded).
"""

from __future__ import annotations

from typing import Dict, Tuple

_BY_LENGTH = {
    5: "012aceiost",
    6: " %-./3456789=A_bdfghlmnpru",
    7: ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: "&*,;XZ",
    10: '!"()?',
    11: "'+|",
    12: "#>",
    13: "\x00$@[]~",
    14: "^}",
    15: "<`{",
    19: "\\",
}


def _symbols() -> Dict[Tuple[int, int], str]:
    """Return the symbol of each code, by its length in bits and its number."""
    found, number, before = {}, 0, 5
    for length, symbols in _BY_LENGTH.items():
        number <<= length - before
        before = length
        for symbol in symbols:
            found[length, number] = symbol
            number += 1
    return found


_SYMBOLS = _symbols()
_LONGEST = max(_BY_LENGTH)


def decoded(raw: bytes) -> str:
    """Return the text that these bytes spell. It ends where a symbol stands that is not known here; the last bits, which fill a byte up, spell nothing."""
    text, length, number = [], 0, 0
    for octet in raw:
        for place in range(7, -1, -1):
            length, number = length + 1, number << 1 | octet >> place & 1
            symbol = _SYMBOLS.get((length, number))
            if symbol is not None:
                text.append(symbol)
                length = number = 0
            elif length > _LONGEST:
                return "".join(text)
    return "".join(text)
