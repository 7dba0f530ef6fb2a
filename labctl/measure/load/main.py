"""The program's beginning: settings are read, a pod's network is entered, then the engine runs."""

from __future__ import annotations

import gc
import json
import os
import resource

from .engine import Engine, Settings
from .streams import Input, Output


def main():
    source, output = Input(0), Output(1)
    settings = Settings(json.loads(source.line()))
    settings.in_flight = open_files(settings.in_flight)
    engine = Engine(settings, source, output)
    if settings.namespace:
        try:
            enter(settings.namespace)
        except OSError as error:
            output.lines.append("x the pod's network is not there: %s\n" % error)
            output.close()
            return
    facts = {"time": os.readlink("/proc/self/ns/time"), "pid": os.getpid(), "in_flight": settings.in_flight}
    output.lines.append("h %s\n" % json.dumps(facts))
    output.flush()
    gc.disable()  # nothing here refers to itself for long, and a collection would be a pause
    engine.run()


def enter(path):
    """Moves this process into the network namespace of a pod."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    if libc.setns(descriptor, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(descriptor)


def open_files(wanted):
    """Raises this process's bound on open files as far as it may. Returns how many requests may then be in flight."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 2 * wanted + 64 if hard == resource.RLIM_INFINITY else min(2 * wanted + 64, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(1, min(wanted, (limit - 64) // 2))
