"""Owns the progress bar of commands that fetch or build: one line per step on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Callable[[str, float], None]]:
    """A callback `(what, share in [0, 1])`; a new `what` starts a new line. Everything goes to stderr."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _what, _share: None
    elif console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bars:
            yield _Bars(bars)
    else:
        yield _Lines()


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._what = ""
        self._task: TaskID | None = None

    def __call__(self, what: str, share: float) -> None:
        if self._task is None or what != self._what:
            if self._task is not None:
                self._bars.update(self._task, completed=1.0)
            self._what, self._task = what, self._bars.add_task(what, total=1.0)
        self._bars.update(self._task, completed=min(max(share, 0.0), 1.0))


class _Lines:
    def __init__(self) -> None:
        self._what = ""

    def __call__(self, what: str, share: float) -> None:
        if what and what != self._what:
            self._what = what
            click.echo(what, err=True)
