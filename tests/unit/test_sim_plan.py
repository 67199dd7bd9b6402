"""How widely times and sizes are spread, from a plan's and a profile's figures."""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from splitmesh.plan.bundle.points import operating_points
from splitmesh.policy.point import Place
from splitmesh.sim.draws import draw
from splitmesh.sim.plan import sim_plan, size_sigma, time_sigma
from splitmesh.sim.scenario import Scenario

sys.path.append(str(Path(__file__).parent))
from plan_values import plan, profile


def test_sigmas_give_back_the_quantiles() -> None:
    z95 = 1.6449
    assert time_sigma(10.0, 10.0 * math.exp(0.3 * z95)) == pytest.approx(0.3)
    assert size_sigma(1000.0, 1000.0 * math.exp(0.5 * z95 - 0.125)) == pytest.approx(0.5)


@pytest.mark.parametrize(("mean", "p95", "sigma"), [(0.0, 0.0, 0.0), (100.0, 90.0, 0.0), (100.0, 1000.0, 1.0)])
def test_what_no_such_distribution_has_is_bounded(mean: float, p95: float, sigma: float) -> None:
    assert size_sigma(mean, p95) == sigma
    assert time_sigma(0.0, 1.0) == 0.0


def test_every_point_of_a_plan_is_spread_as_its_rows_and_parts_are() -> None:
    """The made-up profile's 95 % quantiles are 1.15 times the medians, the rows' 1.2 times the means."""
    of = plan()
    times = profile(of)
    points = operating_points(of, times)
    made = sim_plan(points, of, times)
    time, size = time_sigma(1.0, 1.15), size_sigma(1.0, 1.2)
    assert made.points == points and made.track_kappa == of.track_kappa
    for point in points:
        spread = made.spread(point)
        if point.place is Place.LOCAL:
            assert spread.edge == pytest.approx(time) and spread.size == 0.0
        elif point.place is Place.SPLIT:
            parts = (spread.edge, spread.encode, spread.decode, spread.cloud, spread.resume)
            assert parts == pytest.approx((time,) * 5), point.name
            assert spread.size == pytest.approx(size)
    assert {Place.LOCAL, Place.SPLIT, Place.FRAME} <= {point.place for point in points}


def test_content_has_the_spread_and_the_memory_that_were_asked_for() -> None:
    scenario = Scenario(duration_s=4000.0, fps=10.0, memory_s=2.0, motion=0.05, motion_spread=0.4)
    draws = draw(scenario, 1)
    z = np.array(draws.size_z)
    assert len(z) == 40_000
    assert z.std() == pytest.approx(1.0, abs=0.05)
    assert float(np.corrcoef(z[:-20], z[20:])[0, 1]) == pytest.approx(math.exp(-1), abs=0.05)
    assert np.median(draws.motion) == pytest.approx(0.05, rel=0.1)
    assert draws.travelled[0] == 0.0 and all(a < b for a, b in pairwise(draws.travelled))
