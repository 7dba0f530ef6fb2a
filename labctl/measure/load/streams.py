"""Standard input by lines, and standard output without waiting."""

from __future__ import annotations

import os
import sys

READ_BYTES = 1 << 16
OUTPUT_MAX_BYTES = 16 << 20


class Input:
    """Standard input, by lines."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.rest = b""

    def line(self):
        """Waits for a line. When the input ends, the program ends."""
        while b"\n" not in self.rest:
            self.more()
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()

    def more(self):
        data = os.read(self.descriptor, READ_BYTES)
        if not data:
            os._exit(0)
        self.rest += data

    def lines(self):
        """Returns the whole lines that are there already."""
        *lines, self.rest = self.rest.split(b"\n")
        return [line.decode() for line in lines]


class Output:
    """Standard output. It never blocks: what is not taken yet is kept, up to a bound."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.lines = []
        self.left = b""
        os.set_blocking(descriptor, False)

    def flush(self):
        self.left += "".join(self.lines).encode()
        self.lines = []
        try:
            while self.left:
                self.left = self.left[os.write(self.descriptor, self.left) :]
        except BlockingIOError:
            if len(self.left) > OUTPUT_MAX_BYTES:
                sys.exit("nobody took the results")

    def close(self):
        os.set_blocking(self.descriptor, True)
        self.flush()
