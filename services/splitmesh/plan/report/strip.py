"""Owns the picture of the graph as a strip: what is live after each node, what the edge has spent by then, cuts."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import RejectedCut, Strip
from splitmesh.plan.report.figures import cut_figures, slowdown, timing
from splitmesh.plan.report.svg import (
    Scale,
    collides,
    count,
    element,
    label,
    line,
    milliseconds,
    path,
    picture,
    text_box,
    words,
)

_LEFT, _RIGHT = 50.0, 14.0
_UPPER, _LOWER, _GAP, _RUG = 190.0, 96.0, 42.0, 30.0
_HEAD, _LABEL_ROW = 18.0, 14.0
_MAX_ROWS = 5
_FRONTIERS = re.compile(r"^n(\d+)(?:-[^…]*)?(?:…n(\d+))?$")
"""Names of rejected frontiers: "n12-64x19x19", "n12", "n12…n30"."""


@dataclass(frozen=True, slots=True)
class Column:
    """A run of neighbouring nodes that share one place in the picture. Elements: 0 where not known."""

    first: int
    after: int
    least: int
    most: int
    share: float
    """Of the model's work, up to and with the last of them."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A kept cut: `at` is the place in the strip of the last node of its head."""

    name: str
    kind: str
    at: int
    about: str

    @property
    def short(self) -> str:
        return self.name.partition("-")[0]


