"""Owns how often one log line may come: a fault that repeats says so in a count instead of a flood."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 10.0
FIRST = 5
"""Lines of one kind that a window lets through."""
_KINDS = 512
"""Kinds of line that are told apart; the one that came longest ago is forgotten first."""


@dataclass(slots=True)
class _Window:
    began_s: float
    passed: int = 0
    held: int = 0


class Repeats(logging.Filter):
    """Lets the first `first` lines of a kind through in each `window_s`, and counts the others.

    A kind is logger, level and the message before its arguments are filled in. The first line of the next window says
    how many were held back, as field `repeats`. Lines above WARNING always pass: an error is never only counted.
    """

    def __init__(
        self, *, window_s: float = WINDOW_S, first: int = FIRST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._window_s = window_s
        self._first = first
        self._clock = clock
        self._windows: OrderedDict[tuple[str, int, str], _Window] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by the handler under its lock."""
        if record.levelno > logging.WARNING:
            return True
        key = (record.name, record.levelno, str(record.msg))
        now_s = self._clock()
        window = self._windows.pop(key, None)
        if window is None or now_s - window.began_s >= self._window_s:
            if window is not None and window.held:
                record.repeats = window.held
            window = _Window(now_s)
        self._windows[key] = window
        while len(self._windows) > _KINDS:
            self._windows.popitem(last=False)
        if window.passed < self._first:
            window.passed += 1
            return True
        window.held += 1
        return False
