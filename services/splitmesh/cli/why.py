"""Owns `splitmesh why`: finds one frame in a run's folder and tells its story. Reads files, changes none."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console

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
@click.option("--json", "as_json", is_flag=True, help="Print the record and its spans as JSON.")
def why(frame_id: str, folder: Path | None, as_json: bool) -> None:
    """Tell why a frame went where it went: decision, prediction against measurement, runners-up, spans.

    FRAME_ID is an id such as lab-edge.k3f9.120, or just its last part, the number of the frame.

    \b
    Examples:
      splitmesh why 120
      splitmesh why lab-edge.k3f9.120 --from lab-out/latest
    """
    run = run_folder(folder, Path.cwd())
    record = find_record(run / RESULTS, frame_id)
    spans = read_spans(run, trace_id=record.trace_id) if record.trace_id else []
    if not spans:
        spans = frame_spans(read_spans(run), record.frame_id)
    story = Story(record, tuple(spans))
    if as_json:
        row: dict[str, Any] = json.loads(record.to_json_line())
        spans_json = [json.loads(span.to_json_line()) for span in spans]
        click.echo(json.dumps({"frame": row, "spans": spans_json}, indent=2))
        return
    console = Console()
    for part in render(story, bar_width=max(16, min(48, console.width - 62))):
        console.print(part)


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
