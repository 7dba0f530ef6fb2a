"""Hard links of a layer to files below it: what completes the layer shows, in a real overlay, one file under both names and nothing else changed."""

import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from labctl.agent.failures import BadLayer
from labctl.agent.hardlinks import Merged, complete
from labctl.agent.layers import unpack
from tests.agent.test_layers import archive, entry

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
DIR, LINK, SYM = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE


def build(folder, *layers):
    """Unpacks the layers, lowest first, completes the last; the folders of the whole image."""
    folders = []
    for number, entries in enumerate(layers):
        folders.append(str(folder / f"layer{number}"))
        os.mkdir(folders[-1], 0o755)
        links = unpack(archive(*entries), folders[-1]).links
    made = folder / "completion"
    made.mkdir()
    complete(folders, links, str(made))
    return [*folders, str(made)]


def shown(folders, script):
    """What a shell in an overlay of these folders says."""
    mount = f"mount -t overlay overlay -o lowerdir={':'.join(reversed(folders))} /mnt && cd /mnt && {script}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


BASE = [
    entry("usr/", DIR, mode=0o711, uid=5, mtime=1000),
    entry("usr/bin/", DIR, mtime=1000),
    entry("usr/bin/perl", data=b"perl", mode=0o4755, uid=3, mtime=2000),
    entry("usr/lib/", DIR),
    entry("lib", SYM, linkname="usr/lib"),
    entry("usr/lib/so", data=b"so"),
]


def test_both_names_are_one_file_as_it_was_below(tmp_path):
    folders = build(tmp_path, BASE, [BASE[0], BASE[1], entry("usr/bin/perl5", LINK, linkname="usr/bin/perl")])
    said = shown(
        folders, "stat -c '%i %a %u %Y' usr/bin/perl usr/bin/perl5; stat -c '%a %u %Y' usr usr/bin; ls usr/bin usr; cat usr/bin/perl5"
    )
    one, other = said[:4], said[4:8]
    assert one == other and one[1:] == ["4755", "3", "2000"]
    assert said[8:] == ["711", "5", "1000", "755", "0", "1000", "usr:", "bin", "lib", "usr/bin:", "perl", "perl5", "perl"]


def test_links_that_follow_each_other_and_symlinks_of_lower_layers(tmp_path):
    links = [
        entry("lib2", SYM, linkname="/lib"),
        entry("b", LINK, linkname="lib2/so"),
        entry("c", LINK, linkname="b"),
        entry("d", LINK, linkname="lib"),
    ]
    folders = build(tmp_path, BASE, links)
    said = shown(folders, "stat -c %i b c usr/lib/so lib/so; readlink d; cat c")
    assert len(set(said[:4])) == 1 and said[4:] == ["usr/lib", "so"]


def test_a_file_that_the_layer_itself_removes_stays_removed(tmp_path):
    folders = build(tmp_path, BASE, [entry("usr/bin/.wh.perl"), entry("usr/bin/perl5", LINK, linkname="usr/bin/perl")])
    assert shown(folders, "ls usr/bin; cat usr/bin/perl5") == ["perl5", "perl"]


def test_a_name_that_is_made_anew_later_is_no_link_any_more(tmp_path):
    folders = build(tmp_path, BASE, [entry("f", LINK, linkname="usr/bin/perl"), entry("f", data=b"mine")])
    assert shown(folders, "cat f") == ["mine"]


def test_what_a_layer_in_between_removed_or_hid_is_not_there(tmp_path):
    hides = [entry("usr/bin/.wh.perl"), entry("usr/lib/", DIR), entry("usr/lib/.wh..wh..opq")]
    for number, linked in enumerate(("usr/bin/perl", "usr/lib/so", "no/such", "usr", "usr/bin/perl/x")):
        with pytest.raises(BadLayer, match=f"l links to {linked}"):
            (tmp_path / str(number)).mkdir()
            build(tmp_path / str(number), BASE, hides, [entry("l", LINK, linkname=linked)])


@pytest.mark.parametrize("lead", ["/etc", "../../../../etc", "/proc/self/root/etc", "up/../../etc"])
def test_nothing_of_the_machine_is_copied_into_an_image(tmp_path, lead):
    lower = [entry("evil", SYM, linkname=lead), entry("up", SYM, linkname="..")]
    with pytest.raises(BadLayer):
        build(tmp_path, lower, [entry("l", LINK, linkname="evil/passwd")])
    own = [*lower, entry("etc/passwd", data=b"image's"), entry("proc/self/root", SYM, linkname="/")]
    (tmp_path / "own").mkdir()
    assert shown(build(tmp_path / "own", own, [entry("l", LINK, linkname="evil/passwd")]), "cat l") == ["image's"]


def test_symlinks_in_a_circle_end(tmp_path):
    with pytest.raises(BadLayer, match="circles"):
        build(tmp_path, [entry("a", SYM, linkname="b"), entry("b", SYM, linkname="a")], [entry("l", LINK, linkname="a/x")])


def test_devices_and_pipes_are_copied_as_such(tmp_path):
    folders = build(
        tmp_path,
        [entry("p", tarfile.FIFOTYPE), entry("d", tarfile.CHRTYPE, devmajor=1, devminor=3)],
        [entry("p2", LINK, linkname="p"), entry("d2", LINK, linkname="d")],
    )
    made = Path(folders[-1])
    assert stat.S_ISFIFO(os.lstat(made / "p2").st_mode) and os.lstat(made / "d2").st_rdev == os.makedev(1, 3)


def test_the_view_is_the_kernels(tmp_path):
    over = [entry("usr/bin/.wh.perl"), entry("usr/bin/sh", data=b""), entry("new/", DIR), entry(".wh.lib")]
    folders = build(tmp_path, BASE, over)
    view = Merged(folders)
    names = shown(folders, "find . -mindepth 1 | sed 's,^\\./,,' | sort")
    assert all(view.find(name) for name in names) and names
    assert [name for name in ("usr/bin/perl", "lib", "x", "usr/bin/sh/x") if view.find(name)] == []
