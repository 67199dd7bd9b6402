"""Owns which event loop runs us: uvloop where it is installed, else asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")

_FACTORY: Callable[[], asyncio.AbstractEventLoop]
try:
    import uvloop

    _FACTORY, LOOP = uvloop.new_event_loop, "uvloop"
except ModuleNotFoundError:  # no wheel for this platform
    _FACTORY, LOOP = asyncio.new_event_loop, "asyncio"


def run_loop(main: Coroutine[Any, Any, _T]) -> _T:
    """As `asyncio.run`."""
    with asyncio.Runner(loop_factory=_FACTORY) as runner:
        return runner.run(main)
