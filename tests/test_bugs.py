"""docs/bugs.md names the test that replays each bug: it must be there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REPLAYS = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "bugs.md").read_text())


@pytest.mark.parametrize(("file", "test"), sorted(set(REPLAYS)))
def test_a_bugs_test_exists(file, test):
    assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).exists()


def test_every_bug_has_one():
    rows = [line for line in (ROOT / "docs" / "bugs.md").read_text().splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 10 and all("`tests/" in row for row in rows)
