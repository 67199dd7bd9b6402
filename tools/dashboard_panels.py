"""Owns what a panel of a dashboard is, and the queries that panels share. Queries are PromQL.

$instance and $tenant are what the reader has chosen; $__rate_interval is Grafana's window for rates. Units have
Grafana's names: s, bps, Bps, bytes, reqps, percentunit, short.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OBJECTIVE = 0.95
"""Share of frames that are to be answered in time, as in the alerts."""


@dataclass(frozen=True, slots=True)
class Panel:
    """queries: (PromQL, legend). thresholds: where yellow and red begin, or end, if the second is lower."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    help: str = ""
    kind: str = "timeseries"
    thresholds: tuple[float, float] | None = None
    stacked: bool = False
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """variables: name → (label, metric whose values of that label are offered)."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    variables: dict[str, tuple[str, str]] = field(default_factory=dict)


def rate(metric: str, where: str = "", by: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{f'{{{where}}}' if where else ''}[$__rate_interval]))"


def quantile(q: float, metric: str, by: str = "", where: str = "") -> str:
    labels = ", ".join(filter(None, (by, "le")))
    matcher = f"{{{where}}}" if where else ""
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{matcher}[$__rate_interval])))"


HERE = 'instance=~"$instance"'
