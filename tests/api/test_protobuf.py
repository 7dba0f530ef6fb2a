"""Bodies in protobuf: what kubectl really sends, byte for byte, and what is no message at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labctl.api import protobuf
from labctl.errors import ApiError
from tests.inprocess import kubectl_path

NAMESPACE = b'k8s\x00\n\x0f\n\x02v1\x12\tNamespace\x12\x1b\n\x13\n\x03foo\x12\x00\x1a\x00"\x00*\x002\x008\x00B\x00\x12\x00\x1a\x02\n\x00\x1a\x00"\x00'
SERVICE = (
    b'k8s\x00\n\r\n\x02v1\x12\x07Service\x12`\n\x1b\n\x01s\x12\x00\x1a\x00"\x00*\x002\x008\x00B\x00Z\x08\n\x03app\x12\x01s\x12=\n\x18\n\x0580-80'
    b'\x12\x03TCP\x18P"\x06\x08\x00\x10P\x1a\x00(\x00\x12\x08\n\x03app\x12\x01s\x1a\x00"\tClusterIP:\x00B\x00R\x00Z\x00`\x00h\x00\x1a\x02\n\x00\x1a\x00"\x00'
)


def test_a_namespace_as_kubectl_sends_it() -> None:
    assert protobuf.decode(NAMESPACE) == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}}


def test_a_service_as_kubectl_sends_it() -> None:
    assert protobuf.decode(SERVICE) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "labels": {"app": "s"}},
        "spec": {
            "ports": [{"name": "80-80", "protocol": "TCP", "port": 80, "targetPort": 80}],
            "selector": {"app": "s"},
            "type": "ClusterIP",
        },
    }


def body(kind: str, message: bytes, version: str = "v1") -> bytes:
    meta = field(1, version.encode()) + field(2, kind.encode())
    return protobuf.MAGIC + field(1, meta) + field(2, message)


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(number: int) -> bytes:
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def test_embedded_structs_times_quantities_and_bytes() -> None:
    empty_dir = field(2, field(2, field(1, b"Memory")))  # Volume.volumeSource (embedded) .emptyDir .medium
    limits = field(8, field(1, field(1, b"cpu") + field(2, field(1, b"500m"))))  # Container.resources.limits
    probe = field(10, field(1, field(2, field(1, b"/ok") + field(2, field(1, 1) + field(3, b"http")))))  # livenessProbe.handler.httpGet
    spec = field(1, field(1, b"data") + empty_dir) + field(2, field(1, b"c") + limits + probe) + field(4, -5)
    meta = field(1, b"p") + field(8, field(1, 1_700_000_000))
    pod = protobuf.decode(body("Pod", field(1, meta) + field(2, spec)))
    assert pod["metadata"] == {"name": "p", "creationTimestamp": "2023-11-14T22:13:20Z"}
    assert pod["spec"]["volumes"] == [{"name": "data", "emptyDir": {"medium": "Memory"}}]
    (container,) = pod["spec"]["containers"]
    assert container["resources"] == {"limits": {"cpu": "500m"}}
    assert container["livenessProbe"]["httpGet"] == {"path": "/ok", "port": "http"}
    assert pod["spec"]["terminationGracePeriodSeconds"] == -5
    secret = protobuf.decode(body("Secret", field(2, field(1, b"k") + field(2, b"\x00\xff"))))
    assert secret["data"] == {"k": "AP8="}


def test_delete_options_of_any_group() -> None:
    assert protobuf.decode(body("DeleteOptions", field(1, 0), "policy/v1"))["gracePeriodSeconds"] == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        NAMESPACE[:-3],
        protobuf.MAGIC + b"\xff" * 12,
        body("Namespace", b"\x0a\xff\xff\xff\xff\x0f"),
        body("Wombat", b""),
        body("Pod", b"\x0f"),
    ],
)
def test_what_is_no_message_is_a_bad_request(raw: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        protobuf.decode(raw)
    assert caught.value.code == 400


@pytest.mark.skipif(sys.platform != "linux", reason="the tool reads ELF")
def test_the_table_is_the_one_in_kubectl() -> None:
    tool = Path(__file__).parents[2] / "tools" / "derive_protobuf.py"
    subprocess.run([sys.executable, tool, "--check", "--kubectl", kubectl_path()], check=True)
