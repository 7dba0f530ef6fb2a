"""How resources ask somebody else's server: the seam between conversion and admission on one side, and HTTP on the other.

The room `admission` has the real one (caller.py); without one, a kind that needs it says so.
"""

from __future__ import annotations

from typing import Any, Protocol

from labctl.errors import LabctlError
from labctl.resources.kind import Object


class WebhookFailed(LabctlError):
    """It could not be asked, or its answer is none. The text is what Kubernetes' message says after `failed to call webhook: `."""


class Webhooks(Protocol):
    async def call(self, config: Object, timeout_s: float, review: Any) -> Object:
        """Sends a review to the server of a `clientConfig`; answers what it said. Raises WebhookFailed."""


class NoWebhooks:
    """Where nothing can be called."""

    async def call(self, config: Object, timeout_s: float, review: Any) -> Object:
        raise WebhookFailed("no webhook can be called from here")
