"""What the agent may be: standard library only, in the language of Python 3.9, without a way out of its folder."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

AGENT = Path(__file__).parents[2] / "labctl" / "agent"
FILES = sorted(AGENT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(AGENT)))
def test_every_module_is_python_3_9_and_imports_nothing_foreign(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    depth = len(path.relative_to(AGENT).parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                assert each.name.partition(".")[0] in sys.stdlib_module_names, each.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= depth, f"{node.module} lies outside the agent"
            assert node.level or node.module.partition(".")[0] in sys.stdlib_module_names, node.module


def test_annotations_are_never_evaluated():
    """`X | None` is Python 3.10: fine as text, which the future import makes of it."""
    lacking = [
        path.name
        for path in FILES
        if re.search(r"^(def|class) ", path.read_text(), re.M) and "from __future__ import annotations" not in path.read_text()
    ]
    assert [name for name in lacking if name != "failures.py"] == []


def test_packed_at_a_zips_top_it_runs(tmp_path):
    packed = tmp_path / "agent.pyz"
    with zipfile.ZipFile(packed, "w") as file:
        for path in FILES:
            file.write(path, Path("agent") / path.relative_to(AGENT))
        file.writestr("__main__.py", "from agent.__main__ import main\nraise SystemExit(main())\n")
    facts = subprocess.run([sys.executable, "-I", str(packed), "facts"], capture_output=True, text=True, timeout=20)
    assert '"arch"' in facts.stdout, facts.stderr
    refused = subprocess.run([sys.executable, "-I", str(packed), "run", "--config", "/nowhere"], capture_output=True, text=True, timeout=20)
    assert (refused.returncode, refused.stderr.startswith("agent: /nowhere")) == (2, True)
