"""Images on the machine: fetched by digest, verified, shared, kept, and collected. Unpacking is test_layers'."""

import asyncio
import hashlib
import io
import json
import os
import tarfile
import time

import pytest

from labctl.agent import images as images_module
from labctl.agent.client import Refused
from labctl.agent.durable import DurableBlobs
from labctl.agent.http import Unreachable
from labctl.agent.images import ImageFailure, Images, default_policy, repository

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="layers keep their owners")]


class Store:
    """The API's image store: blobs by digest, one manifest by name."""

    def __init__(self):
        self.blobs, self.names, self.asked, self.away = {}, {}, [], False

    def add(self, name, content=b"x", **config):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as tar:
            info = tarfile.TarInfo("file")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        config_blob, layer = self.blob(json.dumps({"config": config}).encode()), self.blob(raw.getvalue())
        full = f"docker.io/library/{name}"
        self.names[name] = {"name": full, "digest": config_blob["digest"], "config": config_blob, "layers": [layer]}
        return layer["digest"]

    def blob(self, data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"digest": digest, "size": len(data)}

    async def get(self, path, timeout_s=0, **query):
        self.asked.append(path)
        await asyncio.sleep(0)
        if self.away:
            raise Unreachable("no route to host")
        name = path.partition("name=")[2].partition("&")[0].replace("%3A", ":")
        if name not in self.names:
            raise Refused(404, "ErrImageNeverPull" if "pull=Never" in path else "ErrImagePull", f"{name}: not here")
        return self.names[name]

    async def stream(self, path):
        self.asked.append(path)
        data = self.blobs[path.rpartition("/")[2]]

        class Body:
            async def pieces(self):
                for at in range(0, len(data), 100):
                    yield data[at : at + 100]

            def close(self):
                pass

        return Body()


def read(folder, name):
    with open(os.path.join(folder, name), "rb") as file:
        return file.read()


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def images(tmp_path, store):
    return Images(str(tmp_path), store, "linux/amd64")


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("host:5000/a", "Always"),
        ("a@sha256:1", "IfNotPresent"),
    ],
)
def test_the_default_policy_is_kubernetes(image, policy):
    assert default_policy(image) == policy


@pytest.mark.parametrize(
    ("name", "plain"),
    [("docker.io/library/nginx:1", "docker.io/library/nginx"), ("h:5000/a@sha256:1", "h:5000/a"), ("h:5000/a", "h:5000/a")],
)
def test_a_repository_is_a_name_without_tag_and_digest(name, plain):
    assert repository(name) == plain


async def test_an_image_is_fetched_once_and_then_here(images, store):
    store.add("tiny:1", b"hello", Cmd=["sh"])
    first = await images.ensure("tiny:1", "IfNotPresent")
    assert first.pulled and first.config == {"Cmd": ["sh"]} and first.id.startswith("docker.io/library/tiny@sha256:")
    assert read(first.layers[0], "file") == b"hello"
    asked = len(store.asked)
    again = await images.ensure("tiny:1", "IfNotPresent")
    assert (again.pulled, again.layers, len(store.asked)) == (False, first.layers, asked)
    assert not (await images.ensure("tiny:1", "Always")).pulled
    assert len(store.asked) == asked + 1


async def test_many_requests_are_one_pull(images, store):
    store.add("tiny:1")
    await asyncio.gather(*(images.ensure("tiny:1", "Always") for _ in range(5)))
    assert len(store.asked) == 3  # the name, its configuration, its layer


async def test_a_blob_that_is_not_what_was_promised_is_refused_and_leaves_nothing(images, store, tmp_path):
    digest = store.add("tiny:1")
    store.blobs[digest] = store.blobs[digest][:-1] + b"!"
    with pytest.raises(ImageFailure, match="not what its digest says") as failure:
        await images.ensure("tiny:1", "Always")
    assert failure.value.reason == "ErrImagePull"
    assert os.listdir(tmp_path / "layers") == [] and images.local("tiny:1") is None


