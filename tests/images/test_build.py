"""Images from Debian's packages. What needs apt is marked slow; the rest is made of files by hand."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from labctl.errors import LabctlError, UsageError
from labctl.images.build import closure, recipe
from labctl.images.build.layer import Layer
from labctl.images.images import Images
from labctl.images.settings import ImageSettings
from labctl.paths import Paths

needs_apt = pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt")


def filled(source: Path, order: int) -> bytes:
    layer = Layer()
    steps = [
        lambda: layer.file("/usr/bin/tool", source),
        lambda: layer.text("/etc/conf", "x = 1\n"),
        lambda: layer.link("/bin/sh", "busybox"),
        lambda: layer.directory("/tmp", 0o1777),
    ]
    for step in steps[order:] + steps[:order]:
        step()
    out = io.BytesIO()
    layer.write(out)
    return out.getvalue()


def test_a_layers_bytes_follow_from_its_contents_alone(tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_text("#!/bin/sh\n")
    source.chmod(0o755)
    first = filled(source, 0)
    source.touch()
    assert filled(source, 2) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        assert archive.getnames() == ["bin", "bin/sh", "etc", "etc/conf", "tmp", "usr", "usr/bin", "usr/bin/tool"]
        assert {entry.mtime for entry in archive} == {0}
        assert (archive.getmember("usr/bin/tool").mode, archive.getmember("tmp").mode) == (0o755, 0o1777)


def test_every_recipe_reads_and_builds_on_one_that_is_there() -> None:
    assert {"nginx", "busybox", "serve-hostname"} <= set(recipe.names())
    for name in recipe.names():
        what = recipe.read(name)
        assert what.config["Cmd"]
        assert not what.base or what.base in recipe.names()


def test_a_name_without_a_recipe_is_told_those_there_are() -> None:
    with pytest.raises(UsageError, match="no recipe for mine; there are .*nginx"):
        recipe.read("mine")


def test_a_library_that_no_package_has_is_named(tmp_path: Path) -> None:
    """The root has this machine's loader and a program, but not that program's libraries."""
    for path in ("/lib64", "/bin"):
        (tmp_path / path.lstrip("/")).mkdir()
    loader = next(Path("/lib64").glob("ld-linux-*"), None)
    if not loader:
        pytest.skip("this machine keeps its loader elsewhere")
    shutil.copy(loader, tmp_path / "lib64")
    shutil.copy("/bin/sh", tmp_path / "bin/sh")
    with pytest.raises(LabctlError, match=r"/bin/sh needs .*libc\.so\.6.*none of the recipe's packages"):
        closure.libraries(tmp_path, ["/bin/sh"])


@pytest.fixture(scope="module")
def apt_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@needs_apt
@pytest.mark.slow
async def test_building_again_gives_the_same_digest(apt_cache: Path, tmp_path: Path) -> None:
    first = await Images(Paths(tmp_path, tmp_path, apt_cache)).build("busybox")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "apt").symlink_to(apt_cache / "apt")
    second = await Images(Paths(tmp_path, tmp_path, elsewhere), ImageSettings(apt_fresh_s=1e9)).build("busybox:latest")
    assert (second.digest, second.layers) == (first.digest, first.layers)


@needs_apt
@pytest.mark.slow
async def test_nginx_is_whole_and_serve_hostname_adds_one_layer(apt_cache: Path, tmp_path: Path) -> None:
    images = Images(Paths(tmp_path, tmp_path, apt_cache))
    said: list[str] = []
    nginx = await images.build("nginx", said.append)
    assert "writing the layer of nginx" in said
    config = json.loads(images.blob(nginx.config.digest).read_bytes())
    assert config["config"]["Cmd"] == ["nginx", "-g", "daemon off;"]
    assert config["config"]["ExposedPorts"] == {"80/tcp": {}}
    assert config["rootfs"]["diff_ids"] == [layer.digest for layer in nginx.layers]
    with tarfile.open(images.blob(nginx.layers[0].digest)) as archive:
        names = set(archive.getnames())
        assert archive.getmember("var/log/nginx/access.log").linkname == "/dev/stdout"
    assert {"usr/sbin/nginx", "usr/share/nginx/html/index.html", "etc/nginx/conf.d/default.conf", "bin/sh"} <= names
    assert any("libc.so.6" in name for name in names)
    assert nginx.size < 16 << 20
    hostname = await images.build("serve-hostname")
    assert hostname.layers[:-1] == nginx.layers
    assert [image.name.split("/")[-1] for image in images.list()][-2:] == ["nginx:latest", "serve-hostname:latest"]
