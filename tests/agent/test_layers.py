"""Layers, friendly and hostile. Root: owners and whiteouts are made with mknod and trusted attributes."""

import contextlib
import gzip
import io
import os
import stat
import tarfile
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.agent.failures import BadLayer
from labctl.agent.layers import HEADER_LIMIT_BYTES, Unpacked, unpack

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
    assert unpack(layer, str(target)) == Unpacked(1)
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
        [entry("l", tarfile.LNKTYPE, linkname="a/../../outside")],
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


def header(name="f", size=0, kind=b"0", **fields):
    """512 bytes of a tar archive as nobody's tar would write them."""
    raw = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    raw[156:157] = kind
    raw[124:136] = size if isinstance(size, bytes) else f"{size:011o}".encode() + b"\0"
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw):06o}".encode() + b"\0 "
    return bytes(raw)


def pax(key, value):
    def line(length):
        return f"{length} {key}={value}\n"

    length = next(length for length in range(1, 1 << 20) if len(line(length).encode()) == length)
    text = line(length).encode()
    return header("pax", len(text), b"x") + text.ljust(-(-len(text) // 512) * 512, b"\0")


NEGATIVE = b"\xff" * 11 + b"\x00"
HOSTILE = {
    "a negative size": header(size=NEGATIVE) + bytes(1024),
    "a negative size of a link": header(size=NEGATIVE, kind=b"2") + bytes(1024),
    "a negative size in an extended header": pax("size", -512) + header() + bytes(1024),
    "a name with a zero byte": pax("path", "a\0b") + header() + bytes(1024),
    "a time beyond all clocks": pax("mtime", 10**30) + header() + bytes(1024),
    "an owner beyond all numbers": pax("uid", 1 << 70) + header() + bytes(1024),
    "a path that is too long": pax("path", "a/" * 5000 + "f") + header() + bytes(1024),
    "headers of headers of headers": pax("path", "x") * 5000 + header() + bytes(1024),
    "damaged gzip": gzip.compress(os.urandom(5000))[:-2000] + bytes(2000),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_an_archive_that_is_meant_to_harm_is_refused(target, data):
    with pytest.raises((BadLayer, OSError)):
        unpack(io.BytesIO(data), str(target))


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_header_that_would_be_read_into_memory_whole_is_refused_at_once(target, kind):
    """10 GB of zeros are 10 MB of gzip."""

    class Endless(io.RawIOBase):
        read_bytes = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            self.read_bytes += len(buffer)
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    endless = Endless()

    class Archive(io.RawIOBase):
        start = header("big", HEADER_LIMIT_BYTES + 1, kind)

        def readable(self):
            return True

        def readinto(self, buffer):
            piece, self.start = self.start[: len(buffer)], self.start[len(buffer) :]
            buffer[: len(piece)] = piece
            return len(piece) or endless.readinto(buffer)

    with pytest.raises(BadLayer, match="a header of"):
        unpack(io.BufferedReader(Archive()), str(target))
    assert endless.read_bytes < 1 << 20


def test_odd_names_are_names(target):
    names = ["new\nline", "two\n/lines", "blank ", "-rf", "*", "\u00e4\u65e5", "\x1b[2J", "a" * 255]
    unpack(archive(*(entry(name, data=b"x") for name in names)), str(target))
    assert {os.path.relpath(os.path.join(base, name), target) for base, _, found in os.walk(target) for name in found} == set(names)


@pytest.mark.parametrize(
    "links",
    [
        [("a", "/"), ("a/b", "..")],
        [("a", ".."), ("b", "a/.."), ("c", "b/../a")],
        [("x/y/z", "../../../.."), ("up", "x/y/z")],
        [("up", "/proc/self/root"), ("a", "up")],
    ],
)
def test_chained_links_lead_nowhere_else(target, links):
    chain = [entry(name, tarfile.SYMTYPE, linkname=to) for name, to in links]
    last = links[-1][0]
    unpack(archive(*chain, entry(f"{last}/outside", data=b"mine"), entry(f"{last}/deep/er", data=b"mine")), str(target))
    assert not any(
        "outside" in name and base == str(target.parent) and name != "outside" for base, _, names in os.walk(target) for name in names
    )


def test_a_hard_link_through_a_symlink_that_leads_out_takes_nothing_of_the_machine(target):
    layer = archive(entry("evil", tarfile.SYMTYPE, linkname=str(target.parent)), entry("h", tarfile.LNKTYPE, linkname="evil/outside"))
    assert unpack(layer, str(target)).links == (("h", "evil/outside"),)
    assert not (target / "h").exists()


def test_devices_are_nodes_and_nothing_is_read_from_them(target):
    kinds = (tarfile.CHRTYPE, 1, 5), (tarfile.BLKTYPE, 8, 0), (tarfile.FIFOTYPE, 0, 0)
    unpack(archive(*(entry(f"d{n}", kind, devmajor=major, devminor=minor) for n, (kind, major, minor) in enumerate(kinds))), str(target))
    assert [stat.S_IFMT(os.lstat(target / f"d{n}").st_mode) for n in range(3)] == [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO]


def test_attributes_that_steer_the_overlay_are_left_out(target):
    words = {"trusted.overlay.redirect": "/etc", "trusted.overlay.metacopy": "", "user.overlay.opaque": "y", "user.mine": "1"}
    info, data = entry("d/", tarfile.DIRTYPE)
    info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in words.items()}
    unpack(archive((info, data)), str(target))
    assert [name for name in os.listxattr(target / "d") if "overlay" in name] == []


VALID = archive(
    entry("bin/", tarfile.DIRTYPE),
    entry("bin/sh", data=b"x" * 600, mode=0o4755),
    entry("bin/link", tarfile.LNKTYPE, linkname="bin/sh"),
    entry("up", tarfile.SYMTYPE, linkname="../.."),
    entry("up/f", data=b"y"),
    entry("bin/.wh.gone"),
    (tarfile.TarInfo("\u00e4" * 60 + "/" + "b" * 120), b""),
).getvalue()


@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=12), st.integers(512, len(VALID)))
@settings(max_examples=200, deadline=None)
def test_whatever_is_changed_in_an_archive_nothing_leaves_its_folder(changes, length):
    data = bytearray(VALID)
    for at, value in changes:
        data[at] = value
        header_of = at // 512 * 512  # with a right checksum, so that more than the first look is reached
        block = data[header_of : header_of + 512]
        block[148:156] = b" " * 8
        data[header_of + 148 : header_of + 156] = f"{sum(block):06o}".encode() + b"\0 "
    with tempfile.TemporaryDirectory() as base:
        folder = os.path.join(base, "layer")
        os.mkdir(folder)
        with contextlib.suppress(BadLayer, OSError):
            unpack(io.BytesIO(bytes(data[:length])), folder, limit_bytes=1 << 20)
        assert os.listdir(base) == ["layer"]
