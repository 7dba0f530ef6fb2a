"""The folder in which a result is kept, so that a broken-off experiment goes on and somebody else can repeat it.

    result.json          the experiment as it was read, facts, repetitions with their timelines and figures, verdicts
    runs/CELL-N.jsonl.gz each request of one repetition (measure/records.py has the form)

A repetition's requests are on disk before result.json names them, and both are replaced whole: a process that is killed loses the repetition it was
playing, no other. A folder may come from anybody, so what is read is bounded, checked, and taken from inside the folder only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

import msgspec

from labctl.decoding import from_json
from labctl.errors import LabctlError, UsageError
from labctl.experiments.result import Cell, Result, Run, cell_name
from labctl.measure import records

_MAX_BYTES = 256 << 20
_REQUESTS = re.compile(r"runs/[A-Za-z0-9][A-Za-z0-9._=-]{0,200}\.jsonl(\.gz)?")


def exists(folder: Path) -> bool:
    return (folder / "result.json").is_file()


def read(folder: Path, *, requests: bool = True) -> Result:
    """Return the result in a folder. Without `requests`, the measurements of its runs are left out, which is far quicker.

    Raises UsageError if there is no result, LabctlError if it is damaged.
    """
    path = folder / "result.json"
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{folder} has no result of an experiment", mend="labctl experiment run FILE --out DIR makes one") from None
    except OSError as error:
        raise LabctlError(f"{path} can't be read: {error.strerror or error}") from None
    if len(data) > _MAX_BYTES:
        raise LabctlError(f"{path} is larger than {_MAX_BYTES >> 20} MiB", mend="it is no result of labctl's")
    try:
        result = from_json(data, Result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LabctlError(f"{path} is no result that this version can read: {str(error)[:300]}") from None
    if not requests:
        return result
    return msgspec.structs.replace(result, runs=tuple(_with_requests(folder, run) for run in result.runs))


def _with_requests(folder: Path, run: Run) -> Run:
    if not run.requests:
        return run
    path = folder / run.requests
    if not _REQUESTS.fullmatch(run.requests) or not path.resolve().is_relative_to(folder.resolve()):
        raise LabctlError(f"{folder}/result.json names {run.requests[:100]!r}, which is no file of this folder")
    return msgspec.structs.replace(run, measurement=records.read(path))


def write_run(folder: Path, run: Run) -> Run:
    """Write a run's requests, and return the run as result.json keeps it."""
    if run.measurement is None:
        return run
    name = f"runs/{_file_name(run.cell, run.number)}.jsonl.gz"
    with _said(folder):
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        records.write(run.measurement, folder / name)
    return msgspec.structs.replace(run, requests=name, measurement=None)


def write(folder: Path, result: Result) -> None:
    """Write result.json, whole or not at all. The runs' measurements are not in it: `write_run` has written them."""
    kept = msgspec.structs.replace(result, runs=tuple(msgspec.structs.replace(run, measurement=None) for run in result.runs))
    data = msgspec.json.format(msgspec.json.encode(kept), indent=1)
    new = folder / "result.json.new"
    with _said(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(folder / "result.json")
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _said(folder: Path):
    """Turn the disk's refusal into one line."""
    try:
        yield
    except OSError as error:
        raise LabctlError(
            f"{folder}: the result can't be written: {error.strerror or error}", mend="free space there, and give the same command again"
        ) from None


def _file_name(cell: Cell, number: int) -> str:
    """Return a safe file name. What had to be changed or cut gets a digest, so that no two cells share a name."""
    plain = cell_name(cell).replace(" ", ".")
    text = re.sub(r"[^A-Za-z0-9.=-]", "-", plain)[:100].lstrip("-.=")
    if text != plain:
        text = f"cell-{text}-{hashlib.sha256(repr(sorted(cell.items())).encode()).hexdigest()[:12]}"
    return f"{text}-{number}" if text else f"run-{number}"
