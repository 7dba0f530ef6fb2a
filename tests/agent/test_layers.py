"""Layers, friendly and hostile. Root: owners and whiteouts are made with mknod and trusted attributes."""

import gzip
import io
import os
import stat
import tarfile

import pytest

from labctl.agent.failures import BadLayer
from labctl.agent.layers import unpack

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def entry(name, kind=tarfile.REGTYPE, data=b"", **more):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(data), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def archive(*entries, packed=False):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return io.BytesIO(gzip.compress(raw.getvalue()) if packed else raw.getvalue())


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "layer"
    folder.mkdir()
    (tmp_path / "outside").write_text("untouched")
    yield folder
    assert (tmp_path / "outside").read_text() == "untouched"
    assert sorted(os.listdir(tmp_path)) == ["layer", "outside"]


@pytest.mark.parametrize("packed", [False, True])
def test_files_keep_owner_mode_time_and_links(target, packed):
    layer = archive(
        entry("bin/", tarfile.DIRTYPE, mtime=1000),
        entry("bin/su", data=b"x", uid=3, gid=4, mode=0o4755, mtime=2000),
        entry("bin/hard", tarfile.LNKTYPE, linkname="bin/su"),
        entry("bin/soft", tarfile.SYMTYPE, linkname="su"),
        packed=packed,
    )
    assert unpack(layer, str(target)) == 1
    su = (target / "bin/su").stat()
    assert (su.st_uid, su.st_gid, stat.S_IMODE(su.st_mode), su.st_mtime, su.st_nlink) == (3, 4, 0o4755, 2000, 2)
    assert os.readlink(target / "bin/soft") == "su"
    assert (target / "bin").stat().st_mtime == 1000


def test_a_whiteout_is_overlays_own(target):
    unpack(archive(entry("etc/.wh.passwd")), str(target))
    made = os.lstat(target / "etc/passwd")
    assert stat.S_ISCHR(made.st_mode) and made.st_rdev == 0


def test_an_opaque_folder_is_marked(target):
    unpack(archive(entry("etc/", tarfile.DIRTYPE), entry("etc/.wh..wh..opq")), str(target))
    assert os.getxattr(target / "etc", "trusted.overlay.opaque") == b"y"
    assert os.listdir(target / "etc") == []


def test_what_a_layer_removes_and_makes_anew_is_there_and_only_that(target):
    layer = archive(entry(".wh.etc"), entry("etc/", tarfile.DIRTYPE), entry("etc/a", data=b"new"), entry(".wh.a"), entry("a", data=b"file"))
    unpack(layer, str(target))
    assert (target / "etc/a").read_bytes() == b"new"
    assert os.getxattr(target / "etc", "trusted.overlay.opaque") == b"y"
    assert (target / "a").read_bytes() == b"file"


def test_a_whiteout_after_the_entry_hides_only_lower_layers(target):
    unpack(archive(entry("d/", tarfile.DIRTYPE), entry("d/f", data=b"mine"), entry(".wh.d")), str(target))
    assert (target / "d/f").read_bytes() == b"mine"
    assert os.getxattr(target / "d", "trusted.overlay.opaque") == b"y"


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../outside", data=b"!")],
        [entry("a/../../outside", data=b"!")],
        [entry("a/.wh..")],
        [entry("l", tarfile.LNKTYPE, linkname="../outside")],
        [entry("l", tarfile.LNKTYPE, linkname="/")],
        [entry("l", tarfile.LNKTYPE, linkname="no/such")],
    ],
)
def test_what_leads_out_is_refused(target, entries):
    with pytest.raises(BadLayer):
        unpack(archive(*entries), str(target))


@pytest.mark.parametrize("link", ["/", "..", "../..", "../../../../..", "/.."])
def test_a_symlink_to_the_outside_leads_to_the_layers_own_root(target, link):
    unpack(archive(entry("evil", tarfile.SYMTYPE, linkname=link), entry("evil/outside", data=b"mine")), str(target))
    assert (target / "outside").read_bytes() == b"mine"


def test_a_file_replaces_a_symlink_instead_of_following_it(target):
    unpack(archive(entry("f", tarfile.SYMTYPE, linkname="../outside"), entry("f", data=b"mine")), str(target))
    assert (target / "f").read_bytes() == b"mine" and not (target / "f").is_symlink()


def test_a_hard_link_to_a_symlink_links_the_symlink(target):
    unpack(archive(entry("s", tarfile.SYMTYPE, linkname="../outside"), entry("h", tarfile.LNKTYPE, linkname="s")), str(target))
    assert (target / "h").is_symlink()


def test_symlinks_in_a_circle_end(target):
    circle = [entry("a", tarfile.SYMTYPE, linkname="b"), entry("b", tarfile.SYMTYPE, linkname="a"), entry("a/x", data=b"!")]
    with pytest.raises(BadLayer, match="circles"):
        unpack(archive(*circle), str(target))


def test_a_layer_that_is_too_big_is_refused_before_the_disk_is_full(target):
    with pytest.raises(BadLayer, match="more than"):
        unpack(archive(entry("big", data=b"x" * 100)), str(target), limit_bytes=99)


@pytest.mark.parametrize("data", [b"", b"\x1f\x8bnot gzip", b"plain text, no tar" * 100, b"\x28\xb5\x2f\xfdzstd"])
def test_what_is_no_layer_is_refused(target, data):
    with pytest.raises(BadLayer):
        unpack(io.BytesIO(data), str(target))


def test_a_truncated_layer_is_refused(target):
    whole = archive(entry("f", data=b"x" * 10_000), packed=True).getvalue()
    with pytest.raises(BadLayer):
        unpack(io.BytesIO(whole[: len(whole) // 2]), str(target))
