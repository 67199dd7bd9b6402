"""Owns `plan.html`: one self-contained page about one plan. Pure: a bundle in, text out, all of it escaped.

The page needs no script and no network, and says so in its content security policy.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from pathlib import Path
from string import Template

from splitmesh.plan.bundle.draft import write_atomically
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.report.figures import (
    GOOD_FIDELITY,
    cut_figures,
    fewest_bytes,
    kept_points,
    slowdown,
    stretched,
    timing,
)
from splitmesh.plan.report.pareto import below_the_picture, draw_pareto
from splitmesh.plan.report.strip import draw_strip
from splitmesh.plan.report.svg import data_size, milliseconds, words
from splitmesh.plan.report.tables import (
    bins_table,
    cuts_table,
    every_row_table,
    points_table,
    profiles_table,
    rejected_tables,
    series_name,
    variants_table,
)

PAGE = "plan.html"
_WIDE, _NARROW = 900.0, 380.0


def render_page(bundle: Bundle) -> str:
    """The page of `bundle` with its selected profile. The same plan and profiles give the same text."""
    template, digest = _template()
    return template.substitute(
        digest=digest,
        title=f"Plan of {words(bundle.manifest.name)}",
        facts=_facts(bundle),
        tiles=_tiles(bundle),
        notes=_notes(bundle),
        strip=_strip(bundle),
        pareto=_pareto(bundle),
        cuts=cuts_table(bundle) if bundle.cuts else "<p>Nowhere: the whole model runs here or there.</p>",
        points=_points(bundle),
        profiles=f"<h2>Measured on</h2>{profiles_table(bundle)}" if bundle.profiles else "",
        rejected=rejected_tables(bundle.plan.rejected),
        footer=_footer(bundle),
    )


def write_page(bundle: Bundle) -> Path:
    """Put the page into the plan's own folder and return its path. Raises OutputError."""
    path = bundle.folder / PAGE
    write_atomically(path, render_page(bundle).encode())
    return path


@cache
def _template() -> tuple[Template, str]:
    """The page's template and the digest of its style sheet, which is all that the page may apply."""
    text = resources.files("splitmesh.plan.report").joinpath("page.html").read_text(encoding="utf-8")
    style = text[text.index("<style>") + len("<style>") : text.index("</style>")]
    return Template(text), base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def _facts(bundle: Bundle) -> str:
    manifest, plan, frames = bundle.manifest, bundle.plan, bundle.plan.frames
    model = [
        f"{manifest.postprocess.kind}, input {manifest.width}×{manifest.height} {manifest.color}",
        f"{plan.nodes:,} nodes",
        f"sha256 {bundle.sha256[:16]}…",
        f"licence {manifest.licence}",
    ]
    lines = [" · ".join(model)]
    if plan.calibrated:
        lines.append(f"Frames: {frames.parity} for parity, {frames.fit} to fit, {frames.evaluate} others to evaluate")
    profile = bundle.profile
    if profile:
        slowed = f" · edge taken to be ×{profile.edge_slowdown:g} slower" if profile.edge_slowdown != 1 else ""
        lines.append(
            f"Times: {profile.device_class}, {profile.device}, {profile.threads} "
            f"thread{'s' if profile.threads > 1 else ''}, {profile.provider}{slowed}"
        )
    return "".join(f'<p class="facts">{words(line)}</p>' for line in lines)


def _tiles(bundle: Bundle) -> str:
    plan = bundle.plan
    best, full = fewest_bytes(plan), stretched(timing(bundle, "full"), slowdown(bundle))
    worst = max((cut.parity_max_rel for cut in bundle.cuts), default=None)
    singles = "1, 2 and 4 at once gave what singles give" if plan.batchable else "one frame at a time"
    return "".join(
        [
            _tile("cuts kept", len(bundle.cuts), f"of {plan.frontiers:,} frontiers looked at"),
            _tile("operating points", len(kept_points(bundle)), f"of {len(plan.rows):,} ways measured"),
            _tile("fewest bytes", data_size(best.bytes_mean), f"at fidelity {GOOD_FIDELITY:g}: {best.point}")
            if best
            else _tile("fewest bytes", "–", f"no way keeps {GOOD_FIDELITY:g}"),
            _tile(
                "whole model on the edge", f"{milliseconds(full.p50_ms)} ms", f"95 %: {milliseconds(full.p95_ms)} ms"
            )
            if full
            else _tile("whole model on the edge", "–", "not profiled"),
            _tile(
                "largest parity error", "–" if worst is None else f"{worst:.0e}", "relative, tail∘head v the model"
            ),
            _tile("takes batches", "yes" if plan.batchable else "no", singles),
            _tile("same bits twice", "yes" if plan.deterministic else "no", "two runs on one frame"),
            _tile("tracking fades by", f"κ {bundle.track_kappa:.3g}", f"from {plan.track_samples:,} samples"),
        ]
    )


