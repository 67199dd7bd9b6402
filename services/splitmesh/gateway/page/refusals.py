"""Owns why the page refuses, and that every refusal is logged and counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

_log = logging.getLogger(__name__)
_SHOWN_CHARS = 120


class Refusal(StrEnum):
    """Each has one status of HTTP."""

    HOST = "host"
    """The page was asked for by a name that it does not have: DNS rebinding."""
    ORIGIN = "origin"
    """Another site's page asked."""
    CSRF = "csrf"
    """The session's own token was not sent along."""
    NO_SESSION = "no-session"
    TOKEN = "token"
    """A login with a token that is nobody's."""
    LOCKED = "locked"
    """Too many such logins of late."""
    PATH = "path"
    METHOD = "method"
    TOO_LARGE = "too-large"
    BAD_REQUEST = "bad-request"
    CROWDED = "crowded"
    """Too many live connections."""


STATUS = {
    Refusal.HOST: 421,
    Refusal.ORIGIN: 403,
    Refusal.CSRF: 403,
    Refusal.NO_SESSION: 401,
    Refusal.TOKEN: 401,
    Refusal.LOCKED: 429,
    Refusal.PATH: 404,
    Refusal.METHOD: 405,
    Refusal.TOO_LARGE: 413,
    Refusal.BAD_REQUEST: 400,
    Refusal.CROWDED: 503,
}


class Refused(Exception):
    """Raised by whatever answers a request; becomes an answer in one place."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{refusal.value}: {detail}")
        self.refusal = refusal
        self.detail = detail


class Refusals:
    """Counts by reason since the start; `count` is also told of each, for the metrics."""

    def __init__(self, count: Callable[[str], None]) -> None:
        self.counts: Counter[Refusal] = Counter()
        self._count = count

    def tell(self, refusal: Refusal, *, path: str, peer: str, detail: str = "") -> None:
        """Never logs more of what a client sent than a line holds, and no control characters of it."""
        self.counts[refusal] += 1
        self._count(refusal.value)
        shown = ascii(path[:_SHOWN_CHARS])
        _log.warning("page refused %s from %s: %s %s", shown, peer, refusal.value, ascii(detail[:_SHOWN_CHARS]))
