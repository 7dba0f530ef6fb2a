"""Which boot the state on disk is of."""

from labctl.agent.boot import Boot


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
