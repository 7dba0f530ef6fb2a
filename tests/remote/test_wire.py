"""Messages survive the socket pair however it cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import CommandFailed, Deadline, HostKeyMismatch, RemoteError, Unreachable
from labctl.remote import wire
from labctl.remote.interface import Target, Terminal
from labctl.remote.settings import RemoteSettings

TARGET = Target("minion-1", "10.245.1.11", 22, "root", "/key", "ssh-ed25519 AAAA", "boot")
FROM_MASTER = [
    wire.Configure(RemoteSettings()),
    wire.Connect(1, TARGET),
    wire.Run(2, "minion-1", ("echo", ""), b"\0\xff", 1.5),
    wire.Call(3, "minion-1", b'"m"', b"{}", 1.0),
    wire.Open(4, "minion-1", ("sh",), Terminal()),
    wire.Open(5, "minion-1", ("sh",), None),
    wire.Input(4, b"x" * 70_000),
    wire.EndInput(4),
    wire.Credit(4, 10),
]


def test_a_command_that_failed_is_told_in_one_line() -> None:
    """`labctl up` printed twenty lines of a script before it said why that failed."""
    said = CommandFailed("minion-1", ["/bin/sh", "-c", "# a script\nexit 1\n", "look"], 1, "one\ntwo\n").message
    assert said == "minion-1: /bin/sh -c ... look exited 1: one two"


@given(st.lists(st.sampled_from(FROM_MASTER), max_size=20), st.lists(st.integers(1, 200_000), max_size=30))
def test_messages_come_out_as_they_went_in(messages: list[wire.Message], cuts: list[int]) -> None:
    data = b"".join(map(wire.frame, messages))
    frames = wire.Frames(wire.FromMaster)
    out = []
    for size in cuts:
        out += list(frames.feed(data[:size]))
        data = data[size:]
    assert out + list(frames.feed(data)) == messages


@pytest.mark.parametrize("error", [Unreachable("a"), HostKeyMismatch("b"), Deadline("c"), wire.HelperRefused("d"), RemoteError("e")])
def test_errors_cross_as_what_they_are(error: RemoteError) -> None:
    again = wire.to_error(wire.failure(1, error))
    assert type(again) is type(error)
    assert again.message == error.message
