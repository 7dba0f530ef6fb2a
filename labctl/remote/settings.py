"""How long SSH may take and how much may be on its way."""

from __future__ import annotations

import msgspec


class RemoteSettings(msgspec.Struct, frozen=True):
    connect_deadline_s: float = 5.0  # TCP, key exchange and login together
    greeting_most_s: float = 40.0  # an sshd that did not answer in time is given twice as long by the next attempt, up to this
    retry_first_s: float = 0.1  # a lost connection is tried again after this long,
    retry_max_s: float = 5.0  # then after twice as long, up to this
    dead_after_s: float = 10.0  # the kernel gives a connection up when the other end acknowledges nothing for so long
    stream_channels: int = 8  # on one connection (sshd's MaxSessions is 10)
    streams_most: int = 256  # to one machine
    stream_idle_s: float = 30.0  # an unused stream connection is kept this long
    stream_window_bytes: int = 256 << 10  # on its way to a reader, or to a machine, per stream
    answer_max_bytes: int = 64 << 20  # what a `run` may print; more belongs into a stream
    calls_most: int = 64  # waiting per machine; the next caller waits for a place
    reverse_from: int = 0  # this port of every machine's loopback leads, through its control connection,
    reverse_to: int = 0  # to this one of ours; 0: machines reach us by themselves
    open_deadline_s: float = 15.0  # a stream: its connection if there is no room on another, and its command's start
    helper_starts_most: int = 10  # a machine's helper is started at most so often,
    helper_starts_s: float = 10.0  # within so long
    helper: tuple[str, ...] = ("/usr/bin/python3", "/opt/labctl/agent", "helper")
