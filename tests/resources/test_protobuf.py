"""What kubectl sends as Protocol Buffers is the object it would send as JSON. The bytes here are kubectl 1.37.1's own."""

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import ApiError
from labctl.resources.schema.protobuf import decode

CONFIG_MAP = bytes.fromhex("6b3873000a0f0a0276311209436f6e6669674d6170121b0a110a016112001a0022002a0032003800420012060a01781201791a002200")


def test_kubectls_own_config_map():
    assert decode(CONFIG_MAP) == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}}


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def sent(api_version, kind, raw):
    return b"k8s\0" + field(1, field(1, api_version) + field(2, kind)) + field(2, raw)


def test_a_pod_with_what_json_writes_otherwise():
    quantity = field(1, "cpu") + field(2, field(1, "100m"))
    probe = field(1, field(2, field(1, "/healthz") + field(2, field(1, 1) + field(2, 0) + field(3, "http")))) + field(4, 5)
    container = field(1, "c") + field(2, "nginx") + field(8, field(2, quantity)) + field(10, probe)
    volume = field(1, "scratch") + field(2, field(2, b""))
    spec = field(1, volume) + field(2, container) + field(4, 0) + field(8, "")
    meta = field(1, "p") + field(8, b"") + field(11, field(1, "app") + field(2, "web"))
    assert decode(sent("v1", "Pod", field(1, meta) + field(2, spec) + field(3, b""))) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app": "web"}},
        "spec": {
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "containers": [
                {
                    "name": "c",
                    "image": "nginx",
                    "resources": {"requests": {"cpu": "100m"}},
                    "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5},
                }
            ],
            "terminationGracePeriodSeconds": 0,
        },
    }


def test_an_eviction_keeps_a_grace_period_of_zero():
    body = sent("policy/v1", "Eviction", field(1, field(1, "p") + field(3, "default")) + field(2, field(1, 0)))
    assert decode(body)["deleteOptions"] == {"gracePeriodSeconds": 0}


def test_secrets_stay_base64_and_times_are_rfc3339():
    secret = decode(sent("v1", "Secret", field(2, field(1, "k") + field(2, b"\x00\xff"))))
    assert base64.b64decode(secret["data"]["k"]) == b"\x00\xff"
    lease = decode(sent("coordination.k8s.io/v1", "Lease", field(2, field(4, field(1, 1_700_000_000) + field(2, 5_000_000)))))
    assert lease["spec"]["renewTime"] == "2023-11-14T22:13:20.005000Z"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"k8s\0\xff", sent("v1", "Nothing", b""), sent("v1", "Pod", b"\x0a\x05a"), sent("v1", "Pod", b"\x0f")]
)
def test_what_is_no_object_is_a_bad_request(body):
    with pytest.raises(ApiError) as error:
        decode(body)
    assert (error.value.code, error.value.reason) == (400, "BadRequest")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_bad_request(raw):
    try:
        assert decode(sent("v1", "Pod", raw))["kind"] == "Pod"
    except ApiError as error:
        assert error.code == 400


def test_the_table_is_what_the_installed_kubectl_says():
    tool = Path(__file__).parents[2] / "tools" / "derive_protobuf.py"
    assert subprocess.run([sys.executable, tool, "--check"]).returncode == 0
