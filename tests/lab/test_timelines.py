"""Which saved measurement belongs to a fault: the newest that overlaps it, of this boot of the host; whatever else lies in the folder."""

import time

import pytest

from labctl.errors import LabctlError
from labctl.lab.folder import LabFolder
from labctl.lab.timelines import FOLDER, keep_measurement, newest_measurement
from labctl.measure.marks import FaultFacts
from labctl.measure.records import Measurement, Request, Source, read

BOOT_S = time.time() - time.monotonic()


@pytest.fixture
def lab(tmp_path):
    folder = LabFolder(tmp_path, environment={"LABCTL_STATE_HOME": str(tmp_path), "LABCTL_CACHE_HOME": str(tmp_path)})
    (tmp_path / ".labctl").mkdir()
    return folder


def measurement(began, ended, boot_s=BOOT_S):
    requests = (Request("host", began, "ok", began, began, began, began + 0.001),)
    return Measurement("web", 100.0, "http", False, began, ended, boot_s + began, (Source("host", sent=1),), requests)


def fault(injected, healed=None):
    return FaultFacts(name="x", type="power-off", target="minion-1", injected_s=injected, healed_s=healed)


def test_the_newest_that_overlaps_is_taken(lab):
    paths = [keep_measurement(lab, measurement(began, began + 10)) for began in (1000.0, 1005.0, 1100.0)]
    assert newest_measurement(lab, fault(1007.0)) == paths[1]
    assert newest_measurement(lab, fault(1012.0)) == paths[1]
    assert newest_measurement(lab, fault(1002.0)) == paths[0]
    assert newest_measurement(lab, fault(990.0, healed=1001.0)) == paths[0], "it began during the fault"
    assert newest_measurement(lab, fault(1050.0)) is None
    assert read(paths[0]).requests == measurement(1000.0, 1010.0).requests


def test_another_boot_of_the_host_and_what_is_no_measurement_are_passed_over(lab):
    assert newest_measurement(lab, fault(1.0)) is None
    keep_measurement(lab, measurement(1000.0, 1010.0, BOOT_S - 86_400))
    folder = lab.paths.lab / FOLDER
    (folder / "a.jsonl").write_bytes(b"\x00" * 100)
    (folder / "b.jsonl.gz").write_bytes(b"\x1f\x8b\x08garbage")
    (folder / "c.jsonl").write_text('{"measurement": {"began_s": "x"}}\n')
    (folder / "d.jsonl").write_bytes(b"[" * (2 << 20))
    (folder / "e.jsonl").mkdir()
    assert newest_measurement(lab, fault(1005.0)) is None


def test_only_so_many_are_kept_and_a_full_disk_is_one_line(lab):
    for began in range(1000, 1015):
        keep_measurement(lab, measurement(float(began), began + 1.0))
    kept = sorted((lab.paths.lab / FOLDER).iterdir())
    assert len(kept) == 10 and read(kept[-1]).began_s == 1014.0
    for path in kept:
        path.unlink()
    (lab.paths.lab / FOLDER).rmdir()
    (lab.paths.lab / FOLDER).write_text("a file is in the way")
    with pytest.raises(LabctlError) as refused:
        keep_measurement(lab, measurement(1.0, 2.0))
    assert FOLDER in str(refused.value)
    assert newest_measurement(lab, fault(1.0)) is None
