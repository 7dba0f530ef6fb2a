"""Which revisions of a template are forgotten."""

from __future__ import annotations

import msgspec
import pytest

from labctl.controllers.shared.revisions import superfluous
from labctl.resources.kinds.apps_v1.controllerrevision import ControllerRevision


def revision(number: int) -> ControllerRevision:
    return msgspec.convert(
        {"metadata": {"name": f"r{number}", "namespace": "default", "uid": f"u{number}"}, "revision": number}, ControllerRevision
    )


@pytest.mark.parametrize(("limit", "forgotten"), [(2, ["r1"]), (0, ["r1", "r2", "r3"]), (3, []), (None, []), (-1, [])])
def test_the_oldest_above_the_limit_and_none_below_zero(limit: int | None, forgotten: list[str]) -> None:
    known = [revision(number) for number in (1, 2, 3, 4)]
    assert [deed.key.rpartition("/")[2] for deed in superfluous(known, {"r4"}, limit)] == forgotten
