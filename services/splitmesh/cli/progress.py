"""Owns the progress bars of commands that fetch or build: one per stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_WORTH_TELLING_S = 0.1


@contextmanager
def progress_bar(
    *, quiet: bool = False, names: Mapping[str, str] | None = None
) -> Iterator[Callable[[str, float], None]]:
    """A callback `(stage, share of that stage in [0, 1])`; several stages may be under way. All goes to stderr.

    names: stage → what is shown of it; others are shown as they are. A stage is over at 1.0, or when the context
    ends without an error.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda _what, _share: None
    elif console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bars:
            shown = _Bars(bars, names or {})
            yield shown
            shown.finish()
    else:
        yield _Lines(names or {})


class _Bars:
    def __init__(self, bars: Progress, names: Mapping[str, str]) -> None:
        self._bars = bars
        self._names = names
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, share: float) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(self._names.get(what, what), total=1.0)
        self._bars.update(self._tasks[what], completed=min(max(share, 0.0), 1.0))

    def finish(self) -> None:
        for task in self._tasks.values():
            self._bars.update(task, completed=1.0)


class _Lines:
    """A line when a stage begins, and one with its time when it took any."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._started: dict[str, float] = {}
        self._over: set[str] = set()

    def __call__(self, what: str, share: float) -> None:
        name = self._names.get(what, what)
        if what and what not in self._started:
            self._started[what] = time.monotonic()
            click.echo(name, err=True)
        if share >= 1.0 and what in self._started and what not in self._over:
            self._over.add(what)
            took_s = time.monotonic() - self._started[what]
            if took_s >= _WORTH_TELLING_S:
                click.echo(f"{name}: {took_s:.1f} s", err=True)
