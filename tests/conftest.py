"""What tests of several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def provider_cache() -> Path:
    """Where root file systems, blobs and built images are kept between test runs: building them is not what is tested."""
    return Path(os.environ.get("LABCTL_CACHE_HOME", "/var/cache/labctl"))
