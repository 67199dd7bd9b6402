"""Owns the HTML page of a run: one file, no script, no other files. Pure: figures in, text out, all of it escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from meshload import text
from meshload.histogram import FINE, Histogram, quantiles_ns
from splitmesh.plan.report.svg import Scale, element, label, line, path, picture, words

_WIDTH, _HEIGHT = 900.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 30.0, 12.0, 28.0
_TIMES = ("mean", "p50", "p90", "p99", "p999", "p9999", "max")
_SHARES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999)

Series = tuple[str, str, Sequence[tuple[float, float | None]]]
"""Class of the stroke, its name in the key, points (x, y); None: a gap."""


def render_page(figures: Mapping[str, Any]) -> str:
    """The page of a document that `results.document_of` made."""
    template, digest = _template()
    return template.substitute(
        digest=digest,
        title=words(f"meshload: {figures['target']}"),
        facts="".join(f'<p class="facts">{words(figures[key])}</p>' for key in ("described", "load", "payload")),
        notes="".join(f'<p class="note">{words(note)}</p>' for note in figures["notes"]),
        tiles=_tiles(figures),
        times=_times(figures),
        rates=_rates(figures["timeline"]),
        latencies=_latencies(figures),
        percentiles=_percentiles(figures),
        failures=_table("What was not answered", {**figures["refused"], **figures["errors"]}, ("class", "requests")),
        tenants=_tenants(figures["tenants"]),
        footer=words(f"Started {figures['started']}" if figures["started"] else ""),
    )


@cache
def _template() -> tuple[Template, str]:
    """The page's template and the digest of its style sheet, which is all that the page may apply."""
    found = resources.files("meshload").joinpath("page.html").read_text(encoding="utf-8")
    style = found[found.index("<style>") + len("<style>") : found.index("</style>")]
    return Template(found), base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def _tiles(figures: Mapping[str, Any]) -> str:
    asked = figures["asked_rps"]
    rows = [
        ("answered", f"{figures['achieved_rps']:,.1f}/s", f"of {asked:,.1f}/s asked" if asked else "closed loop"),
        ("latency p50", f"{text.amount(figures['latency_ms']['p50'])} ms", "from the intended send"),
        ("latency p99", f"{text.amount(figures['latency_ms']['p99'])} ms", "from the intended send"),
    ]
    if figures["deadline_ms"]:
        rows.append(("in time", text.percent(figures["hit"]), f"goodput {figures['goodput_rps']:,.1f}/s"))
    generator = figures["generator"]
    lag = text.amount(generator["lag_ms_p99"])
    rows.append(("generator's lag p99", f"{lag} ms", f"CPU {generator['cpu']:.0%} of a core"))
    return "".join(
        f'<div class="tile">{words(what)}<b>{words(value)}</b><span>{words(note)}</span></div>'
        for what, value, note in rows
    )


def _times(figures: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("", *_TIMES))
    rows = ""
    for title, key in (("latency", "latency_ms"), ("service", "service_ms"), ("server's own", "server_ms")):
        if figures[key]["p50"] is not None:
            cells = "".join(f"<td>{text.amount(figures[key][name])}</td>" for name in _TIMES)
            rows += f"<tr><td>{title}</td>{cells}</tr>"
    return f"<table><tr>{head}</tr>{rows}</table>"


def _rates(timeline: Sequence[Mapping[str, Any]]) -> str:
    failed = [
        (row["second"], sum(row[name] for name in ("refused", "error", "timeout", "unsent"))) for row in timeline
    ]
    series: list[Series] = [
        ("dash", "wanted by the schedule", [(row["second"], row["offered"]) for row in timeline]),
        ("a", "answered", [(row["second"], row["completed"]) for row in timeline]),
    ]
    if any(count for _, count in failed):
        series.append(("bad", "refused, failed or given up", failed))
    return _plot(series, name="rates", about="Requests per second over the run", from_zero=True)


