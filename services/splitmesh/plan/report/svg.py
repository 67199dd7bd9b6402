"""Owns the small vocabulary that pictures are drawn with: escaped markup, scales, numbers for people, free places.

Colours and sizes of text come from the page's style sheet by class, so that one drawing serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

Box = tuple[float, float, float, float]
"""left, top, right, bottom."""

_CHARACTER = 0.6
"""Mean width of a character over the font's size; a little generous."""


def words(text: object) -> str:
    """`text` as it may stand in markup, within quotes too; characters that can't be printed become U+FFFD."""
    return escape("".join(c if c.isprintable() else "\ufffd" for c in str(text)), quote=True)


def element(tag: str, *children: str, **attributes: object) -> str:
    """`<tag …>children</tag>`. Children are markup; attributes are escaped here, numbers cut to a tenth.

    A trailing underscore of a name is dropped and others become dashes; attributes that are None are left out.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{words(_short(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inner = "".join(children)
    return f"<{tag}{given}>{inner}</{tag}>" if inner or tag in ("p", "td", "th") else f"<{tag}{given}/>"


def picture(width: float, height: float, *children: str, title: str, about: str, name: str) -> str:
    """An `<svg>` with a title and a description for those who do not see it. `name`: unique on the page."""
    return element(
        "svg",
        element("title", words(title), id=f"{name}-t"),
        element("desc", words(about), id=f"{name}-d"),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{name}-t",
        aria_describedby=f"{name}-d",
        class_=name.partition("-")[2] or None,
    )


def label(x: float, y: float, text: object, kind: str = "", anchor: str | None = None) -> str:
    return element("text", words(text), x=x, y=y, class_=kind or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return element("path", d=f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}", class_=kind)


def path(points: Iterable[tuple[float, float]], kind: str, *, closed: bool = False) -> str:
    """One stroke through all points; nothing for fewer than two."""
    steps = [f"{x:.1f} {y:.1f}" for x, y in points]
    if len(steps) < 2:
        return ""
    return element("path", d="M" + "L".join(steps) + ("Z" if closed else ""), class_=kind)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] to [start, end], linearly or (then low > 0) by the logarithm; values outside are clamped."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (self.end - self.start) * ((at - low) / (high - low) if high > low else 0.0)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within the range: decades of a logarithmic scale (with 2 and 5 where there are few)."""
        if not self.log:
            return _round_steps(self.low, self.high, count)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        lead = (1, 2, 5) if self.high < 200 * self.low else (1,)
        every = [digit * 10.0**power for power in range(first, last + 1) for digit in lead]
        return [value for value in every if self.low * 0.999 <= value <= self.high * 1.001]


def _round_steps(low: float, high: float, count: int) -> list[float]:
    if high <= low:
        return [low]
    raw = (high - low) / max(count, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def text_box(x: float, y: float, text: str, size: float, anchor: str = "start") -> Box:
    """What `label` covers with its baseline at (x, y)."""
    width = _CHARACTER * size * len(text)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return (left, y - 0.8 * size, left + width, y + 0.25 * size)


def collides(box: Box, others: Sequence[Box], margin: float = 1.0) -> bool:
    left, top, right, bottom = box
    return any(
        left < o[2] + margin and right > o[0] - margin and top < o[3] + margin and bottom > o[1] - margin
        for o in others
    )


def count(value: float) -> str:
    """A number on an axis: "950", "12k", "1.5M"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def data_size(value: float) -> str:
    """Bytes for people: "812 B", "14.2 kB", "3.10 MB"."""
    if value >= 1e6:
        return f"{value / 1e6:.2f} MB"
    return f"{value / 1e3:.1f} kB" if value >= 1e3 else f"{value:.0f} B"


def milliseconds(value: float | None) -> str:
    """Three digits, or "–" for what was not measured."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _short(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
