"""Labs that are destroyed whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.namespaces import Lab


@pytest.fixture
def make_lab(tmp_path: Path, provider_cache: Path) -> Iterator[Callable[[], Lab]]:
    labs: list[Lab] = []

    def make() -> Lab:
        folder = tmp_path / f"lab-{len(labs)}"
        folder.mkdir()
        labs.append(Lab(folder, provider_cache))
        labs[-1].provider().prepare()
        return labs[-1]

    yield make
    for lab in labs:
        lab.provider().destroy_lab()


@pytest.fixture
def lab(make_lab: Callable[[], Lab]) -> Lab:
    return make_lab()
