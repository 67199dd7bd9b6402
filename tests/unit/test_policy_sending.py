"""What it is worth to send: the short ways give what the long ones do."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from policy_histories import made_up_world

from splitmesh.policy.decision import Observation
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.sending import Sending
from splitmesh.policy.world import World

NOW_NS = 10**12
HISTORIES = range(150)


def observed(rng: random.Random, backlog_ms: float) -> Observation:
    return Observation(NOW_NS, rng.uniform(40, 390), backlog_ms, 40.0, rng.uniform(0, 0.3), rng.uniform(1, 600))


def of(world: World, seen: Observation, place: Place, incumbent: OperatingPoint | None = None) -> Sending:
    points = world.cuts if place is Place.SPLIT else world.pictures
    now = world.at(seen.now_ns)
    return Sending(world, now, seen, place, points, tracked=0.6, incumbent=incumbent, byte_price=1e-6)


@pytest.mark.parametrize("place", [Place.SPLIT, Place.FRAME])
def test_times_and_chances_are_those_that_the_world_gives(place: Place) -> None:
    looked_at = 0
    for seed in HISTORIES:
        rng = random.Random(seed)
        world = made_up_world(rng, NOW_NS)
        seen = observed(rng, rng.choice((0.0, rng.uniform(0, 60))))
        valued = of(world, seen, place).at(seen.device_backlog_ms if place is Place.SPLIT else 0.0)
        for point, predicted_ms, p_hit, _ in valued:
            looked_at += 1
            if world.payloads.needs_key(point) and point.codec == "temporal":
                continue  # its key may come in parts
            assert predicted_ms == pytest.approx(world.predicted_ms(point, seen), rel=1e-9)
            assert p_hit == pytest.approx(world.p_hit(point, predicted_ms, seen), rel=1e-9)
    assert looked_at > 500


def test_only_cuts_whose_tail_still_fits_are_offered() -> None:
    left_out = 0
    for seed in HISTORIES:
        rng = random.Random(seed)
        world = made_up_world(rng, NOW_NS)
        seen = observed(rng, rng.uniform(0, 200))
        fitting = {point.name for point in world.cuts if world.resumable(point, seen)}
        cuts = of(world, seen, Place.SPLIT)
        assert {point.name for point, *_ in cuts.at(seen.device_backlog_ms)} == fitting
        free = replace(seen, device_backlog_ms=0.0)
        assert cuts.any_fits() == any(world.resumable(point, free) for point in world.cuts)
        left_out += len(world.cuts) - len(fitting)
    assert left_out > 100


def test_the_best_with_a_free_device_is_found_wherever_it_stands() -> None:
    compared = 0
    for seed in HISTORIES:
        rng = random.Random(seed)
        world = made_up_world(rng, NOW_NS)
        seen = observed(rng, rng.choice((0.0, rng.uniform(0, 100))))
        cuts = of(world, seen, Place.SPLIT, incumbent=rng.choice((None, *world.cuts)))
        if not cuts.any_fits():
            continue
        compared += 1
        point, utilities = cuts.best_when_free(
            cuts.at(seen.device_backlog_ms), seen.device_backlog_ms, (20.0, 40.0, 1000.0)
        )
        values = {each.name: utility for each, _, _, utility in cuts.at(0.0)}
        assert values[point.name] == pytest.approx(max(values.values()), abs=1e-9)
        assert utilities[0] == pytest.approx(values[point.name], abs=1e-12)
        assert utilities[-1] == 0.0  # its tail doesn't fit behind a whole second
        if not world.payloads.needs_key(point):
            behind = {each.name: utility for each, _, _, utility in cuts.at(20.0)}
            assert utilities[1] == pytest.approx(behind.get(point.name, 0.0), abs=1e-12)
    assert compared > 50


def test_what_follows_a_key_counts_for_as_long_as_keys_last() -> None:
    """The longer the life, the nearer is a stream that begins to what it is worth in the long run."""
    world = made_up_world(random.Random(2), NOW_NS)
    seen = Observation(NOW_NS, 300.0, 0.0, 40.0, 0.1, 100.0)
    cuts = of(world, seen, Place.SPLIT)
    point = next(each for each in world.cuts if each.key_bytes)
    means = []
    for key_every in (2, 5, 20):
        for index in range(400):
            world.payloads.on_sent(point, 1000, key=index % key_every == 0)
        means.append(cuts._mean_over_life(cuts._keys([point])[0], 1.0, 0.0, 1.0))
    assert all(before < after for before, after in pairwise(means))
