"""Runs of one edge against figures that were written down before several edges could share an engine.

The policies are those that learn least. Where one of these changes on purpose what it decides, write down anew.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from splitmesh.provision.link.presets import load_link
from splitmesh.settings.units import Outage
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Burst, Loss, Scenario

sys.path.append(str(Path(__file__).parent))
from sim_values import SPREAD

HARD = Scenario(
    duration_s=8.0,
    workers=2,
    worker_bursts=(Burst(2.0, 1.0, 10.0),),
    losses=(Loss(0, 3.0, 2.0),),
    outages=(Outage(6.0, 0.5),),
)


@pytest.mark.parametrize(
    ("policy", "uplink_bytes", "digest"),
    [
        ("local", 0, "031789d53a9dfc6b"),
        ("cloud", 819943, "42c7bee8bedf3eee"),
        ("static:split/c/u8zstd-8", 2097944, "af8f620c452318a9"),
    ],
)
def test_a_run_of_one_edge_is_what_it_was(policy: str, uplink_bytes: int, digest: str) -> None:
    result = simulate(SPREAD, policy, load_link("lte", duration_s=8), HARD, seed=4)
    assert result.uplink_bytes == uplink_bytes
    whole = repr((result.frames, result.uplink_bytes, result.outcomes))
    assert hashlib.sha256(whole.encode()).hexdigest()[:16] == digest
