"""Whether anybody still reads what a command prints. A command that has nothing to say would otherwise outlive its client: only writing fails."""

from __future__ import annotations

import select

STDOUT = 1
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


def wait_while_read(seconds: float) -> None:
    """Waits so long. Raises BrokenPipeError as soon as nobody can read standard output any more."""
    poll = select.poll()
    poll.register(STDOUT, 0)  # the end of its reader is told unasked
    if any(events & GONE for _, events in poll.poll(seconds * 1000)):
        raise BrokenPipeError
