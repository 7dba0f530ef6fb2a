"""The master's imports: quick, and with nothing left changed."""

import gc
import subprocess
import sys

from labctl.master.imports import without_garbage_collection

CHILD = """
import ssl
from labctl.master.imports import import_http_server
default = ssl.create_default_context().cert_store_stats()
import_http_server()
import aiohttp.connector
assert not aiohttp.connector._SSL_CONTEXT_VERIFIED.get_ca_certs() and aiohttp.connector._SSL_CONTEXT_VERIFIED.verify_mode is ssl.CERT_REQUIRED
assert ssl.create_default_context().cert_store_stats() == default, "others' contexts are as they were"
assert "set_default_verify_paths" not in ssl.SSLContext.__dict__
"""


def test_aiohttp_trusts_nobody_and_everyone_else_is_as_before():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_collector_is_back_afterwards():
    try:
        with without_garbage_collection():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
