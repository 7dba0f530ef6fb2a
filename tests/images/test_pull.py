"""Pulls through skopeo from Debian's docker-registry on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from labctl.errors import ApiError
from labctl.images import layout
from labctl.images.blobs import BlobStore
from labctl.images.images import Images
from labctl.images.index import Image

pytestmark = pytest.mark.skipif(
    not (shutil.which("skopeo") and shutil.which("docker-registry")), reason="needs Debian's skopeo and docker-registry"
)

_CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of an empty registry."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config.yml").write_text(_CONFIG.format(folder=folder / "data", port=port))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(folder / "config.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "docker-registry does not answer"
                time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def push(registry: str, make_image: Callable[..., Image], tmp_path: Path) -> Callable[..., str]:
    """Put a small image into the registry under a path; its layer's digest."""

    def put(path: str, text: str, architecture: str = "amd64", *options: str) -> str:
        store = BlobStore(tmp_path / "pushed")
        image = make_image(store, f"{registry}/{path}", text, architecture)
        archive = tmp_path / "push.tar"
        layout.write([image], store, archive)
        target = f"docker://{registry}/{path}"
        subprocess.run(
            ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", *options, f"oci-archive:{archive}", target],
            check=True,
        )
        return image.config.digest

    return put


async def test_a_name_that_is_not_held_is_pulled_and_then_held(
    registry: str, push: Callable[..., str], make_images: Callable[..., Images]
) -> None:
    config = push("team/tool:v1", "one")
    images = make_images()
    answer = await images.resolve(f"{registry}/team/tool:v1", "linux/amd64")
    assert answer["config"]["digest"] == config
    for part in (answer["config"], *answer["layers"]):
        assert images.blob(part["digest"]).stat().st_size == part["size"]
    assert await images.resolve(f"{registry}/team/tool:v1", "linux/amd64", "Never") == answer
    assert images.list()[0].origin == f"pulled from {registry}/team/tool:v1"


async def test_layers_compressed_with_zstd_are_kept_as_agents_can_read_them(
    registry: str, push: Callable[..., str], make_images: Callable[..., Images]
) -> None:
    push("team/small:v1", "zstd", "amd64", "--dest-compress-format", "zstd")
    inspect = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry}/team/small:v1"]
    said = await asyncio.to_thread(subprocess.run, inspect, check=True, capture_output=True)
    manifest = json.loads(said.stdout)
    assert manifest["layers"][0]["mediaType"].endswith("+zstd"), "what is pulled is compressed so"
    images = make_images()
    answer = await images.resolve(f"{registry}/team/small:v1", "linux/amd64")
    [layer] = answer["layers"]
    assert images.blob(layer["digest"]).read_bytes()[:2] == b"\x1f\x8b"
    assert hashlib.sha256(images.blob(layer["digest"]).read_bytes()).hexdigest() == layer["digest"].removeprefix("sha256:")


async def test_a_mirror_stands_for_a_registry(registry: str, push: Callable[..., str], make_images: Callable[..., Images]) -> None:
    config = push("library/web:latest", "web")
    answer = await make_images(mirrors={"docker.io": (registry,)}).resolve("web", "linux/amd64")
    assert (answer["name"], answer["config"]["digest"]) == ("docker.io/library/web:latest", config)


async def test_mirrors_are_asked_in_order_and_all_their_answers_are_told(
    registry: str, push: Callable[..., str], make_images: Callable[..., Images]
) -> None:
    config = push("deep/library/second:latest", "second")
    mirrors = {"*": (f"{registry}/none", f"{registry}/deep")}
    assert (await make_images(mirrors=mirrors).resolve("second", "linux/amd64"))["config"]["digest"] == config
    with pytest.raises(ApiError) as raised:
        await make_images(mirrors={"*": (f"{registry}/none",)}).resolve(f"{registry}/none:v9", "linux/amd64")
    assert raised.value.reason == "ErrImagePull"
    assert raised.value.message.startswith(
        f'Failed to pull image "{registry}/none:v9": rpc error: code = NotFound desc = {registry}/none/none:v9: '
    )
    assert f"; {registry}/none:v9: " in raised.value.message


