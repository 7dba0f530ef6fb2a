"""Programs at the kernel's security hooks: when they may be counted on. What they do is tried on a machine, tests/providers/test_namespace.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.errors import ProviderError
from labctl.providers.namespace import bpf, btf, hooks


class _Anything(dict[str, int]):
    def __missing__(self, key: str) -> int:
        return 0


class _AnyFields(dict[str, _Anything]):
    def __missing__(self, key: str) -> _Anything:
        return _Anything()


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A kernel that takes each program; the functions before which they were attached."""
    functions = {f"bpf_lsm_{name}": number for number, name in enumerate(hooks.HOOKS, 1)}
    layout = btf.Layout(functions, dict.fromkeys(functions, _Anything()), _AnyFields())
    taken: list[int] = []
    monkeypatch.setattr(btf, "layout", lambda *_: layout)
    monkeypatch.setattr(bpf, "attach", lambda _cgroup, question, _code: taken.append(question.function))
    return taken


@pytest.mark.parametrize(
    ("modules", "kept"),
    [("lockdown,capability,landlock,bpf\n", True), ("lockdown,capability,apparmor", False), ("bpfish", False), (None, False)],
)
def test_programs_count_only_where_the_kernel_asks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attached: list[int], modules: str | None, kept: bool
) -> None:
    """A kernel takes them, too, when `bpf` is not among its security modules, and then never calls them."""
    monkeypatch.setattr(hooks, "MODULES", tmp_path / "lsm")
    if modules is not None:
        (tmp_path / "lsm").write_text(modules)
    assert hooks.protect(tmp_path) is kept
    assert attached == [*range(1, len(hooks.HOOKS) + 1)]


def test_a_kernel_that_takes_none_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attached: list[int]) -> None:
    def refuses(*_: object) -> None:
        raise ProviderError("bpf: Operation not permitted")

    monkeypatch.setattr(hooks, "MODULES", tmp_path / "lsm")
    (tmp_path / "lsm").write_text("bpf")
    monkeypatch.setattr(bpf, "attach", refuses)
    assert not hooks.protect(tmp_path)
