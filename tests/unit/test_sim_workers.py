"""The simulated pool: earliest deadline first, refusals, streams that only their worker knows."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from splitmesh.sim.draws import draw
from splitmesh.sim.engine import Engine
from splitmesh.sim.request import Reply, Request, Said, Sender, StreamPart
from splitmesh.sim.scenario import Loss, Scenario
from splitmesh.sim.workers import Pool

sys.path.append(str(Path(__file__).parent))
from sim_values import JPEG, PLAN, TEMPORAL

MS = 1_000_000
SCENARIO = Scenario(duration_s=1.0, fps=10.0)


class Rig:
    """A pool, and every reply with its time in ms."""

    def __init__(self, scenario: Scenario = SCENARIO) -> None:
        self.engine = Engine()
        self.replies: list[tuple[str, Said, float, int]] = []
        self.times: dict[str, Reply] = {}
        self.pool = Pool(self.engine, PLAN, scenario)
        self.sender = Sender(0, draw(scenario, 0), self._reply)
        self.requests: dict[str, Request] = {}

    def _reply(self, request: Request, reply: Reply) -> None:
        self.replies.append((request.id, reply.said, self.engine.now_ns / MS, reply.worker))
        self.times[request.id] = reply

    def arrives(
        self, id: str, at_ms: float, budget_ms: float, *, home: int = -1, part: StreamPart | None = None
    ) -> None:
        point = JPEG if part is None else TEMPORAL
        request = self.requests[id] = Request(
            id, self.sender, 0, point, 1000, 1210, 0, round(budget_ms * MS), home, part
        )
        self.engine.at(round(at_ms * MS), lambda: self.pool.take(request))

    def run(self) -> list[tuple[str, Said, float, int]]:
        self.engine.run(1000 * MS)
        return self.replies


def test_the_earliest_deadline_is_served_first() -> None:
    """Each takes 17 ms; c comes last and overtakes b."""
    rig = Rig()
    rig.arrives("a", 0, 500)
    rig.arrives("b", 1, 500)
    rig.arrives("c", 2, 100)
    assert rig.run() == [("a", Said.ANSWER, 17.0, 0), ("c", Said.ANSWER, 34.0, 0), ("b", Said.ANSWER, 51.0, 0)]
    assert rig.times["b"].times.queue_ms == pytest.approx(33.0)
    assert (rig.times["b"].times.decode_ms, rig.times["b"].times.service_ms) == (1.0, 16.0)


def test_what_can_not_make_it_is_refused_at_once() -> None:
    rig = Rig()
    rig.arrives("a", 0, 500)
    rig.arrives("late", 1, 20)
    assert rig.run() == [("late", Said.OVERLOADED, 1.0, 0), ("a", Said.ANSWER, 17.0, 0)]


def test_two_slots_serve_two_at_a_time() -> None:
    rig = Rig(replace(SCENARIO, slots=2))
    for name in ("a", "b", "c"):
        rig.arrives(name, 0, 500)
    assert [(name, at) for name, _, at, _ in rig.run()] == [("a", 17.0), ("b", 17.0), ("c", 34.0)]


def test_a_cancelled_request_that_waits_is_refused_and_one_that_runs_is_answered() -> None:
    rig = Rig()
    rig.arrives("a", 0, 500)
    rig.arrives("b", 0, 500)
    rig.engine.at(5 * MS, lambda: rig.pool.cancel(rig.requests["a"]))
    rig.engine.at(6 * MS, lambda: rig.pool.cancel(rig.requests["b"]))
    assert rig.run() == [("b", Said.CANCELLED, 6.0, 0), ("a", Said.ANSWER, 17.0, 0)]


def test_a_stream_needs_what_it_builds_on() -> None:
    rig = Rig()
    rig.arrives("unknown", 0, 500, home=0, part=StreamPart(7, 2, base=1))
    rig.arrives("key", 1, 500, part=StreamPart(7, 3, base=None))
    rig.arrives("follows", 2, 500, home=0, part=StreamPart(7, 4, base=3))
    rig.arrives("gap", 3, 500, home=0, part=StreamPart(7, 6, base=5))
    said = {name: said for name, said, _, _ in rig.run()}
    assert said == {
        "unknown": Said.NEED_KEYFRAME,
        "key": Said.ANSWER,
        "follows": Said.ANSWER,
        "gap": Said.NEED_KEYFRAME,
    }


def test_a_refused_frame_can_not_be_built_on() -> None:
    rig = Rig()
    rig.arrives("key", 0, 500, part=StreamPart(7, 1, base=None))
    rig.arrives("refused", 1, 5, home=0, part=StreamPart(7, 2, base=1))
    rig.arrives("behind", 2, 500, home=0, part=StreamPart(7, 3, base=2))
    assert [said for _, said, _, _ in rig.run()] == [Said.OVERLOADED, Said.ANSWER, Said.NEED_KEYFRAME]


def test_a_lost_worker_answers_nothing_and_comes_back_without_memory() -> None:
    rig = Rig(replace(SCENARIO, losses=(Loss(0, 0.010, 0.090),)))
    rig.arrives("held", 0, 500, part=StreamPart(7, 1, base=None))
    rig.arrives("nobody", 50, 500)
    rig.arrives("after", 200, 500, home=0, part=StreamPart(7, 2, base=1))
    assert rig.run() == [("nobody", Said.NO_RESPONDERS, 50.0, -1), ("after", Said.NEED_KEYFRAME, 200.0, 0)]


def test_of_several_workers_those_that_live_are_picked() -> None:
    rig = Rig(replace(SCENARIO, workers=3, losses=(Loss(0, 0.0, 1.0), Loss(2, 0.0, 1.0))))
    rig.arrives("a", 1, 500)
    rig.arrives("b", 30, 500, home=2, part=StreamPart(7, 1, base=None))
    assert rig.run() == [("a", Said.ANSWER, 18.0, 1), ("b", Said.NO_RESPONDERS, 30.0, -1)]
