"""The ladder: up while nothing queues, down when it does, and trials of the next rung, rarer once one has failed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.payloads import Reference
from splitmesh.policy.rivals.awstream import AwStream, State, queued_ms
from splitmesh.policy.world import World

sys.path.append(str(Path(__file__).parent))
from rival_worlds import FLOW, LOCAL, MIDDLE, MS, PICTURE, ROUGH, SEEN, SMALL, TRACK, world


class Stream:
    """A policy, its world and the frames that come one after another."""

    def __init__(self, w: World, policy: AwStream | None = None) -> None:
        self.w = w
        self.policy = policy or AwStream(drop=0.4)
        self._now_ns = SEEN.now_ns
        self._queued: list[str] = []
        self._sent = 0

    @property
    def state(self) -> State:
        return self.policy.state

    def frame(self) -> Decision:
        self._now_ns += 40 * MS
        self.w.on_heartbeat(self._now_ns, 0.0)
        return self.policy.decide(world=self.w, seen=self.seen)

    @property
    def seen(self) -> Observation:
        return replace(SEEN, now_ns=self._now_ns)

    def names(self, frames: int) -> list[str]:
        return [self.frame().point.name for _ in range(frames)]

    def queue(self, size_bytes: int) -> None:
        self._sent += 1
        self._queued.append(f"queued-{self._sent}")
        self.w.link.on_sent(self._queued[-1], size_bytes, self._now_ns, remote_ms=0.0)

    def drain(self) -> None:
        while self._queued:
            self.w.link.on_lost(self._queued.pop())


def test_it_starts_low_and_climbs_the_pareto_set_while_nothing_queues() -> None:
    stream = Stream(world((TRACK, LOCAL, ROUGH, MIDDLE, PICTURE, SMALL)))
    names = stream.names(20)
    assert names[0] == ROUGH.name and names[-1] == MIDDLE.name
    assert set(names) == {ROUGH.name, MIDDLE.name}, "the pictures are larger and no better"
    assert stream.state is State.STEADY


def test_what_the_device_cannot_keep_up_with_is_no_rung() -> None:
    w = world((TRACK, LOCAL, ROUGH, MIDDLE, PICTURE, SMALL), gamma=8)
    names = Stream(w, AwStream(drop=0.5)).names(20)
    assert names[0] == SMALL.name and names[-1] == PICTURE.name and len(set(names)) == 2


def test_it_steps_down_under_queueing_and_up_again_once_that_has_drained() -> None:
    stream = Stream(world((TRACK, LOCAL, ROUGH, MIDDLE), bps=2e6))
    stream.names(20)
    assert stream.state is State.STEADY
    stream.queue(20_000)  # 80 ms, two frame periods
    assert stream.frame().point is ROUGH and stream.state is State.DEGRADE
    assert set(stream.names(10)) == {ROUGH.name}
    stream.drain()
    assert stream.frame().point is ROUGH and stream.state is State.STEADY
    names = stream.names(60)
    assert names[0] == ROUGH.name and names[-1] == MIDDLE.name
    assert stream.state is State.STEADY


def test_it_degrades_to_what_fits_the_measured_rate() -> None:
    """1 Mbit/s carries 5 kB in a frame period, a share of 0.8 of it 4 kB."""
    ladder = (replace(ROUGH, name="split/mid/compact-8", level=8, fidelity=0.7, payload_bytes=1_000), ROUGH, MIDDLE)
    stream = Stream(world((TRACK, LOCAL, *ladder), bps=1e6))
    assert stream.names(30)[-1] == MIDDLE.name
    stream.queue(20_000)
    assert stream.frame().point is ROUGH
    lower = Stream(world((TRACK, LOCAL, *ladder), bps=5e5))
    lower.names(30)
    lower.queue(20_000)
    assert lower.frame().point is ladder[0]


def test_after_a_trial_that_failed_the_next_comes_later() -> None:
    stream = Stream(world((TRACK, LOCAL, ROUGH, MIDDLE), bps=2e6))
    waits = []
    for _ in range(3):
        waited = 0
        while stream.state is not State.PROBE:
            if stream.state is State.STARTUP:
                stream.queue(20_000)
            stream.frame()
            stream.drain()
            waited += 1
        waits.append(waited)
        stream.queue(20_000)
        assert stream.frame().point is ROUGH and stream.state is State.DEGRADE
        stream.drain()
    assert waits[1] > 1.5 * waits[0] and waits[2] > 1.5 * waits[1], waits


def test_a_stream_whose_key_is_under_way_is_stood_in_for_by_the_next_rung() -> None:
    little = replace(ROUGH, payload_bytes=800)
    stream = Stream(world((TRACK, LOCAL, little, FLOW)))
    assert stream.names(5) == [little.name] * 4 + [FLOW.name]
    stream.w.payloads.on_reference("temporal", "mid", Reference.COMING)
    assert stream.names(2) == [little.name] * 2
    stream.w.payloads.on_reference("temporal", "mid", Reference.ALIVE)
    assert stream.frame().point is FLOW


def test_what_is_under_way_queues_only_beyond_the_delay_of_the_path() -> None:
    w = world(bps=1e6, base_ms=20)
    assert queued_ms(w) == -w.link.base_ms
    w.link.on_sent("one", 10_000, SEEN.now_ns, remote_ms=0.0)
    assert queued_ms(w) == pytest.approx(80_000 / w.link.bandwidth_bps * 1e3 - w.link.base_ms)
