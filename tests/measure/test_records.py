"""Measurements as files: what is written is read again, and what somebody else wrote is refused in one line that says where."""

import gzip
import json
import resource
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import LabctlError
from labctl.measure import records
from labctl.measure.records import Measurement, Request, Source


def measurement(*requests: Request) -> Measurement:
    return Measurement(
        "svc/web", 200.0, "http", False, 100.0, 101.0, 1.7e9, (Source("minion-1", sent=1), Source("pod/default/a", 0.25, 0.001)), requests
    )


OK = Request("minion-1", 100.0, "ok", 100.001, 100.002, 100.003, 100.004, 200, "web-1")
UNSENT = Request("pod/default/a", 100.5, "unsent")


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz"])
def test_what_is_written_is_read(tmp_path: Path, name: str):
    whole = measurement(OK, UNSENT)
    records.write(whole, tmp_path / name)
    assert records.read(tmp_path / name) == whole
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@given(st.lists(st.tuples(st.sampled_from(records.OUTCOMES), st.integers(0, 10**6), st.lists(st.integers(0, 10**6), max_size=4))))
def test_every_request_comes_back(drawn):
    requests = []
    for outcome, begin, steps in drawn:
        moments, last = [], begin
        for step in steps:
            last += step
            moments.append(last / 1e6 + 100)
        requests.append(Request("minion-1", begin / 1e6 + 100, outcome, *moments))
    whole = measurement(*requests)
    assert records.decode(records.encode(whole), "here") == whole


LINES = [json.loads(line) for line in records.encode(measurement(OK, UNSENT))]


def lines(number: int, **changes) -> list[bytes]:
    return [json.dumps(line | (changes if here == number else {})).encode() for here, line in enumerate(LINES, 1)]


@pytest.mark.parametrize(
    "bad, said",
    [
        ([], "m, line 1: Input data was truncated"),
        ([b"{"], "m, line 1: "),
        ([b"\xff\xfe"], "m, line 1: "),
        ([b"[" * 100_000], "m, line 1: "),
        (lines(1, format="other"), "m, line 1: Invalid enum value 'other' - at `$.format`"),
        (lines(1, count=10**9), "m, line 1: Expected `int` <= 2000000 - at `$.count`"),
        (lines(1, count=3), "m: it has 2 of 3 requests: the file was cut off"),
        (lines(1, count=1), "m, line 3: more requests than the 1 of the first line"),
        (lines(1, measurement=LINES[0]["measurement"] | {"rate": 0}), "m, line 1: Expected `float` > 0.0 - at `$.measurement.rate`"),
        (lines(1, measurement=LINES[0]["measurement"] | {"sources": [{"name": "a"}] * 2}), "m, line 1: a source is there twice"),
        (lines(2, source="minion-9"), "m, line 2: the first line has no source 'minion-9'"),
        (lines(2, outcome="fine"), "m, line 2: Invalid enum value 'fine' - at `$.outcome`"),
        (lines(2, intended_s=1e300), "m, line 2: Expected `float` <= 100000000000.0 - at `$.intended_s`"),
        (lines(2, ended_s=99.0), "m, line 2: its times run backwards"),
        (lines(3, source="x" * 1000), "m, line 3: Expected `str` of length <= 600 - at `$.source`"),
        ([*lines(1)[:2], lines(1)[2].replace(b"100.5", b"NaN")], "m, line 3: "),
    ],
)
def test_a_file_that_nobody_wrote_so_is_refused_in_one_line(bad, said):
    with pytest.raises(LabctlError) as error:
        records.decode(bad, "m")
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


def test_what_was_not_reached_is_left_out():
    line = list(records.encode(measurement(UNSENT)))[1]
    assert json.loads(line) == {"source": "pod/default/a", "intended_s": 100.5, "outcome": "unsent"}


def test_a_cut_compressed_file_and_one_that_is_none(tmp_path: Path):
    records.write(measurement(OK), tmp_path / "m.gz")
    data = (tmp_path / "m.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(data[:-20])
    (tmp_path / "none.gz").write_bytes(b"hello")
    for name in ("cut.gz", "none.gz", "missing.gz", "missing"):
        with pytest.raises(LabctlError, match=name):
            records.read(tmp_path / name)


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused_with_little_memory(tmp_path: Path):
    with gzip.open(tmp_path / "bomb.gz", "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(b" " * (1 << 20))
    program = "import sys; from pathlib import Path; from labctl.measure import records; records.read(Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "bomb.gz"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20)),
    )
    assert "LabctlError" in done.stderr and "line 1: longer than" in done.stderr


def test_a_full_disk_is_one_line_and_leaves_no_piece(tmp_path: Path):
    program = """
import resource, signal, sys
from pathlib import Path
from labctl.errors import LabctlError
from labctl.measure import records
from tests.measure.test_records import OK, measurement
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    records.write(measurement(*[OK] * 1000), Path(sys.argv[1]))
except LabctlError as error:
    print(error)
"""
    for name in ("m", "m.gz"):
        done = subprocess.run([sys.executable, "-c", program, tmp_path / name], capture_output=True, text=True, timeout=60)
        assert f"{name} can't be written: File too large" in done.stdout, done.stderr[-500:]
    assert not list(tmp_path.iterdir())


def test_many_requests_make_a_small_file(tmp_path: Path):
    many = measurement(*(msgspec.structs.replace(OK, intended_s=i / 1e4, started_s=0.0) for i in range(20_000)))
    records.write(many, tmp_path / "m.gz")
    assert len(records.read(tmp_path / "m.gz").requests) == 20_000
    assert (tmp_path / "m.gz").stat().st_size < 400_000