def _latencies(figures: Mapping[str, Any]) -> str:
    series: list[Series] = [
        (kind, title, [(row["second"], row[key]) for row in figures["timeline"]])
        for kind, title, key in (("a", "p50", "p50_ms"), ("b", "p99", "p99_ms"), ("c", "max", "max_ms"))
    ]
    return _plot(series, name="latency", about="Latency in ms by the second of the intended send", unit=" ms")


def _percentiles(figures: Mapping[str, Any]) -> str:
    """Against log(1/(1−q)), as HdrHistogram draws it, so that the tail has room."""
    series: list[Series] = []
    for kind, title, key in (("a", "latency", "latency"), ("b", "service", "service")):
        histogram = Histogram.from_document(figures["counts"][key])
        total = len(histogram)
        shares = tuple(share for share in _SHARES if (1 - share) * total >= 1)
        if shares:
            found = quantiles_ns(histogram.counts[None, :], FINE.highest_ns, shares)[0] / 1e6
            series.append((kind, title, [(1 / (1 - q), float(ms)) for q, ms in zip(shares, found, strict=True)]))
    return _plot(series, name="quantiles", about="Latency in ms by percentile", unit=" ms", percentiles=True)


def _plot(
    series: Sequence[Series], *, name: str, about: str, unit: str = "", from_zero: bool = False,
    percentiles: bool = False,
) -> str:  # fmt: skip
    xs = [x for _, _, points in series for x, _ in points]
    ys = [y for _, _, points in series for _, y in points if y is not None]
    if len(set(xs)) < 2 or not ys:
        return '<p class="soft">Too little was measured to draw.</p>'
    low = 0.0 if from_zero else max(min(ys), 1e-3) * 0.9
    x = Scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT, log=percentiles)
    y = Scale(low, max(max(ys), low * 1.001, 1e-3) * 1.05, _HEIGHT - _BOTTOM, _TOP, log=not from_zero)
    drawn = []
    for value in y.ticks():
        drawn += [line(_LEFT, y(value), _WIDTH - _RIGHT, y(value), "grid")]
        drawn += [label(_LEFT - 6, y(value) + 4, f"{value:g}{unit}", anchor="end")]
    for value in x.ticks(8):
        shown = f"{100 * (1 - 1 / value):.6g} %" if percentiles else f"{value:g} s"
        drawn.append(label(x(value), _HEIGHT - 8, shown, anchor="middle"))
    for kind, _, points in series:
        drawn += [path([(x(a), y(b)) for a, b in run], kind) for run in _runs(points)]
    key = "".join(element("li", element("span", " ", class_=f"k{kind}"), words(title)) for kind, title, _ in series)
    svg = picture(_WIDTH, _HEIGHT, *drawn, title=about, about=about, name=f"{name}-wide")
    return f'<figure>{svg}<ul class="key">{key}</ul></figure>'


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """Stretches without a gap."""
    runs: list[list[tuple[float, float]]] = [[]]
    for a, b in points:
        if b is None:
            runs.append([])
        else:
            runs[-1].append((a, b))
    return runs


def _tenants(tenants: Mapping[str, Any]) -> str:
    if not tenants:
        return ""
    rows = "".join(
        f"<tr><td>{words(name)}</td><td>{share['requests']:,}</td><td>{text.percent(share['hit'])}</td>"
        f"<td>{text.amount(share['p50_ms'])}</td><td>{text.amount(share['p99_ms'])}</td></tr>"
        for name, share in tenants.items()
    )
    head = "<tr><th>tenant</th><th>requests</th><th>in time</th><th>p50 ms</th><th>p99 ms</th></tr>"
    return f'<h2>Tenants</h2><div class="wide"><table>{head}{rows}</table></div>'


def _table(title: str, counts: Mapping[str, int], head: tuple[str, str]) -> str:
    if not counts:
        return ""
    rows = "".join(f"<tr><td>{words(name)}</td><td>{count:,}</td></tr>" for name, count in counts.items())
    return f"<h2>{title}</h2><table><tr><th>{head[0]}</th><th>{head[1]}</th></tr>{rows}</table>"
