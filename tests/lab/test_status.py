"""What `status` says of a master that does not know a route yet."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.lab.status import _tasks


class Lab:
    """A lab whose master answers each request with this, or with this error."""

    def __init__(self, answer: Any) -> None:
        self.api = self
        self._answer = answer

    def get(self, _path: str) -> Any:
        if isinstance(self._answer, ApiError):
            raise self._answer
        return self._answer


def test_a_master_from_before_the_route_has_no_failed_tasks() -> None:
    assert _tasks(Lab(ApiError(404, "NotFound", "the server could not find the requested resource"))) == []  # type: ignore[arg-type]
    assert _tasks(Lab({"tasks": [{"name": "x"}]})) == [{"name": "x"}]  # type: ignore[arg-type]
    with pytest.raises(ApiError):
        _tasks(Lab(ApiError(403, "Forbidden", "no")))  # type: ignore[arg-type]
