"""Runs of one edge against figures that were written down before several edges could share an engine.

Those of pictures are younger: since requests choose the sooner of two workers, others of the two get them.
What is decided does not depend on what was learnt, and nothing is probed: a better policy leaves these figures alone.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from splitmesh.policy.audit import AuditSchedule
from splitmesh.policy.base import forecast
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.probe import ProbeSchedule
from splitmesh.policy.world import World
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Burst, Scenario

sys.path.append(str(Path(__file__).parent))
from sim_values import H264, JPEG, LOCAL, SPREAD

LINK = LinkTrace("steps", (Step(0.0, 3e6, 20.0, 5.0), Step(1.5, 2e6, 30.0), Step(2.0, 9e6, 15.0, 8.0)), 3.5)
HARD = Scenario(
    duration_s=8.0,
    fps=20.0,
    stack_ms=0.2,
    workers=2,
    edge_bursts=(Burst(1.0, 1.0, 1.5),),
    worker_bursts=(Burst(2.0, 1.0, 2.0),),
    outages=(Outage(6.0, 0.1),),
)


class InTurn:
    """Points one after the other."""

    name = "in turn"

    def __init__(self, *names: str) -> None:
        self._names = names
        self._decided = 0

    def decide(self, *, world: World, seen: Observation) -> Decision:
        name = self._names[self._decided % len(self._names)]
        self._decided += 1
        return Decision(forecast(world.by_name[name], world, seen), "its turn", ())


@pytest.mark.parametrize(
    ("names", "uplink_bytes", "digest"),
    [
        ((LOCAL.name,), 0, "ae2ad494c044abbd"),
        ((JPEG.name, LOCAL.name, JPEG.name), 349004, "480edfced9f82a95"),
        ((H264.name, LOCAL.name), 59218, "bff45f37400367ac"),
    ],
    ids=["here", "pictures", "stream"],
)
def test_a_run_of_one_edge_is_what_it_was(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], uplink_bytes: int, digest: str
) -> None:
    for schedule in (ProbeSchedule, AuditSchedule):
        monkeypatch.setattr(schedule, "due", lambda *_args: False)
    result = simulate(SPREAD, InTurn(*names), LINK, HARD, seed=4)
    frames = [(each.outcome.value, each.point, each.latency_ms, each.hit, each.fidelity) for each in result.frames]
    found = hashlib.sha256(repr(frames).encode()).hexdigest()[:16]
    assert (result.uplink_bytes, found) == (uplink_bytes, digest)
