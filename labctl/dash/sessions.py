"""Who may open the live page: one-time tokens, and the sessions that they are exchanged for.

`labctl dash` asks for a token as the lab's admin, and the browser that opens the address has it exchanged for a session at once: an address that was seen
in a terminal, a history or a log opens nothing a second time. Only digests are kept, so that the master's memory holds nothing that can be used. Everything
ends with the master, is bounded in number and has an end.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict

import msgspec

from labctl.clock import Clock

TOKEN_S = 120.0
SESSION_S = 12 * 3600.0
TOKENS_MAX, SESSIONS_MAX = 16, 32  # the oldest gives way


class Session(msgspec.Struct, frozen=True):
    """An open browser. `guard` goes with each request that changes something: another site can't read it, and a cookie alone is not enough."""

    digest: str
    guard: str
    ends_s: float


class Sessions:
    """The tokens and sessions of one master."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: OrderedDict[str, float] = OrderedDict()  # digest -> when it ends
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def token(self) -> str:
        """Returns a new one-time token, which is good for TOKEN_S."""
        token = _secret()
        self._tokens[_digest(token)] = self._clock.now() + TOKEN_S
        while len(self._tokens) > TOKENS_MAX:
            self._tokens.popitem(last=False)
        return token

    def redeem(self, token: str) -> str:
        """Returns the cookie of a new session, or nothing if the token is unknown, was used, or is too old. A token is gone after the first try."""
        ends_s = self._tokens.pop(_digest(token), 0.0)
        if self._clock.now() >= ends_s:
            return ""
        cookie = _secret()
        session = Session(_digest(cookie), _secret(), self._clock.now() + SESSION_S)
        self._sessions[session.digest] = session
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return cookie

    def find(self, cookie: str) -> Session | None:
        """Returns the session of a cookie; None if there is none, or it is over."""
        session = self._sessions.get(_digest(cookie)) if cookie else None
        if session is not None and self._clock.now() >= session.ends_s:
            del self._sessions[session.digest]
            return None
        return session

    def close(self, session: Session) -> None:
        """Ends a session: its cookie opens nothing any more."""
        self._sessions.pop(session.digest, None)


def same(one: str, other: str) -> bool:
    """Compares two secrets in a time that does not tell where they differ."""
    return secrets.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))


def _secret() -> str:
    return secrets.token_urlsafe(32)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
