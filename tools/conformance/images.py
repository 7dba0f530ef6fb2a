"""The images that the tests name, from Debian's packages and the programs of Kubernetes' sources, as one archive for `labctl image load`."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.images.build.layer import Layer
from tools.conformance.source import Source, run

_PACKAGES = (
    "bash bind9-dnsutils busybox-static ca-certificates conntrack curl etcd-server iperf iproute2 iptables iputils-ping net-tools netcat-openbsd perl-base procps"
    " redis-server util-linux wget"
)
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REGISTRIES = {  # the tests' own word for a registry -> where its images lie here; no host has these names, so nothing is ever fetched
    "promoterE2eRegistry": "new.e2e.invalid",
    "e2eRegistry": "old.e2e.invalid",
    "dockerLibraryRegistry": "library.e2e.invalid",
    "gcRegistry": "root.e2e.invalid",
    "buildImageRegistry": "build.e2e.invalid",
}
_NEW, _OLD, _HUB, _ROOT, _BUILD = REGISTRIES.values()
_SERVES = {"Cmd": ["busybox", "httpd", "-f", "-p", "80", "-h", "/usr/local/apache2/htdocs"]}
# An earlier version of this program found its address itself, and its pod does not say it.
_BREAKS = {"Entrypoint": ["sh", "-c", "POD_IP=$(hostname -i) exec /regression"]}
_AGNHOST = {"Entrypoint": ["/agnhost"], "Cmd": ["test-webserver"]}
# name -> (layers, what the image runs). The tests know web servers by their names and files only.
IMAGES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    f"{_NEW}/agnhost:2.21": (("debian", "agnhost"), {"Entrypoint": ["/agnhost"], "Cmd": ["pause"]}),
    f"{_BUILD}/debian-iptables:buster-v1.3.0": (("debian",), {"Cmd": ["bash"]}),
    f"{_HUB}/busybox:1.29": (("busybox",), {"Cmd": ["sh"]}),
    f"{_HUB}/httpd:2.4.38-alpine": (("debian", "pages"), _SERVES),
    f"{_HUB}/httpd:2.4.39-alpine": (("debian", "pages"), {**_SERVES, "Labels": {"release": "2"}}),
    f"{_HUB}/nginx:1.14-alpine": (("debian", "pages"), _SERVES),
    f"{_HUB}/nginx:1.15-alpine": (("debian", "pages"), {**_SERVES, "Labels": {"release": "2"}}),
    f"{_HUB}/perl:5.26": (("debian",), {"Cmd": ["perl"]}),
    f"{_HUB}/redis:5.0.5-alpine": (("debian",), {"Cmd": ["redis-server"]}),
    f"{_OLD}/ipc-utils:1.0": (("debian",), {"Cmd": ["bash"]}),
    f"{_OLD}/jessie-dnsutils:1.0": (("debian",), {"Cmd": ["bash"]}),
    f"{_OLD}/kitten:1.0": (("debian", "agnhost", "kitten"), _AGNHOST),
    f"{_OLD}/nautilus:1.0": (("debian", "agnhost", "nautilus"), _AGNHOST),
    f"{_OLD}/nonewprivs:1.0": (("busybox", "nnp"), {"Cmd": ["nnp"]}),
    f"{_OLD}/nonroot:1.0": (("busybox",), {"User": "1234", "Cmd": ["sh"]}),
    f"{_OLD}/regression-issue-74839-amd64:1.0": (("debian", "regression"), _BREAKS),
    f"{_OLD}/resource-consumer:1.5": (("debian", "consumer"), {"Entrypoint": ["/consumer"]}),
    f"{_OLD}/sample-apiserver:1.17": (("debian", "sample"), {"Entrypoint": ["/kube-sample-apiserver"]}),
    f"{_ROOT}/etcd:3.4.13-0": (("debian", "etcd"), {"Cmd": ["etcd"]}),
    f"{_ROOT}/pause:3.2": (("agnhost",), {"Entrypoint": ["/agnhost", "pause"]}),
}


def archive(source: Source) -> Path:
    """Make the archive, unless it is there, in the form of `docker save`."""
    made = source.folder / "images.tar"
    if made.exists():
        return made
    layers = source.folder / "layers"
    layers.mkdir(exist_ok=True)
    run(["mmdebstrap", "--quiet", "--variant=apt", f"--include={_PACKAGES.replace(' ', ',')}", "bookworm", str(layers / "debian.tar")])
    for name, layer in _layers(source, layers).items():
        with open(layers / f"{name}.tar", "wb") as out:
            layer.write(out)
    unfinished = made.with_suffix(".new")
    with tarfile.open(unfinished, "w") as out:
        _write(out, layers)
    unfinished.rename(made)
    return made


def _layers(source: Source, scratch: Path) -> Mapping[str, Layer]:
    made = {
        name: Layer() for name in ("agnhost", "busybox", "pages", "kitten", "nautilus", "consumer", "sample", "etcd", "nnp", "regression")
    }
    images = source.tree / "test/images"
    for name in ("localhost.crt", "localhost.key"):
        made["agnhost"].file(name, images / "agnhost/porter" / name)
    made["agnhost"].file("agnhost", source.bin / "agnhost")
    made["agnhost"].link("agnhost-2", "agnhost")
    made["agnhost"].directory("uploads")
    for name in ("kitten", "nautilus"):
        for page in sorted((images / name / "html").iterdir()):
            made[name].file(page.name, page)
    made["consumer"].file("consumer", source.bin / "consumer")
    made["consumer"].file("consume-cpu/consume-cpu", source.bin / "consume-cpu")
    made["sample"].file("kube-sample-apiserver", source.bin / "kube-sample-apiserver")
    made["nnp"].file("usr/local/bin/nnp", source.bin / "nnp", 0o4755)
    made["regression"].file("regression", source.bin / "regression")
    made["etcd"].link("usr/local/bin/etcd", "/usr/bin/etcd")
    made["pages"].text("usr/local/apache2/htdocs/index.html", "<html><body><h1>It works!</h1></body></html>\n")
    _fill_busybox(made["busybox"], scratch)
    return made


def _fill_busybox(layer: Layer, scratch: Path) -> None:
    """One static program under all its names, as the image of that name has them."""
    program = scratch / "busybox"
    with tarfile.open(scratch / "debian.tar") as root:
        (found,) = [each for each in root.getnames() if each.endswith("bin/busybox")]
        content = root.extractfile(found)
        assert content is not None
        program.write_bytes(content.read())
    program.chmod(0o755)
    layer.file("bin/busybox", program)
    for name in subprocess.run([str(program), "--list"], check=True, capture_output=True, text=True).stdout.split():
        if name != "busybox":
            layer.link(f"bin/{name}", "busybox")
    layer.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
    layer.text("etc/group", "root:x:0:\nnogroup:x:65534:\n")
    layer.directory("tmp", 0o1777)


def _write(out: tarfile.TarFile, layers: Path) -> None:
    digests = {each.stem: _digest(each) for each in layers.glob("*.tar")}
    for name, digest in digests.items():
        out.add(layers / f"{name}.tar", f"{digest}/layer.tar")
    manifest: list[dict[str, Any]] = []
    for name, (parts, settings) in IMAGES.items():
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [_PATH], **settings},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digests[part]}" for part in parts]},
        }
        content = json.dumps(config).encode()
        path = f"{hashlib.sha256(content).hexdigest()}.json"
        if path not in {each["Config"] for each in manifest}:
            _add(out, path, content)
        manifest.append({"Config": path, "RepoTags": [name], "Layers": [f"{digests[part]}/layer.tar" for part in parts]})
    _add(out, "manifest.json", json.dumps(manifest).encode())


def _add(out: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    out.addfile(entry, io.BytesIO(content))


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
