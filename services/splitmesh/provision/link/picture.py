"""Owns the picture of a link: rate and one-way delay over time, as SVG. Pure drawing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from splitmesh.provision.link.trace import LinkTrace

_WIDTH_PX: Final = 900
_PANEL_PX: Final = 130
_LEFT_PX, _RIGHT_PX, _TOP_PX, _GAP_PX = 70, 15, 40, 35
_MOST_COLUMNS: Final = 800
_LEAST_STEP_S: Final = 0.05


def link_svg(trace: LinkTrace) -> str:
    """One period of `trace`: mean rates, and delays, of at most 800 equal stretches of at least 50 ms."""
    rows = trace.to_rows(step_s=max(_LEAST_STEP_S, trace.period_s / _MOST_COLUMNS))
    height_px = _TOP_PX + 2 * (_PANEL_PX + _GAP_PX)
    panels = (
        _panel([row["rate_bps"] / 1e6 for row in rows], "Mbit/s", _TOP_PX, "#0072b2"),
        _panel([row["delay_ms"] for row in rows], "delay, ms", _TOP_PX + _PANEL_PX + _GAP_PX, "#d55e00"),
    )
    end = f"{trace.period_s:g} s"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH_PX} {height_px}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{_LEFT_PX}" y="22" font-size="15">{escape(trace.name)}</text>{"".join(panels)}'
        f'<text x="{_LEFT_PX}" y="{height_px - 15}">0</text>'
        f'<text x="{_WIDTH_PX - _RIGHT_PX}" y="{height_px - 15}" text-anchor="end">{end}</text></svg>\n'
    )


def _panel(values: Sequence[float], label: str, top_px: int, colour: str) -> str:
    most = max(values) or 1.0
    bottom_px = top_px + _PANEL_PX
    column_px = (_WIDTH_PX - _LEFT_PX - _RIGHT_PX) / len(values)
    path = "".join(
        f"{'L' if index else 'M'}{_LEFT_PX + index * column_px:.1f} {bottom_px - value / most * _PANEL_PX:.1f}"
        f"H{_LEFT_PX + (index + 1) * column_px:.1f}"
        for index, value in enumerate(values)
    )
    return (
        f'<text x="{_LEFT_PX - 8}" y="{top_px + 10}" text-anchor="end">{most:.3g}</text>'
        f'<text x="{_LEFT_PX - 8}" y="{bottom_px}" text-anchor="end">0</text>'
        f'<text x="{_LEFT_PX - 8}" y="{top_px + _PANEL_PX // 2}" text-anchor="end">{label}</text>'
        f'<path d="M{_LEFT_PX} {bottom_px}H{_WIDTH_PX - _RIGHT_PX}" stroke="#9aa5b1"/>'
        f'<path d="{path}" fill="none" stroke="{colour}"/>'
    )
