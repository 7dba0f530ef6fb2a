"""The table of kinds in the documentation is what the code says."""

from __future__ import annotations

import pytest

pytest.importorskip("kubernetes_validate")


def test_the_page_is_what_the_code_gives() -> None:
    from tools.derive_kinds import PAGE, page

    assert PAGE.read_text() == page(), "run `make derive`"
