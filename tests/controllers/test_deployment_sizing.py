"""How many pods each ReplicaSet of a Deployment gets, as arithmetic: named cases, and what holds whatever the numbers are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.controllers.deployment.sizing import Sized, fenceposts, in_proportion, shrunk, size_of_new


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "expected"),
    [
        ("25%", "25%", 4, (1, 1)),
        ("25%", "25%", 1, (1, 0)),
        ("25%", "25%", 10, (3, 2)),
        (0, 0, 3, (0, 1)),
        ("0%", "10%", 3, (0, 1)),
        (2, 7, 3, (2, 3)),
        (0, "100%", 5, (0, 5)),
        ("25%", "25%", 0, (0, 0)),
    ],
)
def test_percentages_are_rounded_up_for_surge_and_down_for_unavailable(surge, unavailable, replicas, expected):
    assert fenceposts(surge, unavailable, replicas) == expected


def test_the_new_set_grows_into_the_room_there_is():
    assert size_of_new(wanted=10, new=0, total=10, surge=3) == 3
    assert size_of_new(wanted=10, new=3, total=13, surge=3) == 3
    assert size_of_new(wanted=10, new=3, total=11, surge=3) == 5
    assert size_of_new(wanted=10, new=12, total=12, surge=3) == 10
    assert size_of_new(wanted=10, new=0, total=0, surge=None) == 10


def test_old_sets_shrink_by_what_is_not_available_first():
    old = [Sized("a", 8, 5), Sized("b", 4, 4)]
    assert shrunk(old, Sized("new", 0, 0), wanted=10, unavailable=2) == {"a": 4}


def test_old_sets_wait_for_the_new_pods():
    assert shrunk([Sized("a", 10, 10)], Sized("new", 3, 0), wanted=10, unavailable=0) == {}
    assert shrunk([Sized("a", 10, 10)], Sized("new", 3, 2), wanted=10, unavailable=0) == {"a": 8}


@pytest.mark.parametrize(
    ("sets", "wanted", "surge", "expected"),
    [  # Kubernetes' documentation: 15 replicas over 8 + 5 while 10 with a surge of 3 were wanted
        ([Sized("old", 8, 8, 13), Sized("new", 5, 0, 13)], 15, 3, {"old": 11, "new": 7}),
        ([Sized("old", 6, 6, 10), Sized("new", 4, 4, 10)], 5, 0, {"old": 3, "new": 2}),
        ([Sized("old", 5, 5, 10), Sized("new", 5, 5, 10)], 0, 0, {"old": 0, "new": 0}),
        ([Sized("only", 5, 5, 10), Sized("other", 5, 5, 10)], 10, 0, {}),
    ],
)
def test_scaling_while_rolling_is_in_proportion(sets, wanted, surge, expected):
    assert in_proportion(sets, wanted, surge, 0) == expected


sizes = st.integers(0, 60)


@given(st.lists(st.tuples(sizes, sizes), max_size=4), sizes, sizes, sizes, st.integers(0, 15), st.integers(0, 15))
def test_a_rolling_update_never_leaves_its_fence(old, new, new_available, wanted, surge, unavailable):
    """Whatever the sets are: what is asked for is never over the surge nor under the minimum because of a step."""
    surge, unavailable = fenceposts(surge, unavailable, wanted)
    olds = [Sized(f"o{number}", size, min(size, available)) for number, (size, available) in enumerate(old)]
    newest = Sized("new", new, min(new, new_available))
    total = new + sum(each.replicas for each in olds)
    grown = size_of_new(wanted, new, total, surge)
    if grown > new:
        assert total + grown - new <= wanted + surge
    steps = shrunk(olds, newest, wanted, unavailable)
    available = newest.available + sum(each.available for each in olds)
    left = newest.available + sum(min(each.available, steps.get(each.name, each.replicas)) for each in olds)
    assert left >= min(available, wanted - unavailable)
    assert all(0 <= steps[each.name] < each.replicas for each in olds if each.name in steps)


@given(st.lists(st.tuples(st.integers(1, 60), st.none() | st.integers(1, 80)), min_size=1, max_size=4), sizes, st.integers(0, 10))
def test_proportional_scaling_reaches_exactly_what_is_allowed(given_sets, wanted, surge):
    sets = sorted((Sized(f"s{n}", size, 0, before) for n, (size, before) in enumerate(given_sets)), key=lambda each: -each.replicas)
    result = in_proportion(sets, wanted, surge, 0)
    after = [result.get(each.name, each.replicas) for each in sets]
    assert all(size >= 0 for size in after)
    allowed = wanted + surge if wanted else 0
    assert sum(after) == allowed or (sum(after) > allowed and after[0] == 0)
