"""Status values: what is sent can be read back, and lies are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from splitmesh.errors import WireError
from splitmesh.frames.status import CloudStatus, EdgeStatus

FULL_EDGE = EdgeStatus(
    "edge-1", "adaptive", 12.5, 300, {"captured": 300, "local": 299}, 1, 24.9, 0.98, 0.9,
    {"p50": 80.0, "p95": 120.0, "p99": 149.0}, {"split": 100},
    {"bandwidth_bps": 2e6, "base_ms": 20.0, "backlog_bytes": 9.0}, 1.5e5,
    123456, "half-open", 1.1, 0.9, "connected", "rtsp://***@cam", True,
    {"chosen": 90, "ejected": 1}, 5.5, 12, {"split/c/temporal": {"still": 1.0, "moving": 2.5}},
)  # fmt: skip
FULL_CLOUD = CloudStatus("w1", ["coco"], 3, 12.5, 1000, {"overloaded": 2}, True, True, {"a": {"served": 9}})


@pytest.mark.parametrize("status", [FULL_EDGE, FULL_CLOUD])
def test_every_field_survives_json(status: EdgeStatus | CloudStatus) -> None:
    assert type(status).from_json(json.loads(json.dumps(status.to_json()))) == status


def test_unknown_keys_are_ignored_so_that_versions_can_differ() -> None:
    assert CloudStatus.from_json({"worker": "w1", "new": 1}) == CloudStatus("w1")


@pytest.mark.parametrize(
    "row", [None, [], "x", {}, {"worker": 3}, {"worker": "w", "models": "m"}, {"worker": "w", "served": "many"}]
)
def test_lies_are_refused(row: Any) -> None:
    with pytest.raises(WireError):
        CloudStatus.from_json(row)
