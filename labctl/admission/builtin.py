"""The admission steps of every lab, in the order in which they are asked."""

from __future__ import annotations

from labctl.admission.eventratelimit import EventRateLimit
from labctl.admission.noderestriction import NodeRestriction
from labctl.clock import Clock
from labctl.resources.admission import Admission
from labctl.resources.client import Client


def builtin_admission(client: Client, clock: Clock) -> Admission:
    return Admission(validating=(NodeRestriction(client), EventRateLimit(clock)))
