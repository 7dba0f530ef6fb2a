"""What a container leaves as its termination message: its message file, or the tail of its log if its spec asks for that and it failed."""

from __future__ import annotations

import contextlib
from typing import Any, Dict

from . import beneath
from .logs import LogRequest, read
from .runtime.interface import Container

LIMIT_BYTES = 4096
LOG_BYTES, LOG_LINES = 2048, 80
POD_BYTES = 12 * 1024


def termination_message(container: Container, spec: Dict[str, Any], containers: int = 1) -> str:
    """Return the message of a container that has ended, or an empty text. `spec` is its container in the pod's spec, which has `containers` of them.

    All messages of a pod together have a bound, of which each container has the same share, as in Kubernetes.
    The container wrote to these files. They are read within bounds, and only if they are regular files.
    """
    message = ""
    share = POD_BYTES // max(1, containers)
    if container.message_path:
        with contextlib.suppress(OSError):
            message = beneath.read_file(container.message_path, min(LIMIT_BYTES, share)).decode(errors="replace")
    if not message and container.exit_code and spec.get("terminationMessagePolicy") == "FallbackToLogsOnError" and container.log_path:
        with contextlib.suppress(OSError):
            text = b"".join(read(container.log_path, LogRequest(tail=LOG_LINES), lambda: False))
            message = text[-LOG_BYTES:][:share].decode(errors="replace")
    return message