async def test_the_only_platform_a_registry_has_is_told(
    registry: str, push: Callable[..., str], make_images: Callable[..., Images]
) -> None:
    push("arm/only:latest", "arm", "arm64")
    with pytest.raises(ApiError) as raised:
        await make_images().resolve(f"{registry}/arm/only", "linux/amd64")
    assert raised.value.message.endswith("no image for platform linux/amd64; it has: linux/arm64")


async def test_the_platforms_of_a_list_are_told(registry: str, push: Callable[..., str], make_images: Callable[..., Images]) -> None:
    await asyncio.to_thread(_push_list, registry, push, "many", ("arm64", "s390x"))
    images = make_images()
    with pytest.raises(ApiError) as raised:
        await images.resolve(f"{registry}/many", "linux/amd64")
    assert (
        raised.value.message
        == f'Failed to pull image "{registry}/many": no image for platform linux/amd64; it has: linux/arm64, linux/s390x'
    )
    assert (await images.resolve(f"{registry}/many", "linux/arm64"))["platform"] == "linux/arm64"
    assert (await images.resolve(f"{registry}/many", "linux/s390x"))["platform"] == "linux/s390x"


def _push_list(registry: str, push: Callable[..., str], path: str, architectures: tuple[str, ...]) -> None:
    """An index over one image per architecture, under the tag `latest`."""
    manifests = []
    for architecture in architectures:
        push(f"{path}:{architecture}", architecture, architecture)
        inspect = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry}/{path}:{architecture}"]
        raw = subprocess.run(inspect, check=True, capture_output=True).stdout
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        platform = {"os": "linux", "architecture": architecture}
        manifests.append({"mediaType": layout.MANIFEST, "size": len(raw), "digest": digest, "platform": platform})
    body = json.dumps({"schemaVersion": 2, "mediaType": layout.INDEX, "manifests": manifests}).encode()
    url = f"http://{registry}/v2/{path}/manifests/latest"
    put = urllib.request.Request(url, body, {"Content-Type": layout.INDEX}, method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(put).close()


async def test_a_registry_that_is_not_there_is_an_answer(make_images: Callable[..., Images]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(ApiError) as raised:
            await make_images().resolve(f"127.0.0.1:{port}/tool", "linux/amd64")
    assert raised.value.reason == "ErrImagePull"
    assert "connection refused" in raised.value.message


async def test_proxy_variables_reach_skopeo(make_images: Callable[..., Images]) -> None:
    """A proxy that is closed is asked, and says no: the registry itself is never looked for."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        images = make_images(proxy={"HTTPS_PROXY": f"http://127.0.0.1:{port}"})
        with pytest.raises(ApiError, match=f"proxyconnect tcp: dial tcp 127.0.0.1:{port}"):
            await images.resolve("registry.invalid/tool", "linux/amd64")


async def test_a_registry_that_sends_without_end_fills_no_disk(make_images: Callable[..., Images], tmp_path: Path) -> None:
    """A pod's author names the registry, and the master's host writes down what it sends."""
    sent = 0
    digest = "sha256:" + "1" * 64
    part = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": 1 << 50}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 1 << 50}
    manifest = {"schemaVersion": 2, "mediaType": layout.MANIFEST, "config": config, "layers": [part]}

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        if "/manifests/" in request.path:
            return web.Response(body=json.dumps(manifest).encode(), content_type=layout.MANIFEST)
        if "/blobs/" not in request.path:
            return web.Response()
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 20))
            sent += 1 << 20
            await asyncio.sleep(0)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(app) as server:
        images = make_images(pull_bytes_max=64 << 20, pull_deadline_s=60)
        with pytest.raises(ApiError, match="it has more than 67108864 bytes"):
            await images.resolve(f"127.0.0.1:{server.port}/endless:v1", "linux/amd64")
    assert sent >= 64 << 20
    assert not large_files(tmp_path)


def large_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1 << 20]
