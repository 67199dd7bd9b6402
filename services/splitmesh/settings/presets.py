"""Owns named scenarios: settings that take the place of a section's defaults. What a user gives still wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PRESETS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "lab": {
        "thin-uplink": {
            "link": "uplink-64k",
            "deadline_ms": 400.0,
            "max_fps": 10.0,
            "edge_slowdown": 8.0,
            "policy": "only:split",
        },
    },
}
"""Section → name → field → value.

"thin-uplink": detection at 10 frames per second by a board that is too slow for it, over 64 kbit/s with a round trip
of 80 ms. Only features cross, never a picture.
"""
