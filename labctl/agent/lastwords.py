"""What a container said at its end: its termination message file, or the tail of its log if it asked for that and failed."""

from __future__ import annotations

import contextlib
from typing import Any, Dict

from . import beneath
from .logs import Wish, read
from .runtime.interface import Container

LIMIT_BYTES = 4096
LOG_BYTES, LOG_LINES = 2048, 80


def last_words(container: Container, spec: Dict[str, Any]) -> str:
    words = ""
    if container.message_path:
        with contextlib.suppress(OSError):
            words = beneath.read_file(container.message_path, LIMIT_BYTES).decode(errors="replace")
    if not words and container.exit_code and spec.get("terminationMessagePolicy") == "FallbackToLogsOnError" and container.log_path:
        with contextlib.suppress(OSError):
            text = b"".join(read(container.log_path, Wish(tail=LOG_LINES), lambda: False))
            words = text[-LOG_BYTES:].decode(errors="replace")
    return words
