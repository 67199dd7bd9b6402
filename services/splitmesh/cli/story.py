"""Owns how one frame's story looks: verdict, decision, measured parts, runners-up, and spans on a time bar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.telemetry.spanrow import SpanRow

_ENDED = {
    Outcome.LOCAL: "the whole model ran on the edge",
    Outcome.SPLIT: "head on the edge, tail on the worker",
    Outcome.FRAME: "the worker ran the whole model on the picture",
    Outcome.RESUMED: "the edge ran the tail itself, from the cut",
    Outcome.TRACKED: "carried over from an earlier answer",
    Outcome.SHED: "dropped before a decision",
    Outcome.EXPIRED: "no answer of any kind could be given",
}


@dataclass(frozen=True, slots=True)
class Story:
    """A frame's record and the spans that were kept of it (none if it was not sampled)."""

    record: FrameRecord
    spans: tuple[SpanRow, ...]

    @property
    def measured_ms(self) -> float | None:
        """Start of the decision to the result, as `predicted_ms` counts; None unless the spans tell."""
        named = {span.name: span for span in self.spans if span.service == "edge"}
        if "decide" not in named or "frame" not in named or self.record.latency_ms is None:
            return None
        result_ns = named["emit"].start_unix_ns if "emit" in named else named["frame"].end_unix_ns
        return (result_ns - named["decide"].start_unix_ns) / 1e6


@dataclass(frozen=True, slots=True)
class PlacedSpan:
    """A span in the tree: how deep, and how far its clock was moved to fit into its parent (0: not at all)."""

    span: SpanRow
    depth: int
    moved_ms: float


def render(story: Story, *, bar_width: int) -> Iterator[RenderableType]:
    """The story's parts, top to bottom."""
    yield _verdict(story.record)
    yield _decision(story)
    if story.record.runners_up:
        yield _runners_up(story.record)
    if story.record.times_ms:
        yield _parts(story.record)
    if story.spans:
        yield _spans(story.spans, bar_width)
    else:
        yield Text("no spans: this frame was not sampled (see trace_ratio), or its log has wrapped", style="dim")


def placed(spans: tuple[SpanRow, ...]) -> list[PlacedSpan]:
    """Spans as a tree in order of start. Spans of another process that stick out of their parent are moved into
    its middle, with all below them: the clocks of two machines differ by more than a request takes."""
    by_id = {span.span_id: span for span in spans}
    children: dict[str | None, list[SpanRow]] = {}
    first = next((s for s in spans if s.parent_id is None), None)
    for span in spans:
        parent = span.parent_id if span.parent_id in by_id else None
        if parent is None and first is not None and span is not first:
            parent = first.span_id
        children.setdefault(parent, []).append(span)
    rows: list[PlacedSpan] = []

    def walk(span: SpanRow, parent: SpanRow | None, depth: int, shift_ns: int) -> None:
        seen = replace(span, start_unix_ns=span.start_unix_ns + shift_ns, end_unix_ns=span.end_unix_ns + shift_ns)
        foreign = parent is not None and (span.service, span.instance) != (parent.service, parent.instance)
        if parent is not None and foreign and not _inside(seen, parent):
            slack = (parent.end_unix_ns - parent.start_unix_ns) - (seen.end_unix_ns - seen.start_unix_ns)
            move = parent.start_unix_ns + max(slack, 0) // 2 - seen.start_unix_ns
            shift_ns += move
            seen = replace(seen, start_unix_ns=seen.start_unix_ns + move, end_unix_ns=seen.end_unix_ns + move)
        rows.append(PlacedSpan(seen, depth, shift_ns / 1e6))
        for child in sorted(children.get(span.span_id, []), key=lambda each: each.start_unix_ns):
            walk(child, seen, depth + 1, shift_ns)

    for root in sorted(children.get(None, []), key=lambda each: each.start_unix_ns):
        walk(root, None, 0, 0)
    return rows


def bar(start: float, end: float, width: int) -> tuple[int, int]:
    """Cells [from, to) of a bar of `width` for the share [start, end] in [0, 1]; never empty, never outside."""
    first = min(max(int(start * width), 0), width - 1)
    last = min(max(round(end * width), first + 1), width)
    return first, last


def _inside(span: SpanRow, parent: SpanRow) -> bool:
    return parent.start_unix_ns <= span.start_unix_ns and span.end_unix_ns <= parent.end_unix_ns


def _verdict(record: FrameRecord) -> RenderableType:
    text = Text()
    text.append(f"{record.outcome.value}", style="bold")
    text.append(f": {_ENDED[record.outcome]}\n")
    if record.latency_ms is None:
        text.append("no answer", style="bold red")
    else:
        verdict, style = ("in time", "bold green") if record.deadline_hit else ("too late", "bold red")
        text.append(f"{record.latency_ms:.1f} ms", style=style)
        text.append(f" from capture to result: {verdict}")
    text.append(f" (deadline {record.deadline_ms:g} ms)")
    text.append(f"\nframe {record.seq}, picture {record.source_index} of the source, {record.pts_ns / 1e9:.2f} s in")
    if record.latency_ms is not None:
        text.append(f"; {_found(record)}")
    return Panel(text, title=f"[bold]{record.frame_id}", title_align="left", expand=False)


