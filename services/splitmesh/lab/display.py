"""Owns the lab's output on a terminal or a pipe: stages with progress, the live view, notices, the summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from splitmesh.lab.cells import amount, share, size
from splitmesh.lab.strikes import in_words
from splitmesh.lab.view import PLACE_STYLE, LiveView, line, render

_LINE_EVERY_S = 5.0
_REFRESH_HZ = 4
_PIPE_WIDTH = 110


class Stage:
    """Progress of one stage; `report` has the signature that the builders call back with."""

    def __init__(self, progress: Progress | None, task: TaskID | None) -> None:
        self._progress = progress
        self._task = task

    def report(self, doing: str, done: float) -> None:
        """`doing`: what is being done; `done`: how much of it, [0, 1]."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, detail=doing)


class Display:
    """Everything the user sees. On a terminal it moves; on a pipe it prints a line now and then.

    All of it goes to stderr when `stream` says so, so that stdout can carry the summary as JSON.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.console = Console(file=stream or sys.stdout, highlight=False)
        if not self.console.is_terminal:
            self.console.width = _PIPE_WIDTH
        self.quiet = quiet
        self._live: Live | None = None
        self._next_line_s = 0.0

    @property
    def moving(self) -> bool:
        return self.console.is_terminal and not self.quiet

    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """One step before or after the run, with its progress and how long it took."""
        started = time.monotonic()
        if self.moving:
            columns = (
                SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), BarColumn(bar_width=28),
                TextColumn("[bright_black]{task.fields[detail]}"), TimeElapsedColumn(),
            )  # fmt: skip
            with Progress(*columns, console=self.console) as progress:
                task = progress.add_task(title, total=1.0, detail="")
                yield Stage(progress, task)
                progress.update(task, completed=1.0, detail="")
            return
        yield Stage(None, None)
        if not self.quiet:
            self.say(f"{title}: {time.monotonic() - started:.1f} s")

    def say(self, text: str, *, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    def fault(self, title: str, detail: str) -> None:
        """Something went wrong on its own; never hidden, not even by quiet."""
        body = Text(detail or "(its log is empty)", overflow="fold")
        self.console.print(Panel(body, title=title, title_align="left", border_style="red"))

    @contextmanager
    def live(self) -> Iterator[None]:
        """While open, `show` draws the live view."""
        if not self.moving:
            yield
            return
        with Live(console=self.console, refresh_per_second=_REFRESH_HZ, auto_refresh=False) as self._live:
            try:
                yield
            finally:
                self._live = None

    def show(self, view: LiveView) -> None:
        if self._live is not None:
            self._live.update(render(view), refresh=True)
        elif not self.quiet and not self.console.is_terminal and view.elapsed_s >= self._next_line_s:
            self._next_line_s = view.elapsed_s + _LINE_EVERY_S
            self.console.print(Text(line(view)), soft_wrap=True)

    def summary(self, summary: Mapping[str, Any]) -> None:
        self.console.print(summary_panel(summary))


def summary_panel(summary: Mapping[str, Any]) -> Panel:
    """The summary for people."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bright_black", justify="right", no_wrap=True)
    table.add_column()
    frames, latency = summary["frames"], summary["latency_ms"]
    captured = frames["captured"]
    mix = Text(f"{captured} captured = ")
    for index, (name, count) in enumerate((k, v) for k, v in frames.items() if k != "captured"):
        mix.append(" + " if index else "").append(f"{name} {count}", PLACE_STYLE.get(name, "") if count else "dim")
    table.add_row("frames", mix)
    conserved = ("holds: exactly one result per frame", "green") if summary["conserved"] else ("BROKEN", "bold red")
    table.add_row("conservation", Text(*conserved))
    for fault in (*summary["faults"], *summary["incidents"]):
        table.add_row("", Text(fault, style="red"))
    if summary["strikes"]:
        table.add_row("by hand", Text(", ".join(map(in_words, summary["strikes"])), style="yellow"))
    table.add_row(
        "in time",
        f"{share(summary['deadline_hit'])} within {summary['deadline_ms']:g} ms "
        f"({share(summary['inferred_hit'])} by a model)",
    )
    table.add_row(
        "latency", f"p50 {amount(latency['p50'])}   p95 {amount(latency['p95'])}   p99 {amount(latency['p99'])} ms"
    )
    fidelity = summary["fidelity"]
    told = summary["fidelity_note"] if fidelity is None else f"{fidelity:.3f}  {summary['fidelity_note']}"
    table.add_row("fidelity", told)
    table.add_row("score", f"{amount(summary['score'], digits=3)}  = in time × fidelity")
    table.add_row("uplink", f"{size(summary['uplink_bytes'])} sent ({summary['link']})")
    top = list(summary["decisions"].items())[:4]
    table.add_row("decisions", ", ".join(f"{point} {share(count / max(captured, 1))}" for point, count in top) or "–")
    table.add_row("emulated", Text(summary["emulation"], style="bright_black"))
    style = "green" if summary["conserved"] and not summary["incidents"] else "red"
    return Panel(
        table,
        title=f"{summary['policy']} · {summary['model']} · {summary['duration_s']:g} s",
        title_align="left",
        border_style=style,
    )
