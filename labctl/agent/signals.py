"""How signals are called: images and people write SIGQUIT, QUIT, quit or 3; the kernel takes a number, and the API has one name for each."""

from __future__ import annotations

import signal


def number_of(name: str) -> int:
    """Return the number of a signal: SIGTERM, TERM or 15."""
    if name.isdigit():
        return int(name)
    plain = name.upper() if name.upper().startswith("SIG") else "SIG" + name.upper()
    if plain.startswith("SIGRTMIN+"):
        return int(signal.SIGRTMIN) + int(plain[9:])
    if plain.startswith("SIGRTMAX-"):
        return int(signal.SIGRTMAX) - int(plain[9:])
    return int(getattr(signal, plain, signal.SIGTERM))


def name_of(asked: str) -> str:
    """Return the name that the API has for a signal which an image or a pod calls SIGQUIT, quit or 3."""
    number = number_of(asked)
    if number in (signal.SIGRTMIN, signal.SIGRTMAX) or not signal.SIGRTMIN < number < signal.SIGRTMAX:
        return signal.Signals(number).name
    return f"SIGRTMIN+{number - signal.SIGRTMIN}"
