"""What `export` collects on a machine: run here, as it is run there, with the oldest words of Python that it may use."""

import ast
import json
import subprocess
import sys

from labctl.lab import collect
from labctl.lab.export import COLLECT


def test_one_file_per_question_and_one_that_fails_costs_only_itself(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        collect,
        "COMMANDS",
        {
            "a.txt": ["echo", "fine"],
            "b.txt": ["sh", "-c", "echo half; echo why >&2; exit 3"],
            "c.txt": ["no-such-program"],
            "d.txt": ["birdc-no"],
        },
    )
    monkeypatch.setattr(collect, "OPTIONAL", ("birdc-no",))
    collect.main()
    found = json.loads(capsys.readouterr().out)
    assert found["a.txt"] == "fine\n"
    assert found["b.txt"] == "half\n\n(exit 3) why\n"
    assert found["c.txt"].startswith("could not be read:")
    assert "d.txt" not in found, "what this lab's network does not use is not missed"


def test_the_end_of_a_long_log_is_kept(monkeypatch, tmp_path):
    log = tmp_path / "0.log"
    log.write_text("x" * 100 + "the end")
    monkeypatch.setattr(collect, "FILE_BYTES_MAX", 7)
    assert collect._end_of(str(log)) == "the end"


def test_it_runs_alone_as_it_is_sent():
    answer = subprocess.run([sys.executable, "-I", "-S", "-c", COLLECT.read_text()], capture_output=True, text=True, timeout=60)
    assert "mounts.txt" in json.loads(answer.stdout), answer.stderr
    ast.parse(COLLECT.read_text(), feature_version=(3, 9))
