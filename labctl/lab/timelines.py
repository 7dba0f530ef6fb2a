"""A fault's timeline as the lab's commands and experiments see it: the master's facts and journal, joined with the requests that were measured here."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec

from labctl.decoding import from_json, from_values
from labctl.errors import LabctlError
from labctl.journal import Line
from labctl.lab.folder import LabFolder
from labctl.lab.privilege import return_ownership
from labctl.measure import records
from labctl.measure.marks import FaultFacts, Timeline
from labctl.measure.records import Measurement
from labctl.measure.timeline import timeline

FOLDER = "measurements"  # below .labctl
_LOOKED_AT = 100  # files, the newest
_KEPT = 10  # measurements, the newest
_HEADER_MAX = 1 << 20
_SAME_BOOT_S = 300.0  # by how much the wall clock may have been set since


class _Header(msgspec.Struct, frozen=True):
    """What the first line of a measurement's file says of its time."""

    measurement: _Times


class _Times(msgspec.Struct, frozen=True):
    began_s: float
    ended_s: float
    began_at: float


def timeline_of(lab: LabFolder, what: str, *, namespace: str = "default", measurement: Measurement | None = None) -> Timeline:
    """Return the timeline of the fault of that name, or of `machine/NAME` or `pod/NAME`. Raises ApiError if there is no such fault."""
    path = "/".join(quote(part, safe="") for part in what.split("/")[:3])
    told = from_values(lab.api.get(f"/labctl/v1/timeline/{path}?namespace={quote(namespace)}"), Timeline)
    if measurement is None:
        return told
    return timeline(told.fault, lines_since(lab, told.fault.injected_s), measurement)


def lines_since(lab: LabFolder, since_s: float) -> list[Line]:
    """Return the journal's lines from that time on."""
    return from_values(lab.api.get(f"/labctl/v1/journal?since={since_s - 1e-6:.6f}")["lines"], list[Line])


def keep_measurement(lab: LabFolder, measurement: Measurement) -> Path:
    """Keep a measurement where `labctl timeline` looks for it, and remove the oldest of those that lie there. Raises LabctlError if the disk refuses."""
    folder = lab.paths.lab / FOLDER
    path = folder / f"{measurement.began_at:.3f}.jsonl.gz"
    try:
        folder.mkdir(exist_ok=True)
        for old in sorted(folder.glob("*.jsonl.gz"), key=lambda one: one.name)[: -_KEPT + 1]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise LabctlError(f"{folder}: {error.strerror}") from None
    records.write(measurement, path)
    for made in (folder, path):
        return_ownership(lab, made)
    return path


def newest_measurement(lab: LabFolder, fault: FaultFacts) -> Path | None:
    """Return the newest saved measurement during which the fault began or lasted; None if there is none."""
    end_s = fault.healed_s if fault.healed_s is not None else fault.injected_s
    for path, times in _saved(lab.paths.lab / FOLDER):
        if times.began_s <= end_s and fault.injected_s <= times.ended_s:
            return path
    return None


def _saved(folder: Path) -> Iterator[tuple[Path, _Times]]:
    """Yield the measurements that were made since the host's last boot, the newest first. What is no measurement is passed over."""
    boot_s = time.time() - time.monotonic()
    files = [path for path in folder.glob("*.jsonl*") if path.is_file()] if folder.is_dir() else []
    for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)[:_LOOKED_AT]:
        try:
            with records.open_to_read(path) as file:
                times = from_json(file.readline(_HEADER_MAX), _Header).measurement
        except (OSError, EOFError, ValueError, zlib.error):
            continue
        if abs(times.began_at - times.began_s - boot_s) < _SAME_BOOT_S:
            yield path, times
