"""One-time tokens and sessions, on a clock that only the test moves."""

from __future__ import annotations

from labctl.dash import sessions
from labctl.dash.sessions import SESSION_S, TOKEN_S, Sessions
from labctl.sim.picture import StillClock


def made() -> tuple[StillClock, Sessions]:
    clock = StillClock()
    return clock, Sessions(clock)


def test_a_token_opens_once() -> None:
    _, some = made()
    token = some.token()
    cookie = some.redeem(token)
    assert some.find(cookie) and not some.redeem(token)


def test_a_token_that_is_too_old_opens_nothing() -> None:
    clock, some = made()
    token = some.token()
    clock.time += TOKEN_S
    assert not some.redeem(token)


def test_what_nobody_gave_out_opens_nothing() -> None:
    _, some = made()
    token = some.token()
    for wrong in ("", "x", token[:-1], token + "x", token.upper(), "\udcff", "x" * 100_000):
        assert not some.redeem(wrong) and some.find(wrong) is None
    assert some.redeem(token), "wrong tries use up no other token"


def test_a_session_ends_with_its_time_or_when_it_is_closed() -> None:
    clock, some = made()
    one, two = some.redeem(some.token()), some.redeem(some.token())
    found = some.find(one)
    assert found and found.guard != one
    some.close(found)
    assert some.find(one) is None and some.find(two)
    clock.time += SESSION_S
    assert some.find(two) is None


def test_tokens_and_sessions_are_bounded_and_the_oldest_gives_way() -> None:
    _, some = made()
    tokens = [some.token() for _ in range(sessions.TOKENS_MAX + 1)]
    assert not some.redeem(tokens[0]) and some.redeem(tokens[1])
    cookies = [some.redeem(some.token()) for _ in range(sessions.SESSIONS_MAX + 1)]
    assert some.find(cookies[0]) is None and all(some.find(cookie) for cookie in cookies[1:])
