"""Owns the Pareto picture: bytes and fidelity of every way to treat a frame, the edge's milliseconds as the size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import RateRow
from splitmesh.plan.report.figures import GOOD_FIDELITY, cut_figures, kept_points, slowdown, timing
from splitmesh.plan.report.svg import (
    Box,
    Scale,
    collides,
    data_size,
    element,
    label,
    line,
    milliseconds,
    path,
    picture,
    text_box,
    words,
)

_LANE = 58.0
"""Width of the lane on the left for what sends nothing."""
_TOP, _BOTTOM, _TICKS, _RIGHT = 30.0, 46.0, 44.0, 16.0
_RADIUS = (3.5, 11.0)
_LEAST_SHOWN = 0.5
_TEXT = 11.0


@dataclass(frozen=True, slots=True)
class Dot:
    """One row in the picture. `kind`: class of its series, "s1"… by cut, "s0" the picture, "local"."""

    point: str
    kind: str
    codec: str
    level: int
    variant: str
    bytes_mean: float
    fidelity: float
    edge_ms: float | None
    kept: bool

    @property
    def short(self) -> str:
        if self.kind == "local":
            return self.variant or "local"
        return f"{self.codec}-{self.level}{' ' + self.variant if self.variant else ''}"

    @property
    def about(self) -> str:
        sent = data_size(self.bytes_mean) if self.codec else "nothing sent"
        spent = f", {milliseconds(self.edge_ms)} ms on the edge" if self.edge_ms is not None else ""
        return f"{self.point}: {sent}, fidelity {self.fidelity:.3f}{spent}{'' if self.kept else ' (not kept)'}"


def dots(bundle: Bundle) -> list[Dot]:
    """Every measured row, and the model itself on the edge; kept ones last, so that they lie on top."""
    series = {figures.entry.name: f"s{number}" for number, figures in enumerate(cut_figures(bundle), 1)}
    kept = {point.name for point in kept_points(bundle)}
    found = [Dot("local", "local", "", 0, "", 0.0, 1.0, _edge_ms(bundle, "full"), "local" in kept)]
    for row in bundle.plan.rows:
        kind = "local" if not row.codec else series.get(row.cut, "s0")
        how = (row.codec, row.level, row.variant, row.bytes_mean, row.fidelity)
        found.append(Dot(row.point, kind, *how, _edge_ms(bundle, _part(row)), row.point in kept))
    return sorted(found, key=lambda dot: (dot.kept, dot.point))


def _part(row: RateRow) -> str:
    """Name of what the edge runs, as profiles call it; "" for a picture that is only coded."""
    if row.codec and not row.cut:
        return ""
    return " ".join(filter(None, (f"head {row.cut}" if row.cut else "full", row.variant)))


def _edge_ms(bundle: Bundle, part: str) -> float | None:
    if not part:
        return 0.0 if bundle.profile else None
    found = timing(bundle, part)
    return found.p50_ms * slowdown(bundle) if found else None


def draw_pareto(bundle: Bundle, *, width: float, height: float, name: str) -> str:
    """The picture; "" for a plan that was not calibrated."""
    every = dots(bundle)
    sent = [dot for dot in every if dot.kind != "local" and dot.bytes_mean > 0]
    if not sent:
        return ""
    low_bytes, high_bytes = min(d.bytes_mean for d in sent), max(d.bytes_mean for d in sent)
    x = Scale(low_bytes / 1.25, high_bytes * 1.35, _TICKS + _LANE, width - _RIGHT, log=True)
    y = Scale(_floor(every), 1.0, height - _BOTTOM, _TOP)
    size = Scale(0.0, math.sqrt(max((d.edge_ms or 0.0 for d in every), default=0.0)) or 1.0, *_RADIUS)
    shown = [dot for dot in every if dot.fidelity >= y.low]
    return picture(
        width,
        height,
        _grid(x, y, height),
        *_threads(shown, x, y),
        *(_dot(dot, x, y, size) for dot in shown),
        *_labels([dot for dot in shown if dot.kept], shown, x, y, size, width),
        *_size_legend(size, width) if bundle.profile else (),
        title="Bytes, fidelity and the edge's time",
        about=_about(every, y.low),
        name=name,
    )


def below_the_picture(bundle: Bundle) -> int:
    """How many rows lie below the lowest fidelity that is drawn."""
    every = dots(bundle)
    return sum(dot.fidelity < _floor(every) for dot in every)


def _floor(every: Sequence[Dot]) -> float:
    """Lowest fidelity drawn: that of the worst row, but ½ if no kept point is worse. A step of 0.05 below it."""
    worst = min(dot.fidelity for dot in every)
    if worst < _LEAST_SHOWN:
        worst = min([_LEAST_SHOWN, *(dot.fidelity for dot in every if dot.kept)])
    return max(0.0, math.floor(min(worst, 0.985) * 20 - 0.2) / 20)


def _grid(x: Scale, y: Scale, height: float) -> str:
    bottom = height - _BOTTOM
    parts = [
        element("rect", x=_TICKS, y=_TOP - 8, width=_LANE - 8, height=bottom - _TOP + 8, rx=4, class_="lane"),
        label(_TICKS + (_LANE - 8) / 2, bottom + 16, "nothing", "tick", "middle"),
    ]
    for value in y.ticks(5):
        parts += [
            line(_TICKS, y(value), x.end, y(value), "grid"),
            label(_TICKS - 6, y(value) + 4, f"{value:.2f}", "tick", "end"),
        ]
    for value in x.ticks():
        parts += [
            line(x(value), y.end, x(value), bottom, "grid"),
            label(x(value), bottom + 16, _round_bytes(value), "tick", "end" if x(value) > x.end - 16 else "middle"),
        ]
    parts += [
        line(x.start, bottom, x.end, bottom, "axis"),
        label((x.start + x.end) / 2, bottom + 36, "bytes sent per frame, mean", "tick", "middle"),
    ]
    parts.append(label(4, 12, "fidelity", "head"))
    if y.low < GOOD_FIDELITY:
        parts += [
            line(x.start, y(GOOD_FIDELITY), x.end, y(GOOD_FIDELITY), "good"),
            label(x.end, y(GOOD_FIDELITY) + 12, f"{GOOD_FIDELITY:g}", "note good", "end"),
        ]
    return "".join(parts)


def _round_bytes(value: float) -> str:
    return f"{value / 1e6:g} MB" if value >= 1e6 else f"{value / 1e3:g} kB" if value >= 1e3 else f"{value:g} B"


def _threads(shown: Sequence[Dot], x: Scale, y: Scale) -> Iterable[str]:
    """The levels of one codec at one cut are a thread."""
    groups = dict.fromkeys((d.kind, d.codec, d.variant) for d in shown if d.kind != "local")
    for group in groups:
        mine = sorted((d for d in shown if (d.kind, d.codec, d.variant) == group), key=lambda d: d.level)
        yield path([(x(d.bytes_mean), y(d.fidelity)) for d in mine], f"thread {group[0]}")


def _at(dot: Dot, x: Scale, y: Scale) -> tuple[float, float]:
    across = _TICKS + (_LANE - 8) / 2 if dot.kind == "local" else x(dot.bytes_mean)
    return across, y(dot.fidelity)


def _dot(dot: Dot, x: Scale, y: Scale, size: Scale) -> str:
    """A disc; a square for what runs a variant; hollow and faint if not kept."""
    across, up = _at(dot, x, y)
    radius = size(math.sqrt(dot.edge_ms or 0.0)) if dot.kept else 2.6
    about = element("title", words(dot.about))
    kind = f"dot {dot.kind}{'' if dot.kept else ' faint'}"
    if dot.variant:
        side = 1.8 * radius
        return element("rect", about, x=across - side / 2, y=up - side / 2, width=side, height=side, class_=kind)
    return element("circle", about, cx=across, cy=up, r=radius, class_=kind)


def _labels(
    kept: Sequence[Dot], shown: Sequence[Dot], x: Scale, y: Scale, size: Scale, width: float
) -> Iterable[str]:
    """A name beside each kept dot where there is room for it, with a leader where it had to move away."""
    taken = [_disc(dot, x, y, size) for dot in shown if dot.kept]
    taken.append(text_box(x.end, y(GOOD_FIDELITY) + 12, f"{GOOD_FIDELITY:g}", _TEXT, "end"))
    for dot in sorted(kept, key=lambda d: (d.kind != "local", -d.fidelity, d.bytes_mean)):
        across, up = _at(dot, x, y)
        radius = size(math.sqrt(dot.edge_ms or 0.0))
        for place_x, place_y, anchor in _places(across, up, radius + 3, local=dot.kind == "local"):
            box = text_box(place_x, place_y, dot.short, _TEXT, anchor)
            inside = box[0] >= 2 and box[2] <= width - 2 and box[1] >= 2 and box[3] <= y.start - 2
            if inside and not collides(box, taken):
                taken.append(box)
                far = math.hypot(place_x - across, place_y - 4 - up) > radius + 14
                yield line(across, up, place_x, place_y - 4, f"leader {dot.kind}") if far else ""
                yield label(place_x, place_y, dot.short, f"name halo {dot.kind}", anchor)
                break


def _disc(dot: Dot, x: Scale, y: Scale, size: Scale) -> Box:
    (across, up), radius = _at(dot, x, y), size(math.sqrt(dot.edge_ms or 0.0))
    return (across - radius, up - radius, across + radius, up + radius)


def _places(x: float, y: float, gap: float, *, local: bool) -> Iterable[tuple[float, float, str]]:
    """Where a name may stand, the best place first: beside, below, above, then further off."""
    if local:
        yield from ((x, y + gap + 9, "middle"), (x, y - gap, "middle"), (x, y + gap + 22, "middle"))
        return
    for further in (0.0, 10.0, 22.0, 36.0, 52.0, 70.0):
        off = gap + 0.7 * further
        yield from (
            (x + off, y + 4 + further, "start"),
            (x - off, y + 4 + further, "end"),
            (x + off, y + 4 - further, "start"),
            (x - off, y + 4 - further, "end"),
            (x, y + gap + 9 + further, "middle"),
            (x, y - gap - further, "middle"),
        )


def _size_legend(size: Scale, width: float) -> Iterable[str]:
    """Three discs with the edge's milliseconds, right-aligned in the margin above."""
    most = next(
        (value for value in reversed(Scale(0.1, max(size.high**2, 0.11), 0, 1, log=True).ticks()) if value), 0.1
    )
    at = width - _RIGHT
    for value in (most, most / 5, 0.0):
        text = f"{value:g} ms" if value else "0"
        yield label(at, 16, text, "tick", "end")
        at -= 0.58 * _TEXT * len(text) + 4 + size(math.sqrt(value))
        yield element("circle", cx=at, cy=12, r=size(math.sqrt(value)), class_="dot sizes")
        at -= size(math.sqrt(value)) + 9
    yield label(at, 16, "model time on the edge", "tick", "end")


def _about(every: Sequence[Dot], low: float) -> str:
    kept = "; ".join(dot.about for dot in every if dot.kept)
    return f"Fidelity from {low:g} to 1 over bytes. {len(every)} rows measured. Kept: {kept or 'none'}."
