"""What several rooms' tests share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.inprocess import ApiServer
from tests.vm.labs import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `--dist loadgroup`: a file's tests run in one process, and so do all that share the lab of `enduring`, or that of `virtual`."""
    for item in items:
        virtual = item.path.parent.name == "vm" or item.path.stem == "test_provider"
        group = "virtual" if virtual else "enduring" if "enduring" in item.fixturenames else item.path.stem  # type: ignore[attr-defined]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """A real API server on loopback, in the test's own loop."""
    async with ApiServer.running(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def provider_cache() -> Path:
    """Where root file systems are kept between test runs: building them is not what is tested."""
    return Path(os.environ.get("LABCTL_CACHE_HOME", "/var/cache/labctl"))


@pytest.fixture(scope="session")
def virtual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two virtual machines, booted once for all whose test is what can happen to them: they put them right first."""
    lab = Lab(tmp_path_factory.mktemp("vm-lab"))
    try:
        lab.boot()
        yield lab
    finally:
        lab.provider.destroy_lab()
