from hypothesis import given
from hypothesis import strategies as st

from labctl.reconcile.queue import KeyedQueue


def queue() -> KeyedQueue[str]:
    return KeyedQueue(backoff_min_s=1, backoff_max_s=8)


def test_a_key_is_in_it_once():
    q = queue()
    q.add("a")
    q.add("b")
    q.add("a")
    assert [q.pop(0), q.pop(0), q.pop(0)] == ["a", "b", None]


def test_a_key_under_way_is_handed_out_again_only_when_done():
    q = queue()
    q.add("a")
    assert q.pop(0) == "a"
    q.add("a")
    assert q.pop(0) is None
    q.done("a")
    assert q.pop(0) == "a"


def test_the_earliest_later_look_holds():
    q = queue()
    q.add_later("a", 5)
    q.add_later("a", 3)
    q.add_later("a", 9)
    assert q.pop(2.9) is None
    assert q.next_due() == 3
    assert q.pop(3) == "a"
    q.done("a")
    assert q.pop(100) is None


def test_a_look_now_replaces_the_later_one():
    q = queue()
    q.add_later("a", 5)
    q.add("a")
    assert q.pop(0) == "a"
    q.done("a")
    assert q.next_due() is None


def test_back_off_doubles_per_key_up_to_a_bound_and_ends_with_success():
    q = queue()
    delays = []
    now = 0.0
    for _ in range(5):
        q.add("a")
        now += 100
        assert q.pop(now) == "a"
        delays.append(q.fail("a", now))
    assert delays == [1, 2, 4, 8, 8]
    q.add("a")
    q.pop(now + 100)
    q.done("a")
    q.add("a")
    q.pop(now + 200)
    assert q.fail("a", now + 200) == 1


def test_a_lost_race_is_tried_again_at_once_but_not_for_ever():
    q = queue()
    q.add("a")
    q.pop(0)
    assert q.fail("a", 0, raced=True) == 0
    assert q.pop(0) == "a"
    assert q.fail("a", 0, raced=True) == 2


def test_wake_is_told_of_every_new_wish():
    woken = []
    q: KeyedQueue[str] = KeyedQueue(1, 8, lambda: woken.append(1))
    q.add("a")
    q.add("a")
    q.add_later("b", 3)
    assert len(woken) == 2


@given(st.lists(st.tuples(st.sampled_from(["add", "later", "pop", "done", "fail"]), st.sampled_from("abc"), st.integers(0, 5))))
def test_no_key_is_lost_or_under_way_twice(steps):
    q = queue()
    wanted: set[str] = set()  # added and not popped since
    busy: set[str] = set()
    now = 0.0
    for step, key, dt in steps:
        now += dt
        if step == "add":
            q.add(key)
            wanted.add(key)
        elif step == "later":
            q.add_later(key, now + dt)
            wanted.add(key)
        elif step == "pop" and (got := q.pop(now)) is not None:
            assert got not in busy
            busy.add(got)
            wanted.discard(got)
        elif step == "done" and key in busy:
            q.done(key)
            busy.discard(key)
        elif step == "fail" and key in busy:
            q.fail(key, now)
            busy.discard(key)
            wanted.add(key)
    for key in tuple(busy):
        q.done(key)
    rest = set()
    while (got := q.pop(now + 1e9)) is not None:
        rest.add(got)
        q.done(got)
    assert rest == wanted


def test_ranked_keys_change_places_only_among_themselves():
    """A group's places in the queue stay where they are; its highest rank comes first, and of one rank the first that was added."""
    queue = KeyedQueue(1, 8, place=lambda key: ("pods", int(key[1:])) if key[0] == "p" else None)
    for key in ("a", "p1", "b", "p9", "p1", "c"):
        queue.add(key)
    queue.add("p5")
    assert [queue.pop(0) for _ in range(6)] == ["a", "p9", "b", "p5", "c", "p1"]
    queue.add("p9")  # under way: it comes again when it is done
    assert queue.pop(0) is None
    queue.done("p9")
    assert queue.pop(0) == "p9"
