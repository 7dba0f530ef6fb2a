"""What several rooms' tests share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.inprocess import ApiServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `--dist loadgroup`: a file's tests run in one process, and so do all that share the lab of `enduring`."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("enduring" if "enduring" in item.fixturenames else item.path.stem))  # type: ignore[attr-defined]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """A real API server on loopback, in the test's own loop."""
    async with ApiServer.running(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def provider_cache() -> Path:
    """Where root file systems are kept between test runs: building them is not what is tested."""
    return Path(os.environ.get("LABCTL_CACHE_HOME", "/var/cache/labctl"))
