"""The admission steps of every lab, in the order in which they are asked."""

from __future__ import annotations

from labctl.admission.eventratelimit import EventRateLimit
from labctl.admission.limitranger import LimitDefaults, LimitRanger
from labctl.admission.noderestriction import NodeRestriction
from labctl.admission.resourcequota import ResourceQuota
from labctl.admission.storage import DefaultStorageClass, PersistentVolumeClaimResize
from labctl.clock import Clock
from labctl.resources.admission import Admission
from labctl.resources.client import Client


def builtin_admission(client: Client, clock: Clock) -> Admission:
    """ResourceQuota comes last: what it takes is taken for writes that nothing else refuses."""
    return Admission(
        mutating=(LimitDefaults(client), DefaultStorageClass(client)),
        validating=(
            NodeRestriction(client),
            EventRateLimit(clock),
            LimitRanger(client),
            PersistentVolumeClaimResize(client),
            ResourceQuota(client),
        ),
    )
