"""docs/faults.md has a row for each type of fault, with its parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.faults.deeds import builtin
from labctl.resources.faulttypes import TYPES

TEXT = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()
ROWS = {line.split("|")[1].strip().strip("`"): line for line in TEXT.splitlines() if line.startswith("| `")}


@pytest.mark.parametrize("type_", TYPES)
def test_each_type_has_its_row_and_its_deed(type_: str) -> None:
    assert type_ in ROWS
    assert type_ in builtin()
    for parameter in TYPES[type_].parameters:
        assert f"`{parameter}`" in ROWS[type_]
