"""Owns `splitmesh why`: finds one frame, in a run's folder or at the edge itself, and tells its story."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from splitmesh.cli.live import live_story
from splitmesh.cli.story import Story, render
from splitmesh.errors import MeshError
from splitmesh.frames.record import FrameRecord
from splitmesh.telemetry.spanlog import frame_spans, read_spans

RESULTS = "results.jsonl"
_LAB_OUT = Path("lab-out")


class UnknownFrame(MeshError):
    """No frame of the run has that id; `near` holds ids that there are."""

    def __init__(self, message: str, *, near: tuple[str, ...]) -> None:
        super().__init__(message, advice=f"nearest: {', '.join(near)}" if near else "the run has no frames")
        self.near = near


@click.command()
@click.argument("frame_id")
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the run; default: the latest one below ./lab-out.",
)
@click.option("--nats-url", metavar="URL", help="Ask the edge itself, which remembers its last 2000 frames.")
@click.option("--tenant", default="default", show_default=True, metavar="NAME", help="With --nats-url: of that edge.")
@click.option("--json", "as_json", is_flag=True, help="Print the record and its spans as JSON.")
def why(frame_id: str, folder: Path | None, nats_url: str | None, tenant: str, as_json: bool) -> None:
    """Tell why a frame went where it went: decision, prediction against measurement, runners-up, spans.

    FRAME_ID is an id such as lab-edge.k3f9.120, or just its last part, the number of the frame.

    \b
    Examples:
      splitmesh why 120
      splitmesh why lab-edge.k3f9.120 --from lab-out/latest
      splitmesh why cam-7.1f0c9a2b.88120 --nats-url nats://broker:4222
    """
    if nats_url and folder:
        raise click.UsageError("--from reads a folder and --nats-url asks an edge: give one of them")
    story = asyncio.run(live_story(nats_url, tenant, frame_id)) if nats_url else _recorded(folder, frame_id)
    if as_json:
        row: dict[str, Any] = json.loads(story.record.to_json_line())
        spans_json = [json.loads(span.to_json_line()) for span in story.spans]
        click.echo(json.dumps({"frame": row, "spans": spans_json}, indent=2))
        return
    console = Console()
    for part in render(story, bar_width=max(16, min(48, console.width - 62))):
        console.print(part)


def _recorded(folder: Path | None, frame_id: str) -> Story:
    run = run_folder(folder, Path.cwd())
    record = find_record(run / RESULTS, frame_id)
    spans = read_spans(run, trace_id=record.trace_id) if record.trace_id else []
    return Story(record, tuple(spans or frame_spans(read_spans(run), record.frame_id)))


def run_folder(given: Path | None, cwd: Path) -> Path:
    """The folder that holds a run's results: `given`, or the newest run in or below it, or below ./lab-out.

    Raises MeshError when there is none.
    """
    root = given if given is not None else cwd / _LAB_OUT
    if (root / RESULTS).is_file():
        return root
    if (root / "latest" / RESULTS).is_file():
        return root / "latest"
    runs = sorted(root.glob(f"*/{RESULTS}"), key=lambda path: path.stat().st_mtime)
    if runs:
        return runs[-1].parent
    advice = "run `splitmesh lab` first, or name a run's folder with --from"
    raise MeshError(f"there is no {RESULTS} in {root}", advice=advice)


def find_record(results: Path, wanted: str) -> FrameRecord:
    """The record of a frame id, or of a bare sequence number. Raises UnknownFrame with the nearest ids."""
    seq = int(wanted) if wanted.isascii() and wanted.isdigit() else None
    ids: dict[str, int] = {}
    for record in _records(results):
        if record.frame_id == wanted or record.seq == seq:
            return record
        ids[record.frame_id] = record.seq
    raise UnknownFrame(f"no frame {wanted} in {results}", near=nearest(wanted, ids))


def nearest(wanted: str, ids: dict[str, int], count: int = 3) -> tuple[str, ...]:
    """Up to `count` ids most like `wanted`: by sequence number if it ends in one, else by spelling."""
    tail = wanted.rpartition(".")[2]
    if tail.isascii() and tail.isdigit():
        return tuple(sorted(ids, key=lambda each: abs(ids[each] - int(tail)))[:count])
    return tuple(difflib.get_close_matches(wanted, ids, n=count, cutoff=0.3))


def _records(results: Path) -> Iterator[FrameRecord]:
    try:
        with results.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    yield FrameRecord.from_json_line(line)
                except (ValueError, TypeError, KeyError):
                    continue  # a line cut off by a crash says nothing of any frame
    except OSError as exc:
        raise MeshError(f"can't read {results}: {exc.strerror or exc}") from exc
