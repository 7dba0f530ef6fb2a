"""The raw data of a result as downloads inside the report: archives that unpack into the folder that `labctl experiment` writes.

A browser takes data: addresses of about 2 MB, so the data come in parts; unpacked into one folder they are the whole. There is a bound on all parts
together, and what is beyond it is left out, run by run, and told.
"""

from __future__ import annotations

import base64
import gzip
import io
import tarfile

import msgspec

from labctl.experiments.result import Result, Run
from labctl.measure import records

PART_MAX_BYTES = 1_400_000  # base64 makes 1.9 MB of them
PARTS_MAX = 8


class Download(msgspec.Struct, frozen=True):
    """One archive: its file name, its address, its size, and how many runs' requests are in it."""

    name: str
    address: str
    size_bytes: int
    runs: int


def downloads(result: Result) -> list[Download]:
    """Returns the archives. The first has result.json, with all timelines and figures; it is missing if that alone is too big."""
    files: list[tuple[str, bytes]] = []
    kept: list[Run] = []
    for number, run in enumerate(result.runs, 1):
        if run.measurement is None:
            kept.append(run)
            continue
        name = f"runs/run-{number}.jsonl.gz"
        files.append((name, _requests(run)))
        kept.append(msgspec.structs.replace(run, measurement=None, requests=name))
    whole, room = [], PART_MAX_BYTES * (PARTS_MAX - 1)
    for name, data in files:
        if len(data) <= min(room, PART_MAX_BYTES - 20_000):
            whole.append((name, data))
            room -= len(data)
    there = {name for name, _ in whole}
    runs = tuple(run if run.requests in there else msgspec.structs.replace(run, requests="") for run in kept)
    first = ("result.json", msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(result, runs=runs)), indent=1))
    return _parts(first, whole)


def _parts(first: tuple[str, bytes], files: list[tuple[str, bytes]]) -> list[Download]:
    """Fills one archive after the other, each with as many files as fit."""
    groups: list[list[tuple[str, bytes]]] = [[first]]
    used = len(gzip.compress(first[1], 6))
    for name, data in files:
        if used + len(data) > PART_MAX_BYTES - 20_000:
            groups.append([])
            used = 0
        groups[-1].append((name, data))
        used += len(data)
    made = []
    for number, group in enumerate(groups[:PARTS_MAX], 1):
        data = _archive(group)
        if group and len(data) <= PART_MAX_BYTES:
            name = "result.tar.gz" if len(groups) == 1 else f"result-part-{number}.tar.gz"
            address = "data:application/gzip;base64," + base64.b64encode(data).decode()
            made.append(Download(name, address, len(data), sum(name.startswith("runs/") for name, _ in group)))
    return made


def _requests(run: Run) -> bytes:
    assert run.measurement
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as file:
        file.writelines(records.encode(run.measurement))
    return buffer.getvalue()


def _archive(files: list[tuple[str, bytes]]) -> bytes:
    """Returns the archive; the same files give the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
