"""The tool that measures links: what goes wrong with measuring is never told as a loss. Everything runs on this host's loopback."""

import pytest

from tests.e2e.links import Links

HERE = "127.0.0.1"


class OnLoopback(Links):
    """Each machine is this host; `before` holds what a shell does before a machine's program starts."""

    def __init__(self, **before: str) -> None:
        self._before, self._port = before, 24_000

    def inside(self, minion: str, *argv: str) -> list[str]:
        return ["sh", "-c", f'{self._before.get(minion, "")}\nexec "$@"', "sh", *argv]


def test_a_sender_that_starts_late_is_no_loss():
    assert OnLoopback(sender="sleep 0.6").arrived("sender", "receiver", HERE, 200, quiet_s=0.2) == (200, 200)


def test_what_is_not_sent_to_the_receiver_is_lost():
    assert OnLoopback(sender='set -- "$1" "$2" "$3" "$4" 9 "$6"').arrived("sender", "receiver", HERE, 50, quiet_s=0.2) == (0, 0)


def test_a_sender_that_can_not_send_is_said():
    with pytest.raises(AssertionError, match="sender could not send"):
        OnLoopback().arrived("sender", "receiver", "no address", 10, quiet_s=0.2)


def test_a_program_that_does_not_run_is_no_unreachable_machine():
    with pytest.raises(AssertionError, match="broken could not try"):
        OnLoopback(broken="exit 3").reaches("broken", HERE, 1)
    assert not OnLoopback().reaches("sender", HERE, 1)
