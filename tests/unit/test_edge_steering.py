"""What frames are decided by may change between two of them, and asking what if changes nothing."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.edge.steering import MAX_AUDITS, Course, Steering
from splitmesh.errors import SettingsError
from splitmesh.policy.base import Policy
from splitmesh.policy.baselines import make_policy
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.point import Place
from splitmesh.policy.rivals.named import RIVALS
from splitmesh.policy.world import World

sys.path.append(str(Path(__file__).parent))
from policy_histories import FRAMES, _History, made_up_world

START_NS = 10**12
SEEN = Observation(START_NS, 140.0, 0.0, 40.0, motion=0.01, track_age_ms=40.0)
COURSE = Course("adaptive", 150.0)


def steering(course: Course = COURSE, *, seed: int = 1) -> tuple[Steering, World]:
    world = made_up_world(random.Random(seed), START_NS)

    def make(policy: str, budget_bps: float) -> Policy:
        return make_policy(policy, world.points, uplink_budget_bps=budget_bps or None)

    return Steering(course, world, make), world


def change(steered: Steering, course: Course, *, actor: str = "ann", now_ns: int = START_NS) -> None:
    steered.change(course, actor=actor, now_ns=now_ns, unix_ms=1)


class Questioned:
    """A policy that is asked what if before and after each decision that it makes."""

    name = "questioned"

    def __init__(self, policy: Policy, world: World, courses: Iterator[Course]) -> None:
        self._steering, self._courses = Steering(COURSE, world, lambda *_: policy), courses
        self._steering._make = lambda name, bps: make_policy(name, world.points, uplink_budget_bps=bps or None)
        self.asked = 0

    def decide(self, *, world: World, seen: Observation) -> Decision:
        self._ask(seen.now_ns)
        decision = self._steering.decide(seen)
        self._ask(seen.now_ns + 20_000_000)
        return decision

    def _ask(self, now_ns: int) -> None:
        if self._steering.what_if(next(self._courses), now_ns) is not None:
            self.asked += 1


def courses(rng: random.Random) -> Iterator[Course]:
    names = ["adaptive", "local-only", "track", "cloud-only", "only:split", *RIVALS]
    while True:
        yield Course(rng.choice(names), rng.choice((1.0, 150.0, 400.0)), rng.choice((0.0, 5e4)))


@given(st.integers(0, 10**6))
def test_asking_what_if_changes_no_later_decision(seed: int) -> None:
    plain, asked = (_History(random.Random(seed)) for _ in range(2))
    questioned = Questioned(asked._policy, asked._world, courses(random.Random(seed)))
    asked._policy = questioned  # type: ignore[assignment]
    pairs = [(plain.next_frame(last=n == 1), asked.next_frame(last=n == 1)) for n in range(FRAMES, 0, -1)]
    assert questioned.asked == 2 * FRAMES - 1
    assert [left for left, _ in pairs] == [right for _, right in pairs]


@pytest.mark.parametrize("policy", ["adaptive", "only:split", "local-only", "cloud-only", "track", *RIVALS])
def test_asking_what_if_leaves_world_and_policy_as_they_are(policy: str) -> None:
    steered, world = steering(replace(COURSE, policy=policy))
    for n in range(5):
        steered.decide(replace(SEEN, now_ns=START_NS + n * 40_000_000))
    before = pickle.dumps((world, steered.policy))
    for course in (steered.course, Course("adaptive", 30.0), Course("cloud-only", 900.0, 1e5)):
        assert steered.what_if(course, START_NS + 3_000_000_000) is not None  # by then the breaker would have opened
    assert pickle.dumps((world, steered.policy)) == before


def test_what_if_says_what_the_change_would_bring() -> None:
    steered, _ = steering()
    assert steered.what_if(COURSE, START_NS) is None
    steered.decide(SEEN)
    same = steered.what_if(COURSE, START_NS + 7_000_000)
    assert same is not None and same.now == same.then and same.observed_ms_ago == 7.0
    other = steered.what_if(Course("track", 150.0), START_NS)
    assert other is not None and other.then.point.place is Place.TRACK
    change(steered, Course("track", 150.0))
    assert steered.decide(SEEN) == other.then


def test_a_shorter_deadline_leaves_less_budget() -> None:
    steered, _ = steering()
    steered.decide(SEEN)
    found = steered.what_if(Course("local-only", 20.0), START_NS)
    assert found is not None and found.now.chosen.p_hit > found.then.chosen.p_hit == pytest.approx(0.0, abs=0.05)


def test_a_change_holds_from_the_next_frame_and_is_noted() -> None:
    steered, _ = steering()
    first = steered.policy
    change(steered, Course("adaptive", 90.0))
    assert steered.policy is first and steered.course.deadline_ms == 90.0
    change(steered, Course("local", 90.0, 2e5), actor="bob")
    assert steered.policy.name == steered.course.policy == "local-only"
    newest, oldest = steered.audits
    assert (oldest.actor, oldest.before, oldest.after) == (
        "ann",
        "adaptive, 150 ms, no budget",
        "adaptive, 90 ms, no budget",
    )
    assert (newest.actor, newest.after) == ("bob", "local-only, 90 ms, 200 kbit/s")
    for _ in range(2 * MAX_AUDITS):
        change(steered, COURSE)
    assert len(steered.audits) == MAX_AUDITS


@pytest.mark.parametrize(
    ("course", "key"),
    [
        (Course("clever", 150.0), "policy"),
        (Course("only:nothing", 150.0), "policy"),
        (Course("static:nowhere", 150.0), "policy"),
        (Course("adaptive", 0.5), "deadline_ms"),
        (Course("adaptive", float("nan")), "deadline_ms"),
        (Course("adaptive", 60_001.0), "deadline_ms"),
        (Course("adaptive", 150.0, -1.0), "uplink_budget_bps"),
        (Course("adaptive", 150.0, float("inf")), "uplink_budget_bps"),
    ],
)
def test_what_can_not_be_is_refused_by_its_key_and_changes_nothing(course: Course, key: str) -> None:
    steered, _ = steering()
    steered.decide(SEEN)
    before = (steered.course, steered.policy)
    with pytest.raises(SettingsError) as asked:
        steered.what_if(course, START_NS)
    with pytest.raises(SettingsError) as raised:
        change(steered, course)
    assert raised.value.key == asked.value.key == key
    assert (steered.course, steered.policy) == before and not steered.audits


def test_every_known_policy_can_be_set() -> None:
    steered, world = steering()
    known = steered.known_policies()
    assert "adaptive" in known and f"static:{world.points[-1].name}" in known
    for name in known:
        change(steered, replace(COURSE, policy=name))
        steered.decide(SEEN)


class Pupil:
    name = "pupil"

    def __init__(self) -> None:
        self.told: list[Decision] = []

    def decide(self, *, world: World, seen: Observation) -> Decision:
        return make_policy("track", world.points).decide(world=world, seen=seen)

    def settled(self, decision: Decision, *, latency_ms: float, answered: bool, now_ns: int) -> None:
        self.told.append(decision)


def test_what_was_decided_before_a_policy_came_teaches_it_nothing() -> None:
    world = made_up_world(random.Random(1), START_NS)
    pupils: list[Pupil] = []

    def make(policy: str, budget_bps: float) -> Policy:
        pupils.append(Pupil())
        return pupils[-1]

    steered = Steering(COURSE, world, make)
    old = steered.decide(SEEN)
    change(steered, Course("other", 150.0), now_ns=START_NS + 10_000_000)
    new = steered.decide(SEEN)
    end_ns = START_NS + 50_000_000
    steered.settled(old, latency_ms=50.0, answered=True, now_ns=end_ns)
    steered.settled(new, latency_ms=40.0, answered=True, now_ns=end_ns)
    assert pupils[0].told == [] and pupils[1].told == [new]
