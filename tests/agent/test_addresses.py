import pytest

from labctl.agent.addresses import NoAddress, Range, next_address


def test_round_robin_never_the_lowest_free():
    assert next_address("10.246.1.0/24", "", ()) == "10.246.1.2"
    assert next_address("10.246.1.0/24", "10.246.1.2", ()) == "10.246.1.3"
    assert next_address("10.246.1.0/24", "10.246.1.2", {"10.246.1.3"}) == "10.246.1.4"


def test_after_the_last_comes_the_first_free():
    assert next_address("10.246.1.0/24", "10.246.1.254", {"10.246.1.2"}) == "10.246.1.3"


def test_an_address_of_another_range_is_forgotten():
    assert next_address("10.246.2.0/24", "10.246.1.77", ()) == "10.246.2.2"


def test_a_full_range_says_so():
    with pytest.raises(NoAddress, match="every address of 10.246.1.0/29 is taken"):
        next_address("10.246.1.0/29", "", {f"10.246.1.{n}" for n in range(8)})


def test_a_new_agent_goes_on_where_the_old_one_stopped(tmp_path):
    first = Range(str(tmp_path))
    with pytest.raises(NoAddress, match="no podCIDR"):
        first.give(())
    first.set("10.246.1.0/24")
    assert first.give(()) == "10.246.1.2"
    assert Range(str(tmp_path)).give(()) == "10.246.1.3"
