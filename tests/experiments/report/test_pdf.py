"""The figures for papers."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from labctl.cli.main import labctl as main
from labctl.errors import LabctlError
from labctl.experiments import folder
from labctl.experiments.report.pdf import pdf
from tests.experiments.report.synthetic import hostile, node_death


def test_a_column_wide_vectors_embedded_fonts_and_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf"):
        pdf(node_death(runs=3), tmp_path / name)
    data = (tmp_path / "a.pdf").read_bytes()
    assert data == (tmp_path / "b.pdf").read_bytes()
    widths = {float(box.split()[2]) for box in re.findall(rb"/MediaBox \[([^]]+)\]", data)}
    assert widths == {244.8}, "3.4 inches"
    assert data.count(b"/FontFile2") >= 2 and b"/Subtype /Type3" not in data and b"/Subtype /Image" not in data
    assert b"/CreationDate" not in data and len(data) < 300_000


def test_hostile_text_is_drawn_and_a_result_without_runs_is_refused(tmp_path: Path) -> None:
    pdf(hostile(), tmp_path / "hostile.pdf")
    assert (tmp_path / "hostile.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(LabctlError, match="no run of this result counts"):
        pdf(msgspec.structs.replace(node_death(), runs=()), tmp_path / "none.pdf")
    with pytest.raises(LabctlError, match="can't be written"):
        pdf(node_death(runs=1), tmp_path / "no folder" / "a.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pdf"]


def test_the_command_writes_both(tmp_path: Path) -> None:
    result = node_death(runs=2)
    runs = tuple(folder.write_run(tmp_path, run) for run in result.runs)
    folder.write(tmp_path, msgspec.structs.replace(result, runs=runs))
    ran = CliRunner().invoke(main, ["experiment", "report", str(tmp_path), "--pdf", str(tmp_path / "figure.pdf")])
    assert ran.exit_code == 0, ran.output
    assert "✓ It holds" in (tmp_path / "report.html").read_text() and (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
