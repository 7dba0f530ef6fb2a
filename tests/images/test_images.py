from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import ApiError, UsageError
from labctl.images import layout
from labctl.images.blobs import BlobStore
from labctl.images.images import Images
from labctl.images.index import Image


@pytest.fixture
async def images(make_images: Callable[..., Images], make_image: Callable[..., Image], tmp_path: Path) -> Images:
    """A store that holds `nginx`, loaded from an archive."""
    store = BlobStore(tmp_path / "made")
    layout.write([make_image(store, "docker.io/library/nginx:latest")], store, tmp_path / "nginx.tar")
    made = make_images()
    await made.load(tmp_path / "nginx.tar")
    return made


@pytest.mark.parametrize("name", ["nginx", "nginx:latest", "docker.io/library/nginx", "index.docker.io/nginx"])
@pytest.mark.parametrize("pull", ["IfNotPresent", "Always", "Never"])
async def test_a_held_name_satisfies_every_policy_by_any_spelling(images: Images, name: str, pull: str) -> None:
    answer = await images.resolve(name, "linux/amd64", pull)
    assert answer["name"] == "docker.io/library/nginx:latest"
    assert answer["platform"] == "linux/amd64"
    assert set(answer) == {"name", "digest", "platform", "config", "layers"}
    assert set(answer["config"]) == {"digest", "size", "mediaType"}
    for part in (answer["config"], *answer["layers"]):
        assert images.blob(part["digest"]).stat().st_size == part["size"]


async def test_a_held_image_is_found_by_digest(images: Images) -> None:
    digest = (await images.resolve("nginx", "linux/amd64"))["digest"]
    assert (await images.resolve(f"nginx@{digest}", "linux/amd64", "Never"))["digest"] == digest
    with pytest.raises(ApiError, match="not present"):
        await images.resolve(f"other@{digest}", "linux/amd64", "Never")


async def test_a_platform_that_is_lacking_is_told_with_those_there_are(images: Images) -> None:
    with pytest.raises(ApiError) as raised:
        await images.resolve("nginx", "linux/arm64")
    assert raised.value.reason == "ErrImagePull"
    assert raised.value.message == 'Failed to pull image "nginx": no image for platform linux/arm64; it has: linux/amd64'


async def test_never_pulls_nothing(images: Images) -> None:
    with pytest.raises(ApiError) as raised:
        await images.resolve("other", "linux/amd64", "Never")
    assert (raised.value.code, raised.value.reason) == (404, "ErrImageNeverPull")
    assert raised.value.message == 'Container image "other" is not present with pull policy of Never'


@pytest.mark.parametrize(("digest", "code"), [("sha256:" + "0" * 64, 404), ("sha256:../../x", 400)])
async def test_a_blob_that_is_not_there_is_an_answer(images: Images, digest: str, code: int) -> None:
    with pytest.raises(ApiError) as raised:
        images.blob(digest)
    assert raised.value.code == code


async def test_an_image_whose_blob_was_lost_counts_as_not_held(images: Images) -> None:
    layer = (await images.resolve("nginx", "linux/amd64"))["layers"][0]["digest"]
    images.blob(layer).unlink()
    with pytest.raises(ApiError, match="not present"):
        await images.resolve("nginx", "linux/amd64", "Never")


async def test_save_and_load_keep_the_digest(images: Images, make_images: Callable[..., Images], tmp_path: Path) -> None:
    before = (await images.resolve("nginx", "linux/amd64"))["digest"]
    await images.save(["nginx"], tmp_path / "saved.tar")
    await images.remove("nginx")
    (loaded,) = await images.load(tmp_path / "saved.tar")
    assert (loaded.digest, loaded.origin) == (before, "loaded from saved.tar")
    with pytest.raises(UsageError, match="there is no image other"):
        await images.save(["other"], tmp_path / "other.tar")


async def test_remove_frees_only_what_nobody_else_uses(images: Images, make_image: Callable[..., Image], tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "made2")
    layout.write([make_image(store, "docker.io/library/copy:latest")], store, tmp_path / "copy.tar")
    await images.load(tmp_path / "copy.tar")
    assert await images.remove("copy") == 0
    layer = (await images.resolve("nginx", "linux/amd64"))["layers"][0]["digest"]
    assert await images.remove("nginx") > 0
    with pytest.raises(ApiError):
        images.blob(layer)
    with pytest.raises(UsageError, match="there is no image nginx"):
        await images.remove("nginx")
    assert list(images.list()) == []


async def test_a_pull_is_shared_and_survives_one_who_stops_waiting(images: Images, make_image: Callable[..., Image], paths, blobs) -> None:  # noqa: ANN001
    started, finish = asyncio.Event(), asyncio.Event()
    pulls = []

    class Slow:
        async def pull(self, asked: str, name: object, platform: str, store: BlobStore) -> Image:
            pulls.append(asked)
            started.set()
            await finish.wait()
            return make_image(store, str(name), "slow")

    images._puller = Slow()  # type: ignore[assignment]
    first = asyncio.create_task(images.resolve("slow", "linux/amd64"))
    second = asyncio.create_task(images.resolve("docker.io/library/slow:latest", "linux/amd64"))
    await started.wait()
    first.cancel()
    finish.set()
    assert (await second)["name"] == "docker.io/library/slow:latest"
    assert pulls == ["slow"]
    assert (await images.resolve("slow", "linux/amd64", "Never"))["digest"]
