"""What a consumer holds over time, and percentiles that nothing missed can flatter."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from splitmesh.frames.outcome import Outcome
from splitmesh.sim.result import RunResult, Settled
from splitmesh.sim.staleness import held_fidelity

sys.path.append(str(Path(__file__).parent))

PERIOD_S = 0.1


def answered(latency_ms: float, fidelity: float = 1.0, *, hit: bool = True) -> Settled:
    return Settled(Outcome.LOCAL, "local", latency_ms, hit, fidelity)


def missed(latency_ms: float) -> Settled:
    return Settled(Outcome.EXPIRED, "local", latency_ms, hit=False, fidelity=0.0)


@pytest.mark.parametrize(
    ("frames", "held"),
    [
        ([answered(0.0), answered(0.0)], 1.0),
        ([answered(0.0, 0.5), answered(0.0, 0.7)], 0.6),
        ([answered(50.0), answered(50.0)], 0.75),  # nothing is held for the first 50 ms
        ([answered(0.0), missed(2200.0)], 1.0),
        ([missed(2200.0), missed(2200.0)], 0.0),
        # The older answer comes after the newer one and changes nothing.
        ([answered(180.0, 0.2), answered(20.0, 0.8)], 0.8 * 0.4),
        # In time or not: it is held once it is there.
        ([answered(100.0, 0.6, hit=False), answered(50.0, 1.0)], (0.6 * 0.05 + 1.0 * 0.05) / 0.2),
    ],
)
def test_in_a_still_scene_the_newest_answer_is_held(frames: list[Settled], held: float) -> None:
    assert held_fidelity(frames, [0.0] * len(frames), period_s=PERIOD_S) == pytest.approx(held)


def test_answers_age_as_the_scene_moves_on_until_the_next_one_is_there() -> None:
    ageing = [0.0, 0.3, 0.6]
    # Frame 0 is held for two periods, frame 2 for one; the scene goes on at the same pace after the last capture.
    over = [(1 - math.exp(-0.6)) / 0.6 * 2, (1 - math.exp(-0.3)) / 0.3]
    frames = [answered(0.0), missed(2200.0), answered(0.0)]
    assert held_fidelity(frames, ageing, period_s=PERIOD_S) == pytest.approx(sum(over) / 3)
    late = [answered(0.0), missed(2200.0), answered(50.0)]
    tail = [(1 - math.exp(-0.75)) / 0.75 * 2.5, math.exp(-0.15) * (1 - math.exp(-0.15)) / 0.15 * 0.5]
    assert held_fidelity(late, ageing, period_s=PERIOD_S) == pytest.approx(sum(tail) / 3)
    assert held_fidelity(late, ageing, period_s=PERIOD_S) < held_fidelity(frames, ageing, period_s=PERIOD_S)


def test_a_single_frame_can_be_held() -> None:
    assert held_fidelity([answered(25.0, 0.8)], [0.0], period_s=PERIOD_S) == pytest.approx(0.6)


def result(*frames: Settled) -> RunResult:
    return RunResult(frames, 1000, {"captured": len(frames)}, PERIOD_S * len(frames), 0)


def test_what_is_missed_never_ranks_before_what_was_in_time() -> None:
    in_time = [answered(100.0) for _ in range(90)]
    given_up_at_once = result(*in_time, *[missed(1.0) for _ in range(10)]).figures().latency_ms
    assert given_up_at_once.p99 == given_up_at_once.p50 == given_up_at_once.mean == 100.0
    waited_for = result(*in_time, *[missed(2150.0) for _ in range(10)]).figures().latency_ms
    assert waited_for.p50 == 100.0 and waited_for.p95 == waited_for.p99 == 2150.0
    assert waited_for.mean == pytest.approx(305.0)


def test_only_models_answers_in_time_are_counted_as_such() -> None:
    tracked = Settled(Outcome.TRACKED, "track", 5.0, hit=True, fidelity=0.5)
    figures = result(answered(50.0), tracked, answered(300.0, hit=False), missed(2150.0)).figures()
    assert (figures.inferred, figures.hit, figures.utility) == (0.25, 0.5, 0.375)
    assert figures.held_fidelity is None
    assert result(answered(0.0), tracked).figures([0.0, 0.0]).held_fidelity == pytest.approx(
        (1.05 + 0.475) / 2, abs=0.05
    )
