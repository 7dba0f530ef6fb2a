"""Imports what the master's process needs. It must be quick, because `labctl up` waits for it, and must not burden the garbage collector
later.

Only the process's own entry point uses this. A program that imports `labctl.master` as a library gets its libraries unchanged.
"""

from __future__ import annotations

import gc
import ssl
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Import without garbage collections. Imported objects stay until the process ends, so the collector never has to look at them."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def import_http_server() -> None:
    """Import the API server, and with it aiohttp.

    At its import, aiohttp's client loads every certificate authority of the system, twice: 50 ms and 5 MB, a third of its import. The
    master's
    only HTTP client asks pods, whose certificates are not checked, so both contexts may stay empty: they would trust no certificate.
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
