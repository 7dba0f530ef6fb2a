"""Fixtures of tests/programming.py: `settings` may be parametrized."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from labctl.proxy.settings import ProxySettings
from tests.programming import World


@pytest.fixture
def settings() -> ProxySettings:
    return ProxySettings()


@pytest.fixture
async def world(settings: ProxySettings) -> AsyncIterator[World]:
    made = World(settings)
    await made.start()
    yield made
    await made.stop()
