"""Owns who is logged in: sessions by random id, bounded in number and time. Reads no clock: `now_ns` is given."""

from __future__ import annotations

import hmac
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from splitmesh.gateway.tokens import Account

MAX_SESSIONS = 1_000
SESSION_S = 12 * 3_600
MAX_FAILURES = 10
"""Failed logins of one address in FAILURES_S after which no login of it is looked at: checking a token costs time."""
FAILURES_S = 60.0
_MAX_PEERS = 1_000


@dataclass(frozen=True, slots=True)
class Session:
    """`csrf` must come with every request that changes something; the cookie alone is not enough."""

    session_id: str
    account: Account
    csrf: str
    ends_ns: int
    holds: Callable[[], bool] = field(repr=False, compare=False)
    """The token that opened it is still known."""


class Sessions:
    """When full, the oldest session of the account that has most makes room: nobody can push out others' sessions."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._failures_ns: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, account: Account, now_ns: int, *, holds: Callable[[], bool] = lambda: True) -> Session:
        """A new session; over as soon as `holds()` is false."""
        self._forget(now_ns)
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[self._least_missed()]
        made = Session(
            secrets.token_urlsafe(32), account, secrets.token_urlsafe(32), now_ns + round(SESSION_S * 1e9), holds
        )
        self._sessions[made.session_id] = made
        return made

    def find(self, session_id: str, now_ns: int) -> Session | None:
        """The session, unless it has ended or never was."""
        session = self._sessions.get(session_id)
        return session if session is not None and now_ns < session.ends_ns and session.holds() else None

    def close(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)

    def failed(self, peer: str, now_ns: int) -> None:
        """A login from the address `peer` was refused."""
        earlier = self._failures_ns.pop(peer, [])
        while len(self._failures_ns) >= _MAX_PEERS:
            del self._failures_ns[next(iter(self._failures_ns))]
        self._failures_ns[peer] = [*earlier[-MAX_FAILURES:], now_ns]

    def locked(self, peer: str, now_ns: int) -> bool:
        """Too many logins from there were refused of late."""
        since_ns = now_ns - round(FAILURES_S * 1e9)
        return sum(at_ns > since_ns for at_ns in self._failures_ns.get(peer, ())) >= MAX_FAILURES

    def _least_missed(self) -> str:
        most, _ = Counter(session.account for session in self._sessions.values()).most_common(1)[0]
        return next(each for each, session in self._sessions.items() if session.account == most)

    def _forget(self, now_ns: int) -> None:
        for session_id in [each for each, session in self._sessions.items() if session.ends_ns <= now_ns]:
            del self._sessions[session_id]


def same(given: str, expected: str) -> bool:
    """Compare secrets in a time that tells nothing of them."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())
