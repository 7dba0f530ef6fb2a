"""Imports as the master's process wants them: quick, because `labctl up` waits for them, and out of the collector's way afterwards.

Only the process's own entry uses this; who imports `labctl.master` as a library gets its libraries as they are.
"""

from __future__ import annotations

import gc
import ssl
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """What is imported stays for ever: the collector looks for no garbage meanwhile, and never looks at it again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def import_http_server() -> None:
    """Import the API server, and with it aiohttp.

    aiohttp's client loads every certificate authority of the system as it is imported, twice: 50 ms and 5 MB, a third of its import. The master's
    only HTTP client asks pods, whose certificates nobody checks, so that both contexts may stay empty: they would trust nobody.
    """
    with _no_authorities():
        import labctl.api.server  # noqa: F401


@contextmanager
def _no_authorities() -> Iterator[None]:
    own = {name: ssl.SSLContext.__dict__.get(name) for name in ("load_default_certs", "set_default_verify_paths")}
    for name in own:
        setattr(ssl.SSLContext, name, lambda *_arguments: None)
    try:
        yield
    finally:
        for name, was in own.items():
            if was is None:
                delattr(ssl.SSLContext, name)  # inherited from _ssl's
            else:
                setattr(ssl.SSLContext, name, was)
