"""docs/bugs.md names the test that replays each bug, docs/security.md the ones that try its words: pytest must really collect them."""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED_IN = "".join((ROOT / "docs" / name).read_text() for name in ("bugs.md", "security.md"))
REPLAYS = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", NAMED_IN)
pytestmark = pytest.mark.timeout(600)  # a third of all tests are imported, which takes minutes on a busy host


@pytest.fixture(scope="module")
def collected(request) -> set[str]:
    """`file` and `file::test` of every test that pytest finds in the files that docs/bugs.md names. A run of all tests knows them already."""
    names = with_files(item.nodeid for item in request.session.items)
    if all((f"{file}::{test}" if test else file) in names for file, test in REPLAYS):
        return names
    files = sorted({file for file, _ in REPLAYS})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    found = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    return with_files(line for line in found.stdout.splitlines() if "::" in line)


def with_files(tests: Iterable[str]) -> set[str]:
    names = {test.partition("[")[0] for test in tests}
    return names | {name.partition("::")[0] for name in names}


@pytest.mark.parametrize(("file", "test"), sorted(set(REPLAYS)))
def test_a_bugs_test_is_collected(collected, file, test):
    tests = {name.rpartition("::")[2] for name in collected if name.startswith(f"{file}::")}
    assert test in tests if test else tests, f"{file} has no such test"


def test_every_bug_has_one():
    rows = [line for line in (ROOT / "docs" / "bugs.md").read_text().splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 10 and all("`tests/" in row for row in rows)
