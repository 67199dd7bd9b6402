"""Draws what `bench.gateway` found: latency by way, and the gateway's memory under many streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt


def plot(found: dict[str, Any], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    ways = found["latency"]["ways"]
    for place, told in enumerate(ways.values()):
        left.barh(place, told["p95_ms"], color="#c9d6e3", label="p95" if place == 0 else None)
        left.barh(place, told["p50_ms"], color="#2f6690", label="p50" if place == 0 else None)
    left.set_yticks(range(len(ways)), [way.replace("_", " ") for way in ways])
    left.invert_yaxis()
    left.set_xlabel("ms, one frame at a time")
    left.legend(frameon=False)
    streams = found["streams"]
    seconds = [0.5 * number for number in range(len(streams["rss_mib"]))]
    right.plot(seconds, streams["rss_mib"], color="#2f6690")
    right.set_ylim(bottom=0)
    right.set_xlabel("s")
    right.set_ylabel("gateway's memory, MiB")
    right.set_title(f"{streams['streams']} streams at {streams['fps']:g} fps", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
