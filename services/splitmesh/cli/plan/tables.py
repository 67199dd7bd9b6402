"""Owns how a plan looks on a terminal. Reads nothing but the values it is given."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import PartTiming, ProfileFile, RejectedCut
from splitmesh.plan.report.diff import Change, Difference, Pair
from splitmesh.plan.report.figures import cut_figures, kept_points
from splitmesh.plan.report.svg import milliseconds

if TYPE_CHECKING:
    from splitmesh.inference.planning.parity import Verdict

REASONS_SHOWN = 4
_CUT_FACTS = {"elements": "elements", "parity_max_rel": "parity", "edge_ms": "edge ms", "cloud_ms": "cloud ms"}
_POINT_FACTS = {"bytes_mean": "bytes", "fidelity": "fidelity", "edge_ms": "edge ms", "cloud_ms": "cloud ms"}
_FIGURE = re.compile(r"\b[nm]\d+(?:-[\w-]+)?|\d[\d.,e]*(?:\s?%)?")
_WIDTH = 120
"""Columns of output that no terminal bounds."""
_STATE_STYLE = {"added": "green", "removed": "red", "changed": "yellow", "same": "dim"}


def table_console(*, stderr: bool = False) -> Console:
    """As wide as the terminal, or as COLUMNS says; wide enough for whole names where the output is a file."""
    console = Console(stderr=stderr)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(stderr=stderr, width=_WIDTH)


def show_plan(console: Console, bundle: Bundle) -> None:
    """All of it: whose plan, cuts, operating points, rejected cuts."""
    show_head(console, bundle)
    show_cuts(console, bundle)
    show_points(console, bundle)
    show_rejected(console, bundle.plan.rejected)


def show_head(console: Console, bundle: Bundle) -> None:
    plan, profile = bundle.plan, bundle.profile
    batches = "any batch size" if plan.batchable else "one frame at a time"
    console.print(
        Text.assemble(
            (bundle.manifest.name, "bold"),
            f"  {bundle.manifest.postprocess.kind}, sha256 {bundle.sha256[:16]}…, {plan.nodes:,} nodes, "
            f"{plan.frontiers:,} frontiers, {batches}, "
            f"{'deterministic' if plan.deterministic else 'not deterministic'}",
        )
    )
    if plan.calibrated:
        frames = plan.frames
        fit = f"{frames.parity} frames for parity, {frames.fit} to fit, {frames.evaluate} others to evaluate"
        console.print(Text(f"{fit}; κ {plan.track_kappa:.3g}", style="dim"))
    if profile:
        threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
        slowed = f", edge taken to be ×{profile.edge_slowdown:g} slower" if profile.edge_slowdown != 1 else ""
        console.print(
            Text(
                f"times of {profile.device_class}: {profile.device}, {threads}, {profile.provider}{slowed}",
                style="dim",
            )
        )
    others = sorted(bundle.profiles.keys() - ({profile.device_class} if profile else set()))
    if others:
        console.print(Text(f"also profiled on: {', '.join(others)}", style="dim"))
    for name, why in sorted(bundle.refused.items()):
        console.print(Text(f"profile {name} can't be used: {why}", style="yellow"))


def show_cuts(console: Console, bundle: Bundle) -> None:
    if not bundle.cuts:
        console.print("no cuts: the whole model runs here or there")
        return
    table = _table("cuts (times in ms)", ("cut", "tensors"), ("elements", "head", "edge", "cloud", "parity", "batch"))
    for figures in cut_figures(bundle):
        entry = figures.entry
        share = entry.head_share if figures.share is None else figures.share
        table.add_row(
            Text(entry.name),
            Text(" + ".join("×".join(map(str, tensor.shape)) for tensor in entry.tensors)),
            f"{entry.elements:,}",
            f"{share:.0%}",
            milliseconds(figures.edge.p50_ms if figures.edge else None),
            milliseconds(figures.cloud.p50_ms if figures.cloud else None),
            f"{entry.parity_max_rel:.0e}",
            "any" if entry.batchable else "1",
        )
    _print(console, table)


def show_points(console: Console, bundle: Bundle) -> None:
    points = kept_points(bundle)
    if not points:
        parts = "the plan holds the parts only" if not bundle.plan.calibrated else "no device has profiled this plan"
        console.print(f"no operating points: {parts}")
        return
    headings = ("kB", "fidelity", "edge", "enc", "dec", "cloud", "resume")
    table = _table("operating points (times in ms)", ("point",), headings)
    for point in points:
        times = (point.edge_ms, point.encode_ms, point.decode_ms, point.cloud_ms, point.resume_ms)
        table.add_row(
            Text(point.name),
            f"{point.payload_bytes / 1e3:.1f}" if point.remote else "–",
            f"{point.fidelity:.3f}",
            *(milliseconds(value) if value else "–" for value in times),
        )
    _print(console, table)


def show_rejected(console: Console, rejected: Sequence[RejectedCut]) -> None:
    """Those that got as far as a measurement one by one, the others by reason."""
    if not rejected:
        return
    console.print(Text("rejected", style="bold"))
    for cut in rejected:
        if cut.stage != "graph":
            console.print(Text(f"  {cut.name} ({cut.stage}): {cut.reason}", style="dim"))
    graph = [cut for cut in rejected if cut.stage == "graph"]
    kinds = Counter(kind for cut in graph for kind in {_kind(reason) for reason in cut.reason.split("; ")})
    for kind, count in kinds.most_common(REASONS_SHOWN):
        console.print(Text(f"  {count:,} from the graph: {kind}", style="dim"))
    if graph:
        console.print(Text("  each with its reason: see plan.html", style="dim"))


def _kind(reason: str) -> str:
    """A reason without its figures and names, so that those of a kind can be counted."""
    return _FIGURE.sub("…", reason.split(" ×")[0])


def show_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    table = _table(
        "parity on this machine", ("cut",), ("frames", "worst, relative", "limit"), ("same bits", "verdict")
    )
    for verdict in verdicts:
        said = Text("holds", "green") if verdict.holds else Text(verdict.reason, "bold red")
        table.add_row(
            Text(verdict.cut),
            str(verdict.frames),
            f"{verdict.max_rel:.1e}",
            f"{verdict.limit:.0e}",
            "yes" if verdict.deterministic else "no",
            said,
        )
    _print(console, table)


def show_profiles(console: Console, old: ProfileFile | None, new: ProfileFile) -> None:
    """What the parts take now, beside what the same device class took before, if it is known."""
    console.print(Text(f"{new.device_class}: {new.device}, {new.threads} thread(s), {new.provider}"))
    table = _table("p50 / p95 ms", ("part",), ("before", "now", "change") if old else ("now",))
    for name, timing in new.times.items():
        if name.startswith(("encode", "decode")):
            continue
        before = old.times.get(name) if old else None
        change = f"{timing.p50_ms / before.p50_ms - 1:+.0%}" if before and before.p50_ms else "–"
        table.add_row(Text(name), *([_spread(before), _spread(timing), change] if old else [_spread(timing)]))
    _print(console, table)


def show_difference(console: Console, difference: Difference) -> None:
    if difference.same:
        console.print("the same plan with the same profiles")
        return
    if difference.same_plan:
        console.print("the same plan; only what devices measured differs")
    _show_changes(console, "facts", difference.facts)
    _show_changes(console, "profiles", difference.profiles)
    _show_pairs(console, "cuts", difference.cuts, _CUT_FACTS)
    _show_pairs(console, "operating points", difference.points, _POINT_FACTS)


def _show_changes(console: Console, title: str, changes: Sequence[Change]) -> None:
    if changes:
        table = _table(title, ("what", "a", "b"), ())
        for change in changes:
            table.add_row(*(Text(_cell(value)) for value in (change.what, change.a, change.b)))
        _print(console, table)


def _show_pairs(console: Console, title: str, pairs: Sequence[Pair], facts: Mapping[str, str]) -> None:
    """One row per cut or point; a figure that is the same in both stands there once."""
    if not pairs:
        return
    table = _table(f"{title} (a → b)", ("", title.removesuffix("s")), tuple(facts.values()))
    for pair in pairs:
        cells = ((_fact(pair.a, fact), _fact(pair.b, fact)) for fact in facts)
        shown = (one if one == other else f"{one} → {other}" for one, other in cells)
        table.add_row(Text(pair.state, _STATE_STYLE[pair.state]), Text(pair.name), *shown)
    _print(console, table)


def _fact(of: Mapping[str, Any] | None, fact: str) -> str:
    value = None if of is None else of[fact]
    if value is None:
        return "–"
    if fact == "fidelity":
        return f"{value:.3f}"
    if fact == "parity_max_rel":
        return f"{value:.0e}"
    return milliseconds(value) if fact.endswith("_ms") else f"{value:,.0f}"


def _cell(value: object) -> str:
    text = "–" if value is None else "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _spread(timing: PartTiming | None) -> str:
    return "–" if timing is None else f"{milliseconds(timing.p50_ms)} / {milliseconds(timing.p95_ms)}"


def _table(title: str, left: Sequence[str], right: Sequence[str], more: Sequence[str] = ()) -> Table:
    """Columns of words fold where the terminal is narrow; those in `right` are numbers and stay whole."""
    tight = (0, 1, 0, 0)
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=tight)
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in more:
        table.add_column(heading, overflow="fold")
    return table


def _print(console: Console, table: Table) -> None:
    for column in table.columns:
        if column.justify == "right":
            column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
    console.print(table)