def columns(strip: Strip, limit: int) -> list[Column]:
    """The strip in at most `limit` columns: so many that a long graph is drawn in bounded space."""
    total = len(strip.elements)
    found = []
    edges = [total * i // min(limit, total) for i in range(min(limit, total) + 1)] if total else [0]
    for first, after in itertools.pairwise(edges):
        known = [value for value in strip.elements[first:after] if value > 0]
        found.append(Column(first, after, min(known, default=0), max(known, default=0), strip.shares[after - 1]))
    return found


def marks(bundle: Bundle) -> list[Mark]:
    """The kept cuts, in graph order, each with its series' class."""
    found = []
    for number, figures in enumerate(cut_figures(bundle), 1):
        entry = figures.entry
        about = f"{entry.name}: {entry.elements:,} elements"
        if figures.edge and figures.cloud:
            about += f", {milliseconds(figures.edge.p50_ms)} ms on the edge"
            about += f", {milliseconds(figures.cloud.p50_ms)} ms in the cloud"
        found.append(Mark(entry.name, f"s{number}", place_of(bundle.plan.strip, entry.node_index), about))
    return found


def place_of(strip: Strip, node_index: int) -> int:
    """Position in the strip of the last node that is not after `node_index` of the file's list; 0 for none."""
    return max(bisect.bisect_right(strip.index, node_index) - 1, 0)


def draw_strip(bundle: Bundle, *, width: float, name: str) -> str:
    """The picture, `width` units wide. Without a profile the lower panel shows shares instead of milliseconds."""
    strip = bundle.plan.strip
    if not strip.elements:
        return ""
    total = len(strip.elements)
    nodes = Scale(0, total, _LEFT, width - _RIGHT)
    kept = marks(bundle)
    rows = _label_rows(kept, nodes)
    top = _HEAD + _LABEL_ROW * (max(rows, default=0) + 1)
    floor = top + _UPPER + _GAP + _LOWER
    row = columns(strip, int(nodes.end - nodes.start))
    return picture(
        width,
        floor + _RUG + 34,
        _elements(bundle, row, nodes, top),
        _work(bundle, row, nodes, top + _UPPER + _GAP),
        _rug(bundle.plan.rejected, strip, nodes, floor + 8),
        *(
            _mark(mark, nodes, _HEAD + _LABEL_ROW * (level + 0.75), floor + _RUG)
            for mark, level in zip(kept, rows, strict=True)
        ),
        _heads(bundle, nodes, top + _UPPER + _GAP),
        label(4, 12, "elements live after each node", "head"),
        label(4, top + _UPPER + _GAP - 12, _work_heading(bundle), "head halo"),
        _node_axis(nodes, total, floor + _RUG, width),
        title="The graph as a strip",
        about=_about(bundle, kept),
        name=name,
    )


def _elements(bundle: Bundle, row: Sequence[Column], nodes: Scale, top: float) -> str:
    """Upper panel: elements live after each node, on a log scale, with the input picture's size as a line."""
    source = 3 * bundle.manifest.width * bundle.manifest.height
    known = [value for column in row for value in (column.least, column.most) if value > 0]
    low = 10 ** (len(str(min([*known, source]))) - 1)
    scale = Scale(low, max(max([*known, source]) * 1.25, low * 10), top + _UPPER, top, log=True)
    parts = []
    for value in scale.ticks():
        parts += [
            line(nodes.start, scale(value), nodes.end, scale(value), "grid"),
            label(_LEFT - 6, scale(value) + 4, count(value), "tick", "end"),
        ]
    if any(column.least != column.most for column in row):
        parts.append(_area(row, nodes, scale, lambda column: column.most, "most"))
    parts.append(_area(row, nodes, scale, lambda column: column.least, "live"))
    parts.append(line(nodes.start, scale(source), nodes.end, scale(source), "source"))
    above = scale(source) - top > 16
    parts.append(
        label(
            nodes.end - 2, scale(source) + (-5 if above else 13), f"input picture {count(source)}", "note halo", "end"
        )
    )
    return "".join(parts)


def _area(row: Sequence[Column], nodes: Scale, scale: Scale, value: Callable[[Column], int], kind: str) -> str:
    """Filled steps; a column of unknown size leaves a gap."""
    parts = []
    for known, run in itertools.groupby(row, key=lambda column: value(column) > 0):
        if known:
            steps = [(nodes(x), scale(value(c))) for c in run for x in (c.first, c.after)]
            base = [(steps[-1][0], scale.start), (steps[0][0], scale.start)]
            parts.append(path([*steps, *base], kind, closed=True))
    return "".join(parts)


def _work(bundle: Bundle, row: Sequence[Column], nodes: Scale, top: float) -> str:
    """Lower panel: what the edge has spent after each node, estimated."""
    full, scale = timing(bundle, "full"), _spent_scale(bundle, top)
    parts = []
    for value in scale.ticks(3):
        shown = f"{value:g}" if full else f"{100 * value:.0f}%"
        parts += [
            line(nodes.start, scale(value), nodes.end, scale(value), "grid"),
            label(_LEFT - 6, scale(value) + 4, shown, "tick", "end"),
        ]
    steps = [(nodes(0), scale(0)), *((nodes(column.after), scale(column.share * scale.high)) for column in row)]
    parts += [path([*steps, (nodes.end, scale.start)], "spent-area", closed=True), path(steps, "spent")]
    return "".join(parts)


def _spent_scale(bundle: Bundle, top: float) -> Scale:
    full = timing(bundle, "full")
    return Scale(0, full.p50_ms * slowdown(bundle) if full else 1.0, top + _LOWER, top)


def _heads(bundle: Bundle, nodes: Scale, top: float) -> str:
    """A dot for what each head was measured to take."""
    scale = _spent_scale(bundle, top)
    return "".join(
        element(
            "circle",
            cx=nodes(place_of(bundle.plan.strip, figures.entry.node_index) + 1),
            cy=scale(figures.edge.p50_ms),
            r=4.5,
            class_=f"dot head s{number}",
        )
        for number, figures in enumerate(cut_figures(bundle), 1)
        if figures.edge and timing(bundle, "full")
    )


def _work_heading(bundle: Bundle) -> str:
    known = timing(bundle, "full")
    return "milliseconds spent on the edge by then" if known else "share of the work done by then, estimated"


def _rug(rejected: Sequence[RejectedCut], strip: Strip, nodes: Scale, top: float) -> str:
    """A short bar over each run of rejected frontiers, a longer tick for each that got as far as being measured."""
    runs: list[tuple[float, float]] = []
    ticks: set[str] = set()
    for cut in rejected:
        if found := _FRONTIERS.match(cut.name):
            first, last = (place_of(strip, int(index)) for index in (found[1], found[2] or found[1]))
            if cut.stage == "graph":
                runs.append((nodes(first + 0.6), nodes(last + 1.4)))
            else:
                ticks.add(f"M{nodes(last + 1):.1f} {top:.1f}v16")
    if not runs and not ticks:
        return ""
    bars = "".join(f"M{start:.1f} {top + 4:.1f}H{end:.1f}" for start, end in _merged(runs))
    return "".join(
        [
            label(_LEFT - 6, top + 8, "no cut", "tick", "end"),
            element("path", d=bars, class_="rug graph") if bars else "",
            element("path", d="".join(sorted(ticks)), class_="rug measured") if ticks else "",
        ]
    )


def _merged(runs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Intervals in order; those that the eye can't tell apart are one."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(runs):
        if found and start - found[-1][1] < 0.5:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _label_rows(kept: Sequence[Mark], nodes: Scale) -> list[int]:
    """The row of each mark's label, so that none covers another; row 0 is the topmost."""
    taken: list[tuple[float, float, float, float]] = []
    rows = []
    for mark in kept:
        for level in range(_MAX_ROWS):
            box = text_box(nodes(mark.at + 1), 100.0 * level, mark.short, 12, "middle")
            if not collides(box, taken, margin=4) or level == _MAX_ROWS - 1:
                taken.append(box)
                rows.append(level)
                break
    return rows


def _mark(mark: Mark, nodes: Scale, label_y: float, bottom: float) -> str:
    x = nodes(mark.at + 1)
    return element(
        "g",
        element("title", words(mark.about)),
        line(x, label_y + 4, x, bottom, "cut"),
        label(x, label_y, mark.short, "cutname", "middle" if x < nodes.end - 14 else "end"),
        class_=mark.kind,
    )


def _node_axis(nodes: Scale, total: int, bottom: float, width: float) -> str:
    parts = [line(nodes.start, bottom, nodes.end, bottom, "axis")]
    for value in Scale(0, total, 0, 1).ticks(8 if width > 600 else 4):
        parts += [
            line(nodes(value), bottom, nodes(value), bottom + 4, "axis"),
            label(nodes(value), bottom + 16, f"{value:g}", "tick", "middle"),
        ]
    parts.append(
        label((nodes.start + nodes.end) / 2, bottom + 31, "nodes, in the order in which they run", "tick", "middle")
    )
    return "".join(parts)


def _about(bundle: Bundle, kept: Sequence[Mark]) -> str:
    strip = bundle.plan.strip
    known = [value for value in strip.elements if value > 0]
    narrow = f"Between {min(known):,} and {max(known):,} elements are live after a node. " if known else ""
    cuts = "; ".join(f"{mark.about}, after node {mark.at + 1}" for mark in kept) or "none"
    return f"{len(strip.elements)} nodes. {narrow}Kept cuts: {cuts}. Rejected: {len(bundle.plan.rejected)}."
