"""Signals by all the names that people and the API have for them."""

from __future__ import annotations

import signal

import pytest

from labctl.agent.signals import number_of


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGQUIT", signal.SIGQUIT),
        ("quit", signal.SIGQUIT),
        ("3", signal.SIGQUIT),
        ("SIGRTMIN+15", signal.SIGRTMIN + 15),
        ("SIGRTMAX-14", signal.SIGRTMAX - 14),
        ("SIGRTMAX", signal.SIGRTMAX),
    ],
)
def test_each_name_is_one_signal(name: str, number: int) -> None:
    assert number_of(name) == number