def _tile(what: str, value: object, note: str) -> str:
    shown = f'<dt>{words(what)}</dt><dd class="value">{words(value)}</dd><dd class="note">{words(note)}</dd>'
    return f'<div class="tile">{shown}</div>'


def _notes(bundle: Bundle) -> str:
    if not bundle.plan.notes:
        return ""
    listed = "".join(f"<li>{words(note)}</li>" for note in bundle.plan.notes)
    return f"<h2>Guessed and decided for you</h2><ul>{listed}</ul>"


def _strip(bundle: Bundle) -> str:
    drawn = "".join(
        draw_strip(bundle, width=width, name=f"strip-{name}")
        for name, width in (("wide", _WIDE), ("narrow", _NARROW))
    )
    if not drawn:
        return ""
    cuts = [f"<li>{series_name(n, figures.entry.name)}</li>" for n, figures in enumerate(cut_figures(bundle), 1)]
    told = (
        "<figcaption>The lower line spreads the whole model's measured time over the nodes by the size of their "
        "work; the dots are heads as they were measured.</figcaption>"
        if bundle.profile
        else ""
    )
    keys = [
        '<li><span class="swatch live"></span>elements live after a node (gap: unknown)</li>',
        '<li><span class="swatch bar"></span>rejected from the graph</li>',
        '<li><span class="swatch tick"></span>rejected after measuring</li>',
    ]
    return (
        "<h2>The graph as a strip</h2>"
        '<p class="soft">To cut after a node is to send everything that is live there. A good cut lies where the '
        "upper panel is low, well under the input picture, and is early in the lower panel.</p>"
        f'<figure>{drawn}<ul class="legend">{"".join(cuts + keys)}</ul>'
        f"{told}</figure>"
    )


def _pareto(bundle: Bundle) -> str:
    drawn = draw_pareto(bundle, width=_WIDE, height=460, name="pareto-wide")
    if not drawn:
        return ""
    drawn += draw_pareto(bundle, width=_NARROW, height=440, name="pareto-narrow")
    series = [f"<li>{series_name(n, figures.entry.name)}</li>" for n, figures in enumerate(cut_figures(bundle), 1)]
    series.append('<li><span class="swatch s0"></span>the picture itself</li>')
    series.append('<li><span class="swatch local"></span>everything on the edge</li>')
    hidden = below_the_picture(bundle)
    lower = f" {hidden} that keep less than is drawn are only in the table." if hidden else ""
    return (
        "<h2>Bytes, fidelity, and the edge's time</h2>"
        '<p class="soft">Up and left is better. Full dots are offered to the policy; the larger, the longer the edge '
        "computes. Hollow ones were measured and are beaten by others. Squares run a quantised or smaller model.</p>"
        f'<figure>{drawn}<ul class="legend">{"".join(series)}</ul>'
        "<figcaption>Fidelity is agreement with the unsplit fp32 model on frames that nothing was fitted to. It does "
        f"not say how good the model is.{lower}</figcaption></figure>"
    )


def _points(bundle: Bundle) -> str:
    if not bundle.plan.calibrated:
        return "<p>This plan holds the parts only: it was made without frames, so nothing was calibrated.</p>"
    variants, bins = variants_table(bundle), bins_table(bundle)
    every = f'Everything that was measured <span class="soft">({len(bundle.plan.rows):,})</span>'
    rows = f"<details><summary>{every}</summary>{every_row_table(bundle)}</details>"
    return (
        "<h2>What the policy may choose</h2>"
        + points_table(bundle)
        + (f"<h2>Variants</h2>{variants}" if variants else "")
        + (f"<h2>What the content does to it</h2>{bins}" if bins else "")
        + rows
    )


def _footer(bundle: Bundle) -> str:
    tools = ", ".join(f"{name} {version}" for name, version in sorted(bundle.plan.tools.items()))
    key = bundle.plan.key
    lines = [
        f"Model sha256 {key.model_sha256}",
        f"Frames sha256 {key.footage_sha256 or '–'}",
        f"Plan format {key.format}, revision {key.revision}; {tools}",
    ]
    return "<br>".join(words(line) for line in lines)
