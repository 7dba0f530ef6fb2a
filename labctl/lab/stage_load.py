"""The load of an experiment on a real lab: `labctl measure`'s sources, driven through lab/measuring.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.errors import LabctlError

if TYPE_CHECKING:
    from labctl.experiments.stage import LoadRequest, Running
    from labctl.lab.lab import Lab


def begin(lab: Lab, request: LoadRequest) -> Running:
    """Begin to send the requests, and return what ends it."""
    raise LabctlError("this version of labctl can't send requests yet", mend="leave `load` out")
