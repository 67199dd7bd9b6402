"""Owns the errors that a run ends with. Each says what to do; none is raised for a single request that failed."""

from __future__ import annotations

import re

from splitmesh.errors import MeshError

_CREDENTIALS = re.compile(r"^([a-z0-9+.-]*://)[^/?#]*@", re.IGNORECASE)


class LoadError(MeshError):
    """The run can't be made as asked: an option, a file or a document is wrong."""


class TargetError(LoadError):
    """The target can't be reached, or refuses us; `url` names it, without passwords."""

    def __init__(self, message: str, *, url: str, advice: str = "") -> None:
        self.url = without_secrets(url)
        super().__init__(f"{self.url}: {message}", advice=advice)


def is_usage(exc: MeshError) -> bool:
    """What was asked for is wrong, and not what is behind it."""
    return isinstance(exc, LoadError) and not isinstance(exc, TargetError)


def without_secrets(url: str) -> str:
    """`url` as it may be shown: user, password and token become "…"."""
    return _CREDENTIALS.sub(r"\1…@", url)