async def test_a_pull_that_fails_has_ended_with_all_that_it_fetches(images, store, tmp_path):
    """Its layer is bad; its configuration still comes then."""
    digest = store.add("tiny:1")
    store.blobs[digest] = store.blobs[digest][:-1] + b"!"
    stream, come = store.stream, asyncio.Event()

    async def late(path):
        if not path.endswith(digest):
            asyncio.get_running_loop().call_later(0.1, come.set)
            await come.wait()
        return await stream(path)

    store.stream = late
    with pytest.raises(ImageFailure, match="not what its digest says"):
        await images.ensure("tiny:1", "Always")
    assert come.is_set() and os.listdir(tmp_path / "layers") == []


async def test_more_bytes_than_promised_are_not_taken(images, store):
    digest = store.add("tiny:1")
    store.blobs[digest] += b"more" * 1000
    with pytest.raises(ImageFailure, match="not what its digest says"):
        await images.ensure("tiny:1", "Always")


async def test_what_the_store_lacks_is_said_in_its_words(images):
    with pytest.raises(ImageFailure, match="gone: not here") as failure:
        await images.ensure("gone", "Never")
    assert failure.value.reason == "ErrImageNeverPull"


async def test_while_the_store_is_away_what_is_here_will_do(images, store):
    store.add("tiny")
    await images.ensure("tiny", "Always")
    store.away = True
    assert (await images.ensure("tiny", "Always")).layers
    with pytest.raises(ImageFailure, match="does not answer"):
        await images.ensure("other", "Always")


async def test_a_pull_that_was_cut_short_is_cleared_by_the_next_agent(images, store, tmp_path):
    (tmp_path / "layers" / "tmpabc").mkdir()
    Images(str(tmp_path), store, "linux/amd64")
    assert os.listdir(tmp_path / "layers") == []


async def test_the_oldest_unused_go_first_when_it_is_too_much(images, store, monkeypatch, tmp_path):
    for number in range(3):
        store.add(f"i:{number}", bytes([number]) * 1000)
        await images.ensure(f"i:{number}", "Always")
    used = images.local("i:0").layers
    assert images.collect(used, 0) == 0, "just wanted"
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert images.collect(used, 1 << 30) == 0, "it all fits"
    assert images.collect(used, 0) == 2
    assert images.local("i:0") and images.local("i:1") is None
    assert len(os.listdir(tmp_path / "layers")) == 1


async def test_a_layer_that_images_share_counts_until_the_last_of_them_goes(images, store, monkeypatch):
    """Forgetting one image frees only what is its own, so that another must go too."""
    store.add("base", b"shared" * 5_000)
    [shared] = store.names.pop("base")["layers"]
    for number in range(3):
        store.add(f"i:{number}", bytes([number]) * 1000)
        store.names[f"i:{number}"]["layers"].insert(0, shared)
        await images.ensure(f"i:{number}", "Always")
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    own = store.names["i:0"]["layers"][1]["size"]
    assert images.collect((), shared["size"] + 2 * own - 1) == 2
    assert images.local("i:2")


class Disk:
    """What was marked when it was told to write all; a broken one fails."""

    def __init__(self):
        self.marks, self.broken = [], False

    def __call__(self, folder):
        self.marks.append(os.listdir(folder))
        if self.broken:
            raise OSError(5, "Input/output error")


def another_boot(tmp_path, store):
    images = Images(str(tmp_path), store, "linux/amd64")
    return images, images.forget_unflushed()


async def test_what_a_power_cut_may_have_hollowed_is_fetched_again(images, store, tmp_path):
    """Before it was on the disk, names may stand for empty files: nobody can tell, so it counts as not here."""
    store.add("tiny:1", b"hello")
    layer = (await images.ensure("tiny:1", "IfNotPresent")).layers[0]
    os.truncate(os.path.join(layer, "file"), 0)  # as the kernel leaves it
    images, forgotten = another_boot(tmp_path, store)
    assert forgotten == 2 and images.local("tiny:1") is None
    assert read((await images.ensure("tiny:1", "IfNotPresent")).layers[0], "file") == b"hello"


