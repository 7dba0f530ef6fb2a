from labctl.agent.backoff import Backoff, should_restart

BACKOFF = Backoff(first_s=10, most_s=300, reset_s=600)


def test_the_first_restart_is_at_once_then_10s_doubling_to_5_minutes():
    waits, kept = [], 0.0
    for attempt in range(9):
        kept = BACKOFF.after(attempt, kept, ran_s=1)
        waits.append(kept)
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_ten_good_minutes_start_anew():
    assert BACKOFF.after(attempt=7, kept_s=300, ran_s=601) == 0
    assert BACKOFF.after(attempt=8, kept_s=0, ran_s=1) == 10


def test_policies():
    ends = {(policy, code): should_restart(policy, code) for policy in ("Always", "OnFailure", "Never") for code in (0, 1)}
    assert [key for key, restarted in ends.items() if restarted] == [("Always", 0), ("Always", 1), ("OnFailure", 1)]
