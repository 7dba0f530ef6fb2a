"""Numbers that a user may write into a workload: none of them makes a plan long, large, or a traceback."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from labctl.clock import rfc3339
from labctl.controllers.deployment.sizing import fenceposts
from labctl.controllers.job import indexes, policies
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.statefulset.statefulsets import StatefulSets
from labctl.reconcile.plan import Create
from labctl.resources import shares
from labctl.resources.kinds.core_v1.pod import grace_s
from labctl.sim.objects import stateful_set
from labctl.sim.picture import Picture

MOST = 2**31 - 1


def test_indexes_are_not_expanded_to_be_counted() -> None:
    rule = SimpleNamespace(succeeded_indexes=f"0-{MOST - 1}", succeeded_count=None)
    job: Any = SimpleNamespace(spec=SimpleNamespace(completions=MOST, success_policy=SimpleNamespace(rules=[rule])))
    assert policies.success(job, {0, 1, 2}) is None
    rule.succeeded_count = 2
    assert policies.success(job, {0, 1}) == "Matched rules at index 0"
    rule.succeeded_indexes = "1-3,2-5,9,x,-1,7-6," + "9" * 5000
    assert policies.success(job, {0, 6, 9}) is None
    assert policies.success(job, {0, 5, 9}) == "Matched rules at index 0"


def test_indexes_of_a_status_are_bounded() -> None:
    assert indexes.parse("1,3-5,4-7,9-8", 7) == {1, 3, 4, 5, 6}
    assert len(indexes.parse(f"0-{MOST}," * 1000, MOST)) == indexes.MOST_EXPANDED


@pytest.mark.parametrize("text", ["\u0661%", "9" * 100_000 + "%", "%", "-5%", "1e3%", "5%\n"])
def test_what_is_no_percentage_is_refused_and_counts_as_nothing(text: str) -> None:
    assert not shares.is_percent(text)
    assert fenceposts(text, 1, 3) == (0, 1)


def test_a_set_of_two_billion_pods_is_made_in_portions() -> None:
    made = Picture([StatefulSets(ControllerSettings())])
    made.put(stateful_set("db", MOST, podManagementPolicy="Parallel"))
    plan = made.plan("default/db")
    assert sum(isinstance(action, Create) and action.kind == "pods" for action in plan.actions) == ControllerSettings().burst


def test_a_grace_period_of_a_billion_years_can_be_written_as_a_time() -> None:
    pod = {"spec": {"nodeName": "minion-1", "terminationGracePeriodSeconds": 2**62}}
    assert rfc3339(grace_s(pod, None)) == "2038-01-19T03:14:07Z"
    assert rfc3339(2.0**62) == "9999-12-31T23:59:59Z"