async def test_what_is_on_the_disk_is_not_fetched_again(store, tmp_path, monkeypatch):
    monkeypatch.setattr(images_module, "FLUSH_AFTER_S", 0.0)
    disk = Disk()
    durable = DurableBlobs(str(tmp_path), disk)
    images = Images(str(tmp_path), store, "linux/amd64", durable)
    store.add("tiny:1", b"hello")
    await images.ensure("tiny:1", "IfNotPresent")
    flushing = asyncio.ensure_future(images.flush_fetched())
    async with asyncio.timeout(10):
        while durable.unmarked(images._blobs()):
            await asyncio.sleep(0.001)
    flushing.cancel()
    assert disk.marks == [[]], "marked only after it was written, and written once"
    images, forgotten = another_boot(tmp_path, store)
    assert forgotten == 0 and images.local("tiny:1")


async def test_a_disk_that_fails_marks_nothing(images, store, tmp_path):
    store.add("tiny:1")
    await images.ensure("tiny:1", "IfNotPresent")
    disk = Disk()
    disk.broken = True
    with pytest.raises(OSError, match="Input/output"):
        DurableBlobs(str(tmp_path), disk).flush(images._blobs())
    assert another_boot(tmp_path, store)[1] == 2


async def test_a_mark_does_not_outlive_its_layer(images, store, tmp_path, monkeypatch):
    """Else a layer that is fetched once more would count as durable from the start."""
    store.add("tiny:1")
    await images.ensure("tiny:1", "IfNotPresent")
    DurableBlobs(str(tmp_path)).flush(images._blobs())
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert images.collect((), 0) == 1
    await images.ensure("tiny:1", "IfNotPresent")
    assert another_boot(tmp_path, store)[1] == 1, "the layer; its configuration was here all along"


async def test_a_layer_that_was_half_removed_is_not_here(images, store, tmp_path, monkeypatch):
    store.add("tiny:1")
    await images.ensure("tiny:1", "IfNotPresent")
    monkeypatch.setattr(images_module.shutil, "rmtree", lambda *_, **__: None)  # the agent dies here
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    images.collect((), 0)
    monkeypatch.undo()
    images, _ = another_boot(tmp_path, store)
    assert images.local("tiny:1") is None and os.listdir(tmp_path / "layers") == []


def tarred(*entries):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, link, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = (tarfile.LNKTYPE, link, 0) if link else (tarfile.REGTYPE, "", len(content))
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


async def test_a_layer_that_links_to_lower_files_is_completed_for_each_row_of_layers(images, store, tmp_path):
    linking = store.blob(tarred(("link", "file", b"")))
    for name, content in (("one:1", b"one"), ("two:1", b"two")):
        base, config = store.blob(tarred(("file", "", content))), store.blob(json.dumps({"config": {}}).encode())
        store.names[name] = {"name": name, "digest": config["digest"], "config": config, "layers": [base, linking]}
        found = await images.ensure(name, "Always")
        assert len(found.layers) == 3 and found.layers == images.local(name).layers
        assert read(found.layers[2], "link") == read(found.layers[2], "file") == content
    assert images.collect((), 0) == 0, "wanted just now"
    os.rename(found.layers[2], tmp_path / "gone")
    assert images.local("two:1") is None
    assert (await images.ensure("two:1", "IfNotPresent")).layers == found.layers
    assert read(found.layers[2], "link") == b"two"


async def test_a_link_to_nothing_is_said_and_nothing_is_kept(images, store):
    config, layer = store.blob(b"{}"), store.blob(tarred(("link", "no/such", b"")))
    store.names["bad:1"] = {"name": "bad:1", "digest": config["digest"], "config": config, "layers": [layer]}
    with pytest.raises(ImageFailure, match="link links to no/such: no layer has such a file"):
        await images.ensure("bad:1", "Always")
    assert images.local("bad:1") is None
