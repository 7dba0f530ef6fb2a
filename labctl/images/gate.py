"""Lets image pulls fail on purpose. The routes that serve images ask the gate; faults shut and open it."""

from __future__ import annotations

from labctl.errors import ApiError

NODE_USER = "system:node:"


class PullGate:
    """Open for everybody, but for the machines that a fault names."""

    def __init__(self) -> None:
        self._shut: dict[str, str] = {}  # fault -> machine; an empty name is every machine

    def shut(self, fault: str, machine: str) -> None:
        self._shut[fault] = machine

    def open(self, fault: str) -> None:
        self._shut.pop(fault, None)

    def check(self, user: str, what: str) -> None:
        """Raises ApiError 503 if the user is a machine that must not have images now. People are not hit."""
        if not self._shut or not user.startswith(NODE_USER):
            return
        machine = user.removeprefix(NODE_USER)
        for fault, shut in self._shut.items():
            if shut in ("", machine):
                raise ApiError(503, "ErrImagePull", f"Failed to pull {what}: the registry does not answer (fault {fault})")
