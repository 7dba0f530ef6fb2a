"""Which boot the state on disk is of."""

from labctl.agent.addresses import Range
from labctl.agent.boot import Boot
from labctl.agent.runtime.records import read_json


def test_a_boot_is_known_again_only_once_it_was_noted(tmp_path):
    first = Boot(str(tmp_path), "boot-1")
    assert not first.same and not Boot(str(tmp_path), "boot-1").same, "what the one before left is not cleared yet"
    first.note()
    assert Boot(str(tmp_path), "boot-1").same and not Boot(str(tmp_path), "boot-2").same


def test_a_note_that_was_lost_with_the_power_is_of_no_boot(tmp_path):
    Boot(str(tmp_path), "boot-1").note()
    (tmp_path / "boot_id").write_bytes(b"")
    assert not Boot(str(tmp_path), "boot-1").same


def test_a_machine_that_boots_on_the_same_kernel_lost_no_file(tmp_path):
    Boot(str(tmp_path), "first", "kernel-1").note()
    again = Boot(str(tmp_path), "second", "kernel-1")
    assert (again.same, again.same_kernel) == (False, True)
    assert not Boot(str(tmp_path), "second", "kernel-2").same_kernel


def test_a_machine_that_was_never_noted_may_have_lost_files(tmp_path):
    assert not Boot(str(tmp_path), "first", "kernel-1").same_kernel


def test_a_damaged_note_is_of_no_boot(tmp_path):
    """After a host's power cut, or by the machine's root: the agent ended at its start, again and again."""
    Boot(str(tmp_path), "boot-1", "kernel-1").note()
    for name in ("boot_id", "kernel_boot_id"):
        (tmp_path / name).write_bytes(bytes(range(256)))
    found = Boot(str(tmp_path), "boot-1", "kernel-1")
    assert (found.same, found.same_kernel) == (False, False)
    found.note()
    assert Boot(str(tmp_path), "boot-1", "kernel-1").same


def test_a_damaged_record_is_none(tmp_path):
    path = tmp_path / "range.json"
    for damaged in (bytes(range(256)), b"[" * 100_000, b"[1]", b"7", b"null", b""):
        path.write_bytes(damaged)
        assert read_json(str(path)) is None, damaged[:20]
        assert Range(str(tmp_path)).cidr == ""
