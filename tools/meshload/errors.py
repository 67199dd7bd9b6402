"""Owns the errors that a run ends with. Each says what to do; none is raised for a single request that failed."""

from __future__ import annotations

from splitmesh.errors import MeshError


class LoadError(MeshError):
    """The run can't be made as asked: an option, a file or a document is wrong."""


class TargetError(LoadError):
    """The target can't be reached, or refuses us; `url` names it."""

    def __init__(self, message: str, *, url: str, advice: str = "") -> None:
        super().__init__(f"{url}: {message}", advice=advice)
        self.url = url
