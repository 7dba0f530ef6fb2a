"""What several files of client tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client.hooks import Hooks


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[Hooks]:
    made = Hooks(tmp_path)
    runner = await made.start()
    yield made
    await runner.cleanup()
