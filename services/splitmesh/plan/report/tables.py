"""Owns the tables of a plan's page. Values in, markup out, all of it escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import FidelityBin, PartTiming, RateRow, RejectedCut
from splitmesh.plan.report.figures import (
    CutFigures,
    cut_figures,
    kept_points,
    rows_by_point,
    slowdown,
    stretched,
    timing,
)
from splitmesh.plan.report.svg import data_size, element, milliseconds, words

STAGES = {
    "graph": "Ruled out by the graph alone",
    "parity": "Ruled out by parity: head and tail together do not give what the whole model gives",
    "screen": "Ruled out by what they send and keep on real frames",
    "pareto": "Good, but others are better",
}
"""Stage of a rejected cut → heading."""

MAX_REJECTED = 3000
"""Rows shown of one stage: the page must stay readable, and plan.json holds all."""

METRICS = {
    "map50": "mAP50", "f1": "F1", "top1": "top-1", "top5": "top-5", "kl": "KL", "miou": "mIoU", "cosine": "cosine",
    "equal": "equal elements",
}  # fmt: skip

_HEAT = ((0.995, "h5"), (0.98, "h4"), (0.95, "h3"), (0.9, "h2"), (0.0, "h1"))
_MOTIONS = {"still": "still", "moving": "moving", "any": "stills"}


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """A table whose first column heads its rows. Cells are markup; those of `numeric` columns are right-aligned."""

    def row(cells: Sequence[str]) -> str:
        first = element("th", cells[0], scope="row")
        return first + "".join(
            cell if cell.startswith("<td") else element("td", cell, class_="n" if at in numeric else "text")
            for at, cell in enumerate(cells[1:], 1)
        )

    heads = "".join(
        element("th", words(text), scope="col", class_="n" if at in numeric else None) for at, text in enumerate(head)
    )
    body = "".join(f"<tr>{row(cells)}</tr>" for cells in rows)
    inner = f"<caption>{words(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody>"
    scroll = f'<div class="scroll" role="region" aria-label="{words(caption)}" tabindex="0">'
    return f"{scroll}<table>{inner}</table></div>"


def series_name(number: int, name: str) -> str:
    return f'<span class="swatch s{number}" aria-hidden="true"></span><code>{words(name)}</code>'


def cuts_table(bundle: Bundle) -> str:
    source = 3 * bundle.manifest.width * bundle.manifest.height
    head = [
        "cut",
        "tensors that cross",
        "elements",
        "of the picture",
        "head's share",
        "edge ms",
        "cloud ms",
        "parity",
        "batches",
        "same bits twice",
    ]
    rows = [
        [
            series_name(number, figures.entry.name),
            "<br>".join(
                f"<code>{words(t.name)}</code> {_shape(t.shape)} {words(t.dtype)}" for t in figures.entry.tensors
            ),
            f"{figures.entry.elements:,}",
            f"{figures.entry.elements / source:.0%}",
            _share(figures),
            _spread(figures.edge),
            _spread(figures.cloud),
            f"{figures.entry.parity_max_rel:.1e}",
            element("td", _yes(figures.entry.batchable)),
            element("td", _yes(figures.entry.deterministic)),
        ]
        for number, figures in enumerate(cut_figures(bundle), 1)
    ]
    return table("Kept cuts, median / 95th percentile of the times", head, rows, numeric=(2, 3, 4, 5, 6, 7))


def points_table(bundle: Bundle) -> str:
    """Kept operating points with everything that is known of them."""
    rows = rows_by_point(bundle.plan)
    names = [name for name in METRICS if any(name in row.metrics for row in bundle.plan.rows)]
    head = [
        "operating point",
        "sent, mean",
        "95 %",
        "fidelity",
        *(METRICS[n] for n in names),
        "edge ms",
        "encode",
        "decode",
        "cloud ms",
        "tail on the edge",
    ]
    shown = []
    for point in kept_points(bundle):
        row = rows.get(point.name)
        sent = (
            [data_size(point.payload_bytes), data_size(row.bytes_p95) if row else "–"] if point.remote else ["–", "–"]
        )
        times = (point.edge_ms, point.encode_ms, point.decode_ms, point.cloud_ms, point.resume_ms)
        shown.append(
            [
                _point_name(bundle, point.name, point.cut),
                *sent,
                f"{point.fidelity:.3f}",
                *(_metric(row, name) for name in names),
                *(milliseconds(value) if value else "–" for value in times),
            ]
        )
    return table("Kept operating points", head, shown, numeric=range(1, len(head)))


def variants_table(bundle: Bundle) -> str:
    """Quantised and smaller models beside what they stand for, offered or not; "" if none was tried."""
    kept = {point.name for point in kept_points(bundle)}
    groups: dict[tuple[str, str], list[RateRow]] = {}
    for row in bundle.plan.rows:
        if row.variant:
            groups.setdefault((row.cut, row.variant), []).append(row)
    head = ["variant", "edge ms", "the model's own", "best fidelity", "the model's own", "offered"]
    rows = []
    for (cut, variant), tried in groups.items():
        part = f"head {cut}" if cut else "full"
        mine, own = (stretched(timing(bundle, name), slowdown(bundle)) for name in (f"{part} {variant}", part))
        best = max(row.fidelity for row in tried)
        whole = max((r.fidelity for r in bundle.plan.rows if cut and r.cut == cut and not r.variant), default=1.0)
        offered = sum(row.point in kept for row in tried)
        rows.append(
            [
                _point_name(bundle, tried[0].point.rpartition("/")[0] if cut else tried[0].point, cut),
                milliseconds(mine.p50_ms if mine else None),
                milliseconds(own.p50_ms if own else None),
                f"{best:.3f}",
                f"{whole:.3f}",
                f"{offered} of {len(tried)}" if offered else "no: it does not pay",
            ]
        )
    return table("Quantised and smaller models on the edge", head, rows, numeric=(1, 2, 3, 4)) if rows else ""


def bins_table(bundle: Bundle) -> str:
    """Fidelity of each kept point by what the frames show; "" if only one kind of content is known."""
    rows = rows_by_point(bundle.plan)
    kept = [(p, rows[p.name]) for p in kept_points(bundle) if p.name in rows]
    columns = list(dict.fromkeys((b.objects, b.motion) for _, row in kept for b in row.bins))
    if len(columns) < 2:
        return ""
    frames = {(b.objects, b.motion): b.frames for _, row in kept for b in row.bins}
    head = ["operating point", *(f"{_content(*column)} ({frames[column]})" for column in columns)]
    shown = [
        [
            _point_name(bundle, point.name, point.cut),
            *(_heat({(b.objects, b.motion): b for b in row.bins}.get(column)) for column in columns),
        ]
        for point, row in kept
    ]
    return table("Fidelity by content (frames)", head, shown, numeric=range(1, len(head)))


def every_row_table(bundle: Bundle) -> str:
    kept = {point.name for point in kept_points(bundle)}
    head = ["way", "sent, mean", "95 %", "fidelity", "plain mean", "kept"]
    rows = [
        [
            _point_name(bundle, row.point, row.cut),
            data_size(row.bytes_mean) if row.codec else "–",
            data_size(row.bytes_p95) if row.codec else "–",
            f"{row.fidelity:.3f}",
            f"{row.agreement:.3f}",
            "kept" if row.point in kept else "",
        ]
        for row in bundle.plan.rows
    ]
    return table("Everything that was measured", head, rows, numeric=(1, 2, 3, 4))


def profiles_table(bundle: Bundle) -> str:
    head = ["device class", "device", "threads", "provider", "slowdown", "whole model ms", "per frame"]
    rows = []
    for profile in sorted(bundle.profiles.values(), key=lambda p: p.device_class):
        full = profile.times.get("full")
        energy = full.energy_mj if full else None
        rows.append(
            [
                f"<b>{words(profile.device_class)}</b>" if profile == bundle.profile else words(profile.device_class),
                words(profile.device),
                str(profile.threads),
                words(profile.provider),
                f"×{profile.edge_slowdown:g}",
                _spread(full),
                f"{energy:,.0f} mJ" if energy is not None else "–",
            ]
        )
    return table("Profiles; this page shows the one in bold", head, rows, numeric=(2, 4, 5, 6))


def rejected_tables(rejected: Sequence[RejectedCut]) -> str:
    """One folded table per stage, those that got furthest first."""
    parts = []
    for stage in reversed(STAGES):
        mine = [cut for cut in rejected if cut.stage == stage]
        if mine:
            rows = [[f"<code>{words(cut.name)}</code>", words(cut.reason)] for cut in mine[:MAX_REJECTED]]
            more = len(mine) - len(rows)
            rest = f'<p class="soft">{more:,} more are in plan.json.</p>' if more else ""
            heading = f'<summary>{words(STAGES[stage])} <span class="soft">({len(mine):,})</span></summary>'
            folded = "" if stage == "graph" and len(mine) > 12 else " open"
            inner = table(STAGES[stage], ["cut", "reason"], rows)
            parts.append(f"<details{folded}>{heading}{inner}{rest}</details>")
    return "".join(parts) or "<p>None was rejected.</p>"


def _point_name(bundle: Bundle, point: str, cut: str) -> str:
    names = [figures.entry.name for figures in cut_figures(bundle)]
    if cut in names:
        return series_name(names.index(cut) + 1, point)
    kind = "local" if point.startswith("local") else "s0"
    return f'<span class="swatch {kind}" aria-hidden="true"></span><code>{words(point)}</code>'


def _metric(row: RateRow | None, name: str) -> str:
    value = row.metrics.get(name) if row else None
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _content(objects: str, motion: str) -> str:
    many = {"0": "no objects", "1-3": "1–3 objects", "4+": "4 or more", "any": "any content"}.get(objects, objects)
    return f"{many}, {_MOTIONS.get(motion, motion)}"


def _heat(found: FidelityBin | None) -> str:
    if found is None:
        return "–"
    shade = next(name for least, name in _HEAT if found.fidelity >= least)
    return element("td", f"{found.fidelity:.3f}", class_=f"n {shade}")


def _share(figures: CutFigures) -> str:
    share = figures.entry.head_share if figures.share is None else figures.share
    return f"{share:.0%}"


def _spread(measured: PartTiming | None) -> str:
    if measured is None:
        return "–"
    return f'{milliseconds(measured.p50_ms)} <span class="soft">/ {milliseconds(measured.p95_ms)}</span>'


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
