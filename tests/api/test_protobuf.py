"""Bodies in protobuf: what kubectl really sends, byte for byte, and what is no message at all."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.api import protobuf
from labctl.errors import ApiError
from tests.inprocess import kubectl_path

EPOCH = datetime(1970, 1, 1)
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


def test_an_eviction_of_the_first_version_is_read_as_in_json() -> None:
    """Go clients before `policy/v1` evict so; a real server still takes that version of the body."""
    sent = body("Eviction", field(1, field(1, b"web") + field(3, b"default")) + field(2, field(1, 0)), "policy/v1beta1")
    found = protobuf.decode(sent)
    assert (found["apiVersion"], found["metadata"]["name"]) == ("policy/v1beta1", "web")
    assert found["deleteOptions"]["gracePeriodSeconds"] == 0


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


def times(seconds: int, nanos: int = 0) -> dict[str, str]:
    """A Lease's two kinds of time, both at that moment."""
    moment = field(1, seconds) + field(2, nanos)
    lease = protobuf.decode(body("Lease", field(1, field(8, moment)) + field(2, field(4, moment)), "coordination.k8s.io/v1"))
    return {**lease.get("metadata", {}), **lease.get("spec", {})}


def test_times_are_exact_and_gos_zero_time_is_none() -> None:
    assert times(-62135596800) == {}, "the year 1 is what Go calls no time"
    assert times(-62135596799) == {"creationTimestamp": "0001-01-01T00:00:01Z", "renewTime": "0001-01-01T00:00:01.000000Z"}
    assert times(1_700_000_000, 123_457_000)["renewTime"] == "2023-11-14T22:13:20.123457Z"
    for never in (1 << 60, -(1 << 60), 253402300800):
        with pytest.raises(ApiError) as refused:
            times(never)
        assert refused.value.code == 400


SCALARS: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "string": (st.text(max_size=8), str.encode),
    "int": (st.integers(-(2**63), 2**63 - 1), lambda value: value),
    "bool": (st.booleans(), int),
    "bytes": (st.binary(max_size=8).map(lambda raw: base64.b64encode(raw).decode()), base64.b64decode),
    "time": (
        st.integers(-62135596799, 253402300799).map(lambda s: f"{(EPOCH + timedelta(seconds=s)).isoformat()}Z"),
        lambda text: seconds(text),
    ),
    "microtime": (
        st.integers(-62135596799 * 10**6, 253402300799 * 10**6).map(
            lambda us: f"{(EPOCH + timedelta(microseconds=us)).isoformat(timespec='microseconds')}Z"
        ),
        lambda text: seconds(text),
    ),
    "quantity": (st.sampled_from(["1", "100m", "1Gi"]), lambda text: field(1, text.encode())),
    "int-or-string": (
        st.integers(-(2**31), 2**31 - 1) | st.text(max_size=8),
        lambda value: field(1, 1) + field(3, value.encode()) if isinstance(value, str) else field(1, 0) + field(2, value),
    ),
    "[]string": (st.lists(st.text(max_size=4)), lambda texts: b"".join(field(1, text.encode()) for text in texts)),
    "raw": (st.just({"f:a": {}}), lambda value: field(1, json.dumps(value).encode())),
}


def seconds(text: str) -> bytes:
    since = datetime.fromisoformat(text.removesuffix("Z")) - EPOCH
    whole, rest = divmod(since, timedelta(seconds=1))
    return field(1, whole) + field(2, rest // timedelta(microseconds=1) * 1000)


def objects(name: str, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of a message, as JSON has them. An embedded struct's fields are the outer one's: they are left to the tests above."""
    rows = [row for row in protobuf._table()[1][name].values() if row.name and (depth or row.type in SCALARS)]
    if not rows:
        return st.just({})
    some = st.lists(st.sampled_from(rows), max_size=4, unique=True)
    return some.flatmap(lambda chosen: st.fixed_dictionaries({row.name: values(row, depth) for row in chosen}))


def values(row: protobuf.Field, depth: int) -> st.SearchStrategy[Any]:
    one = SCALARS[row.type][0] if row.type in SCALARS else objects(row.type, depth - 1)
    if row.many == "[]":
        return st.lists(one, min_size=1, max_size=3)
    if row.many == "{}":
        return st.dictionaries(st.text(max_size=4), one, min_size=1, max_size=3)
    return one.filter(bool) if row.omit and row.type in SCALARS else one


def encoded(name: str, obj: dict[str, Any]) -> bytes:
    """As a Go client writes it."""
    numbers = {row.name: (number, row) for number, row in protobuf._table()[1][name].items()}
    out = b""
    for key, value in obj.items():
        number, row = numbers[key]
        each = value if row.many == "[]" else value.items() if row.many == "{}" else [value]
        for item in each:
            if row.many == "{}":
                out += field(number, field(1, item[0].encode()) + field(2, one_encoded(row, item[1])))
            else:
                out += field(number, one_encoded(row, item))
    return out


def one_encoded(row: protobuf.Field, value: Any) -> bytes | int:
    encode = SCALARS[row.type][1] if row.type in SCALARS else lambda obj: encoded(row.type, obj)
    return encode(value)  # type: ignore[no-any-return]


def without_empty(name: str, obj: dict[str, Any]) -> dict[str, Any]:
    """Without structs that are as good as none."""
    rows = {row.name: row for row in protobuf._table()[1][name].values() if row.name}
    kept = {}
    for key, value in obj.items():
        row = rows[key]
        if row.type not in SCALARS:
            if row.many == "[]":
                value = [without_empty(row.type, item) for item in value]
            elif row.many == "{}":
                value = {of: without_empty(row.type, item) for of, item in value.items()}
            else:
                value = without_empty(row.type, value)
        if value or not row.omit:
            kept[key] = value
    return kept


@pytest.mark.parametrize("root", sorted(protobuf._table()[0]))
@settings(max_examples=25)
@given(data=st.data())
def test_every_kind_comes_back_as_it_was_sent(root: str, data: st.DataObject) -> None:
    version, _, kind = root.rpartition("/")
    name = protobuf._table()[0][root]
    obj = data.draw(objects(name, 4))
    read = protobuf.decode(body(kind, encoded(name, obj), version))
    assert read == {"apiVersion": version, "kind": kind, **without_empty(name, obj)}


@pytest.mark.skipif(sys.platform != "linux", reason="the tool reads ELF")
def test_the_table_is_the_one_in_kubectl() -> None:
    tool = Path(__file__).parents[2] / "tools" / "derive_protobuf.py"
    subprocess.run([sys.executable, tool, "--check", "--kubectl", kubectl_path()], check=True)