def _found(record: FrameRecord) -> str:
    """What the answer is, without the model's labels."""
    answer = record.answer
    if record.left_out_bytes:
        return f"an answer of {record.left_out_bytes:,} bytes, too large for a record"
    if len(answer) and (answer.boxes == (0, 0, 1, 1)).all():
        return f"best class {answer.classes[0]} of the {len(answer)} that were kept ({answer.scores[0]:.2f})"
    parts = [f"{len(answer)} object(s) found"] if len(answer) or not answer.tensors else []
    if answer.mask is not None:
        height, width = answer.mask.shape
        return "; ".join([*parts, f"a mask of {width}x{height} with {len(np.unique(answer.mask))} class(es)"])
    shown = [f"{name} {'x'.join(map(str, t.shape)) or 'scalar'} {t.dtype}" for name, t in answer.tensors.items()]
    return "; ".join(parts + shown)


def _decision(story: Story) -> RenderableType:
    record = story.record
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("decided", Text(record.point or "nothing"))
    table.add_row("because", Text(record.reason or "-"))
    if record.note:
        table.add_row("but", Text(record.note, style="yellow"))
    if record.predicted_ms is not None:
        odds = f", {record.p_hit:.0%} sure to be in time" if record.p_hit is not None else ""
        table.add_row("predicted", f"{record.predicted_ms:.1f} ms from the decision{odds}")
    measured = story.measured_ms
    if measured is not None:
        off = f" ({measured - record.predicted_ms:+.1f} ms off)" if record.predicted_ms is not None else ""
        table.add_row("measured", f"{measured:.1f} ms from the decision{off}")
    if record.link:
        table.add_row("link then", Text(_link(record.link)))
    if record.uplink_bytes:
        table.add_row("sent", f"{record.uplink_bytes:,} bytes" + (f" to {record.worker}" if record.worker else ""))
    if record.trace_id:
        table.add_row("trace", Text(record.trace_id))
    return table


def _link(link: dict[str, float]) -> str:
    parts = []
    if "bandwidth_bps" in link:
        parts.append(f"{link['bandwidth_bps'] / 1e6:.2f} Mbit/s")
    if "base_ms" in link:
        parts.append(f"{link['base_ms']:.1f} ms base")
    if "backlog_bytes" in link:
        parts.append(f"{link['backlog_bytes']:,.0f} bytes on the way")
    return ", ".join(parts)


def _runners_up(record: FrameRecord) -> RenderableType:
    table = Table(title="runners-up", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("point")
    for heading in ("predicted ms", "P(in time)", "utility"):
        table.add_column(heading, justify="right")
    for row in record.runners_up:
        table.add_row(
            Text(str(row.get("point", ""))),
            _figure(row.get("predicted_ms"), "{:.1f}"),
            _figure(row.get("p_hit"), "{:.1%}"),
            _figure(row.get("utility"), "{:.4f}"),
        )
    return table


def _figure(value: object, form: str) -> str:
    return form.format(value) if isinstance(value, (int, float)) else "-"


def _parts(record: FrameRecord) -> RenderableType:
    parts = [f"{name} {value:.1f}" for name, value in record.times_ms.items()]
    return Text("measured parts, ms: " + " · ".join(parts))


def _spans(spans: tuple[SpanRow, ...], bar_width: int) -> RenderableType:
    rows = placed(spans)
    start = min(row.span.start_unix_ns for row in rows)
    length = max(max(row.span.end_unix_ns for row in rows) - start, 1)
    table = Table(title="spans", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("span", no_wrap=True)
    table.add_column("in", no_wrap=True, style="dim")
    table.add_column("at ms", justify="right", no_wrap=True)
    table.add_column("took ms", justify="right", no_wrap=True)
    table.add_column(f"0 … {length / 1e6:.1f} ms", no_wrap=True)
    services = list(dict.fromkeys(row.span.service for row in rows))
    for row in rows:
        span = row.span
        first, last = bar((span.start_unix_ns - start) / length, (span.end_unix_ns - start) / length, bar_width)
        colour = "red" if span.error else ("cyan", "magenta", "green", "yellow")[services.index(span.service) % 4]
        line = Text("·" * first, style="dim")
        line.append("█" * (last - first), style=colour)
        line.append("·" * (bar_width - last), style="dim")
        name = Text("  " * row.depth + span.name, style=colour)
        at_ms = f"{(span.start_unix_ns - start) / 1e6:.1f}"
        table.add_row(name, span.service, at_ms, f"{span.duration_ms:.1f}", line)
    moved = max((row.moved_ms for row in rows), key=abs, default=0.0)
    if not moved:
        return table
    note = f"the other process's clock was moved by {moved:+.1f} ms to fit the request that it served"
    return Group(table, Text(note, style="dim"))
