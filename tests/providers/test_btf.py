"""What the kernel tells of its structures is read rightly, kept, and never believed of another kernel."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from labctl.errors import ProviderError
from labctl.providers.namespace import btf, hooks

TEXTS = b"\0".join([b"", b"u64", b"inner", b"a", b"b", b"outer", b"bpf_lsm_x", b"flag", b"other", b""])


def text(name: str) -> int:
    return TEXTS.index(b"\0" + name.encode() + b"\0") + 1


def record(name: str, kind: int, size_or_type: int, *parts: bytes, count: int = 0, bits: bool = False) -> bytes:
    return struct.pack("=III", text(name) if name else 0, kind << 24 | count | bits << 31, size_or_type) + b"".join(parts)


def member(name: str, type_: int, bits: int) -> bytes:
    return struct.pack("=III", text(name) if name else 0, type_, bits)


TYPES = [
    record("u64", 1, 8, struct.pack("=I", 64)),  # 1
    record("", 4, 16, member("a", 1, 0), member("b", 1, 64), count=2),  # 2: a structure without a name
    record("outer", 4, 32, member("flag", 1, 4 << 24 | 0), member("", 2, 64), member("inner", 2, 192), count=3, bits=True),  # 3
    record("", 2, 3),  # 4: a pointer to outer
    record("", 13, 1, struct.pack("=II", 0, 1), struct.pack("=II", 0, 4), count=2),  # 5: (u64, struct outer *)
    record("bpf_lsm_x", 12, 5),  # 6
    record("other", 12, 5),  # 7
]


def table(types: bytes = b"".join(TYPES)) -> bytes:
    return struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(TEXTS)) + types + TEXTS


def test_functions_their_arguments_and_fields_are_found() -> None:
    found = btf.read(table(), ["bpf_lsm_x", "bpf_lsm_unknown"], ["outer", "unknown"])
    assert found.functions == {"bpf_lsm_x": 6}
    assert found.arguments == {"bpf_lsm_x": {"outer": 1}}
    assert found.fields == {"outer": {"flag": 0, "a": 8, "b": 16, "inner": 24}}


def test_the_answer_is_kept_for_this_kernel_and_this_question(tmp_path: Path) -> None:
    source, kept = tmp_path / "vmlinux", tmp_path / "kept.json"
    source.write_bytes(table())
    found = btf.layout(["bpf_lsm_x"], ["outer"], kept, source)
    source.write_bytes(b"damaged")
    assert btf.layout(["bpf_lsm_x"], ["outer"], kept, source) == found
    for change in (
        lambda: kept.write_text(json.dumps({**json.loads(kept.read_text()), "kernel": "another"})),
        lambda: kept.write_text("{"),
    ):
        change()
        with pytest.raises(ProviderError, match="vmlinux can't be read"):
            btf.layout(["bpf_lsm_x"], ["outer"], kept, source)
        source.write_bytes(table())
        assert btf.layout(["bpf_lsm_x"], ["outer"], kept, source) == found
        source.write_bytes(b"damaged")


@pytest.mark.parametrize("damage", [b"", b"\x9f\xeb", table()[:60], b"\0" * 100], ids=("empty", "short", "cut", "zeros"))
def test_a_damaged_table_is_an_error_in_words(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "vmlinux").write_bytes(damage)
    with pytest.raises(ProviderError):
        btf.layout(["bpf_lsm_x"], ["outer"], tmp_path / "kept.json", tmp_path / "vmlinux")


@pytest.mark.skipif(not btf.VMLINUX.exists(), reason="this kernel does not tell")
def test_this_kernel_tells_what_the_hooks_need(tmp_path: Path) -> None:
    found = btf.layout([f"bpf_lsm_{name}" for name in hooks.HOOKS], hooks.STRUCTURES, tmp_path / "kept.json")
    for name, steps in hooks.HOOKS.items():
        function = f"bpf_lsm_{name}"
        if function in found.functions:
            code = hooks.assemble([*steps(found.arguments[function], found.fields)])
            assert len(code) % 8 == 0
            assert code.endswith(struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0))
