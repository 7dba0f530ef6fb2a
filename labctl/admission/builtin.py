"""The admission steps of every lab, in the order in which they are asked."""

from __future__ import annotations

from labctl.admission.noderestriction import NodeRestriction
from labctl.resources.admission import Admission
from labctl.resources.client import Client


def builtin_admission(client: Client) -> Admission:
    return Admission(validating=(NodeRestriction(client),))
