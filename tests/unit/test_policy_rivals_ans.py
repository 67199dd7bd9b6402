"""The bandits: their algebra against the sums it stands for, and what they come to choose where nothing changes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from splitmesh.policy.rivals.ans import Ans, DiscountedRidge

sys.path.append(str(Path(__file__).parent))
from rival_worlds import EARLY, LATE, LOCAL, MIDDLE, MS, PICTURE, SEEN, SMALL, answered, world

REMOTE_BEST = {LOCAL.name: 84.0, EARLY.name: 110.0, MIDDLE.name: 62.0, LATE.name: 90.0, PICTURE.name: 75.0}
LOCAL_BEST = {LOCAL.name: 40.0, EARLY.name: 125.0, MIDDLE.name: 88.0, LATE.name: 95.0, PICTURE.name: 100.0}


def bandit(*, discount: float = 1.0, alpha: float = 0.3, mu: float = 0.25) -> Ans:
    """Whose floor leaves one codec for each cut."""
    return Ans(discount=discount, alpha=alpha, mu=mu, drop=0.05)


def play(policy: Ans, latencies_ms: Mapping[str, float], *, gamma: float, frames: int) -> list[str]:
    """The points chosen over `frames` in a world where each takes what it takes."""
    w = world(gamma=gamma)
    chosen = []
    for index in range(frames):
        now_ns = SEEN.now_ns + index * 40 * MS
        w.on_heartbeat(now_ns, 0.0)
        decision = policy.decide(world=w, seen=replace(SEEN, now_ns=now_ns))
        name = decision.point.name
        chosen.append(name)
        if decision.point.remote:
            answered(w, decision.point, now_ns)
        policy.settled(decision, latency_ms=latencies_ms[name], answered=True, now_ns=now_ns)
    return chosen


@pytest.mark.parametrize("discount", [1.0, 0.98])
def test_it_explores_and_then_keeps_to_the_cut_of_least_delay(discount: float) -> None:
    chosen = play(bandit(discount=discount), REMOTE_BEST, gamma=6, frames=600)
    assert len(set(chosen[:60])) >= 3, Counter(chosen[:60])
    assert Counter(chosen[-200:])[MIDDLE.name] >= 160, Counter(chosen[-200:])


def test_where_the_device_is_best_it_still_sends_now_and_then_to_learn() -> None:
    chosen = Counter(play(bandit(), LOCAL_BEST, gamma=40 / 14, frames=600)[-200:])
    assert chosen[LOCAL.name] >= 140, chosen
    sent = 200 - chosen[LOCAL.name]
    assert sent >= 200 // 6 - 1, "every ⌈512^¼⌉-th frame and oftener"


def test_larger_mu_sends_less_often() -> None:
    sent = {}
    for mu in (0.1, 0.45):
        chosen = play(bandit(mu=mu, alpha=0.0), LOCAL_BEST, gamma=40 / 14, frames=400)
        sent[mu] = sum(name != LOCAL.name for name in chosen[-200:])
    assert sent[0.45] < sent[0.1] / 3


def test_only_what_forgets_finds_its_way_after_a_shift() -> None:
    """The worker is slow for a long time, and then it is not."""
    slow = {name: ms + (200.0 if name != LOCAL.name else 0.0) for name, ms in REMOTE_BEST.items()}
    back = {}
    for discount in (1.0, 0.98):
        policy = bandit(discount=discount)
        play(policy, slow, gamma=6, frames=1500)
        back[discount] = Counter(play(policy, REMOTE_BEST, gamma=6, frames=300)[-150:])[LOCAL.name]
    assert back[0.98] < 30 < back[1.0], back


def test_a_frame_that_no_model_answered_counts_as_longer_than_was_waited() -> None:
    weights = {}
    for was_answered in (True, False):
        policy = bandit()
        w = world(gamma=60)
        decision = policy.decide(world=w, seen=SEEN)
        assert decision.point.remote
        policy.settled(decision, latency_ms=140, answered=was_answered, now_ns=SEEN.now_ns)
        weights[was_answered] = policy._model.predict(np.ones(3))
    assert weights[False] > 1.2 * weights[True] > 0


def test_a_decision_is_learnt_from_once_and_a_strange_one_not_at_all() -> None:
    policy, strange = bandit(), bandit()
    w = world(gamma=6)
    decision = policy.decide(world=w, seen=SEEN)
    strange.settled(decision, latency_ms=500, answered=True, now_ns=0)
    assert strange._model.predict(np.ones(3)) == 0
    policy.settled(decision, latency_ms=500, answered=True, now_ns=0)
    once = policy._model.predict(np.ones(3))
    policy.settled(decision, latency_ms=500, answered=True, now_ns=0)
    assert policy._model.predict(np.ones(3)) == once > 0


def test_accuracy_blind_it_may_choose_one_codec_for_each_cut_above_the_floor() -> None:
    assert SMALL.name not in play(bandit(), {**REMOTE_BEST, SMALL.name: 1.0}, gamma=6, frames=100)


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_the_regression_is_that_of_the_discounted_sums(discount: float) -> None:
    rng = np.random.default_rng(7)
    xs, ys = rng.uniform(size=(40, 3)), rng.uniform(size=40)
    model = DiscountedRidge(3, ridge=0.1, discount=discount)
    for x, y in zip(xs, ys, strict=True):
        model.observe(x, float(y))
    ages = np.arange(39, -1, -1)
    weights, squared = discount**ages, discount ** (2 * ages)
    v = (xs.T * weights) @ xs + 0.1 * np.eye(3)
    v2 = (xs.T * squared) @ xs + 0.1 * np.eye(3)
    theta = np.linalg.solve(v, (xs.T * weights) @ ys)
    x = np.array([1.0, 0.5, 0.2])
    assert model.predict(x) == pytest.approx(max(0.0, float(x @ theta)))
    half = np.linalg.solve(v, x)
    assert model.width(x) == pytest.approx(float(np.sqrt(half @ v2 @ half)))


@pytest.mark.parametrize(("ridge", "discount"), [(0.0, 1.0), (0.1, 0.0), (0.1, 1.1)])
def test_a_regression_that_could_not_be_solved_is_refused(ridge: float, discount: float) -> None:
    with pytest.raises(ValueError, match="discount must lie"):
        DiscountedRidge(3, ridge=ridge, discount=discount)
