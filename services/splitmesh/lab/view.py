"""Owns what the live display of a lab run shows: one value per refresh, as a table or as one line. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLACE_STYLE: Mapping[str, str] = {
    "local": "blue",
    "split": "green",
    "frame": "cyan",
    "resumed": "yellow",
    "track": "bright_black",
    "tracked": "bright_black",
    "shed": "red",
    "expired": "bold red",
}
_MIX_CELLS = 40


@dataclass(frozen=True, slots=True)
class LiveView:
    """Everything on the screen at one moment. Missing statuses are empty mappings, unknown numbers None."""

    elapsed_s: float
    duration_s: float | None
    """None: until the source ends."""
    edge: Mapping[str, Any] = field(default_factory=dict)
    cloud: Mapping[str, Any] = field(default_factory=dict)
    true_bps: float | None = None
    """What the emulated link carries now; None if unknown."""
    outage: bool = False
    worker: str = "running"
    """The worker's process: running, killed, restarting, died."""
    broker: str = "running"
    notices: tuple[str, ...] = ()
    """Latest events, oldest first."""


def rate(bps: float | None) -> str:
    """`"3.21 Mbit/s"`, `"640 kbit/s"`, or `"-"`."""
    if bps is None:
        return "-"
    return f"{bps / 1e6:.2f} Mbit/s" if bps >= 1e6 else f"{bps / 1e3:.0f} kbit/s"


def _number(value: Any, form: str = "{:.0f}", unit: str = "") -> str:
    return form.format(value) + unit if isinstance(value, int | float) else "-"


def _percent(value: Any) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else "-"


def _hit_style(value: Any) -> str:
    if not isinstance(value, int | float):
        return "bright_black"
    return "green" if value >= 0.95 else "yellow" if value >= 0.8 else "red"


def mix_bar(decisions: Mapping[str, Any], cells: int = _MIX_CELLS) -> Text:
    """The share of each place in the last seconds as one coloured bar with its legend."""
    total = sum(decisions.values())
    if not total:
        return Text("-", style="bright_black")
    bar, legend = Text(), Text()
    for place, count in sorted(decisions.items(), key=lambda item: -item[1]):
        style = PLACE_STYLE.get(place, "magenta")
        bar.append("█" * max(1 if count else 0, round(cells * count / total)), style=style)
        legend.append(f"  {place} {100 * count / total:.0f}%", style=style)
    bar.truncate(cells)
    return bar + legend


def render(view: LiveView) -> RenderableType:
    """The live panel."""
    edge, link = view.edge, view.edge.get("link") or {}
    latency = edge.get("latency_ms") or {}
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bright_black", justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    hit = edge.get("hit_rate_5s")
    fps = _number(edge.get("fps"), "{:.1f}", " fps")
    table.add_row("frames", f"{_number(edge.get('captured'))} captured at {fps}")
    table.add_row(
        "in time",
        Text.assemble(
            (_percent(hit), _hit_style(hit)), " last 5 s   ", _percent(edge.get("hit_rate")), " since the start"
        ),
    )
    table.add_row(
        "latency", f"p50 {_number(latency.get('p50'), unit=' ms')}   p95 {_number(latency.get('p95'), unit=' ms')}"
    )
    table.add_row("decisions", mix_bar(edge.get("decisions_5s") or {}))
    true = Text("OUTAGE", style="bold red") if view.outage else Text(rate(view.true_bps))
    table.add_row("link", Text.assemble("true ", true, f"   estimated {rate(link.get('bandwidth_bps'))}"))
    backlog = _number(link.get("backlog_bytes"), unit=" B")
    table.add_row("uplink", f"{rate(edge.get('uplink_bps'))}   backlog {backlog}")
    table.add_row("cloud", _cloud_line(view))
    parts: list[RenderableType] = [table]
    if view.duration_s:
        line_of_its_own = Table.grid()
        line_of_its_own.add_row(
            ProgressBar(total=view.duration_s, completed=min(view.elapsed_s, view.duration_s), width=66)
        )
        parts.append(line_of_its_own)
    parts.extend(Text(f"• {notice}", style="yellow") for notice in view.notices[-4:])
    return Panel(Group(*parts), title=_title(view), title_align="left", border_style="bright_black")


def _cloud_line(view: LiveView) -> Text:
    breaker = str(view.edge.get("breaker", "-"))
    worker_style = "green" if view.worker == "running" else "bold red"
    line = Text.assemble("worker ", (view.worker, worker_style))
    if view.worker == "running" and view.cloud:
        line.append(f" (served {_number(view.cloud.get('served'))}, wait {_wait(view.cloud)})")
    line.append("   breaker ").append(breaker, "green" if breaker == "closed" else "bold red")
    broker = str(view.edge.get("broker", "-")) if view.broker == "running" else view.broker
    return line.append("   broker ").append(broker, "green" if broker == "connected" else "bold red")


def _wait(cloud: Mapping[str, Any]) -> str:
    return _number(cloud.get("predicted_wait_ms"), "{:.0f}", " ms")


def _title(view: LiveView) -> str:
    name = f"splitmesh lab · {view.edge.get('policy', '')}".rstrip(" ·")
    if view.duration_s is None:
        return f"{name} · {view.elapsed_s:.0f} s"
    return f"{name} · {max(0.0, view.duration_s - view.elapsed_s):.0f} s left"


def line(view: LiveView) -> str:
    """The same in one line, for logs and pipes."""
    edge, link = view.edge, view.edge.get("link") or {}
    latency = edge.get("latency_ms") or {}
    mix = edge.get("decisions_5s") or {}
    places = " ".join(f"{place}={count}" for place, count in sorted(mix.items(), key=lambda item: -item[1]))
    true = "outage" if view.outage else rate(view.true_bps)
    return (
        f"{view.elapsed_s:5.1f} s  {_number(edge.get('fps'), '{:.1f}')} fps  "
        f"hit {_percent(edge.get('hit_rate_5s'))}  "
        f"p50/p95 {_number(latency.get('p50'))}/{_number(latency.get('p95'))} ms  [{places or '-'}]  "
        f"link {true} (est. {rate(link.get('bandwidth_bps'))})  uplink {rate(edge.get('uplink_bps'))}  "
        f"worker {view.worker}  breaker {edge.get('breaker', '-')}"
    )
