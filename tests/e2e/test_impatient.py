"""The impatient person: commands in any order, cut short by signals. After each, `labctl status` says what is so; at the end `up` and `destroy` do their work.

LABCTL_SEED=7 plays another row, LABCTL_IMPATIENT_S=1800 a longer one, as docs/testing.md says.
"""

from __future__ import annotations

import os
import random
import time
import uuid

import pytest

from tests.e2e.cluster import condition, wait
from tests.e2e.impatient import Person, turns

SEED = int(os.environ.get("LABCTL_SEED", "1"))
LONG_S = float(os.environ.get("LABCTL_IMPATIENT_S", "0"))
TURNS = 10

pytestmark = [
    pytest.mark.skipif(os.environ.get("LABCTL_TEST_PROVIDER", "namespace") != "namespace", reason="looks at control groups"),
    pytest.mark.timeout(400 + 2 * LONG_S),
]


def test_whatever_is_cut_short_status_is_true_and_up_and_destroy_do_their_work(new_cluster, images):
    lab = new_cluster("impatient")
    person, snapshot = Person(lab), f"impatient-{uuid.uuid4().hex[:8]}"
    begun, played = time.monotonic(), []
    try:
        for number, turn in enumerate(turns(random.Random(SEED), snapshot)):
            if time.monotonic() - begun > LONG_S if LONG_S else number == TURNS:
                break
            played.append(f"{number}: {turn}")
            played.append(f"   {person.play(turn)}")
            played.append(f"   {person.check_status()}")
            if LONG_S:
                print(*played[-3:], sep="\n", flush=True)
        lab.labctl("up", "--minions", "3")
        wait(lambda: [condition(node, "Ready") for node in lab.items("nodes")] == ["True"] * 3, "all three nodes are Ready")
        lab.labctl("destroy", "--yes")
        wait(lambda: not person.left(), f"nothing is left: {person.left()}")
    except AssertionError as error:
        raise AssertionError("\n".join([f"seed {SEED}", *played[-12:], str(error)])) from error
    finally:
        lab.labctl("snapshot", "delete", snapshot, check=False)
