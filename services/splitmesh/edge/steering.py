"""Owns how this edge decides and what its frames are due in, both of which may change between two frames.

A frame keeps what it was decided by. A question of what another policy would do teaches nobody anything: it is asked
of copies.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from splitmesh.errors import SettingsError
from splitmesh.policy.base import Learner, Policy
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.point import Place
from splitmesh.policy.rivals.named import RIVALS
from splitmesh.policy.world import World

MAX_AUDITS = 50
_ALIASES = {"local": "local-only", "cloud": "cloud-only"}

MakePolicy = Callable[[str, float], Policy]
"""Of a policy's name and an uplink budget, bits per second (0: none). Raises SettingsError that names the key."""


@dataclass(frozen=True, slots=True)
class Course:
    """By what frames are decided."""

    policy: str
    """As the command line names it."""
    deadline_ms: float
    uplink_budget_bps: float = 0.0
    """0: none."""

    def __str__(self) -> str:
        budget = f"{self.uplink_budget_bps / 1e3:g} kbit/s" if self.uplink_budget_bps else "no budget"
        return f"{self.policy}, {self.deadline_ms:g} ms, {budget}"


@dataclass(frozen=True, slots=True)
class Audit:
    """A change that was made. `unix_ms`: of this edge's clock; `actor`: who asked."""

    unix_ms: int
    actor: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """One observation decided twice."""

    now: Decision
    then: Decision
    observed_ms_ago: float


class Steering:
    """`make`: gives a policy its life. Raises what `make` raises."""

    def __init__(self, course: Course, world: World, make: MakePolicy) -> None:
        self.course = replace(course, policy=_ALIASES.get(course.policy, course.policy))
        self.policy = make(course.policy, course.uplink_budget_bps)
        self.audits: deque[Audit] = deque(maxlen=MAX_AUDITS)
        """Newest first."""
        self._world = world
        self._make = make
        self._since_ns = 0
        self._seen: Observation | None = None

    def decide(self, seen: Observation) -> Decision:
        self._seen = seen
        return self.policy.decide(world=self._world, seen=seen)

    def settled(self, decision: Decision, *, latency_ms: float, answered: bool, now_ns: int) -> None:
        """As `Learner`: what was decided before the policy came teaches it nothing."""
        if isinstance(self.policy, Learner) and now_ns - latency_ms * 1e6 >= self._since_ns:
            self.policy.settled(decision, latency_ms=latency_ms, answered=answered, now_ns=now_ns)

    def change(self, course: Course, *, actor: str, now_ns: int, unix_ms: int) -> None:
        """From the next frame on. Raises SettingsError that names the key, and changes nothing then."""
        policy = self._policy_for(course)
        if policy is not None:
            self.policy, self._since_ns = policy, now_ns
        before, self.course = self.course, replace(course, policy=_ALIASES.get(course.policy, course.policy))
        self.note(actor, str(before), str(self.course), unix_ms)

    def note(self, actor: str, before: str, after: str, unix_ms: int) -> None:
        """Of a change that somebody made, here or beside."""
        self.audits.appendleft(Audit(unix_ms, actor, before, after))

    def what_if(self, course: Course, now_ns: int) -> Alternative | None:
        """What a frame like the last would be decided on now, as things are and by `course`; None: there was none.

        Raises SettingsError as `change` does. World, policy and all that they hold stay as they are.
        """
        policy = self._policy_for(course)
        if self._seen is None:
            return None
        seen = replace(self._seen, now_ns=now_ns)
        then = replace(seen, budget_ms=seen.budget_ms + course.deadline_ms - self.course.deadline_ms)
        return Alternative(
            self._apart(self.policy, seen),
            self._apart(policy or self.policy, then),
            (now_ns - self._seen.now_ns) / 1e6,
        )

    def known_policies(self) -> list[str]:
        """What the policy may be set to here."""
        points = self._world.points
        places = {point.place for point in points}
        names = ["adaptive", *(f"only:{place}" for place in (Place.SPLIT, Place.FRAME) if place in places)]
        names += ["local-only", *(["cloud-only"] if Place.FRAME in places else []), "track", *RIVALS]
        return names + [f"static:{point.name}" for point in points]

    def _policy_for(self, course: Course) -> Policy | None:
        """A new one; None: the one there is will do. Raises SettingsError."""
        check_course(course)
        if replace(course, deadline_ms=self.course.deadline_ms) == self.course:
            return None
        return self._make(course.policy, course.uplink_budget_bps)

    def _apart(self, policy: Policy, seen: Observation) -> Decision:
        """The decision of a copy in a copy of the world. Operating points are values, and not copied."""
        shared = {id(point): point for point in _all_points(self._world)}
        policy, world = copy.deepcopy((policy, self._world), shared)
        return policy.decide(world=world, seen=seen)


def check_course(course: Course) -> None:
    """Raises SettingsError that names the key."""
    if not 1 <= course.deadline_ms <= 60_000:
        raise SettingsError(f"a deadline of {course.deadline_ms:g} ms is not within 1 to 60000", key="deadline_ms")
    if not (math.isfinite(course.uplink_budget_bps) and 0 <= course.uplink_budget_bps <= 1e12):
        raise SettingsError(f"{course.uplink_budget_bps:g} is no rate in bits per second", key="uplink_budget_bps")


def _all_points(world: World) -> Sequence[object]:
    return [*world.points, *map(world.planned, world.points)]
