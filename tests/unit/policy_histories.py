"""Made-up histories of an edge: seeded worlds in all conditions, and what the adaptive policy decides in them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from splitmesh.policy.adaptive import Adaptive
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.link import LinkEstimator
from splitmesh.policy.payloads import Reference
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import RemoteTimes, World

MS = 1_000_000
FRAMES = 10
"""Decisions in one history."""
_BUDGETS_BPS = (None, None, 100_000.0, 2e6)
_ONLY = ("", "", "", "split", "frame", "split/late")


def decisions(seed: int) -> Iterator[Decision]:
    """What is decided on `FRAMES` successive frames of history `seed`."""
    history = _History(random.Random(seed))
    for left in reversed(range(FRAMES)):
        yield history.next_frame(last=not left)


@dataclass(slots=True)
class _Sent:
    key: str
    point: OperatingPoint
    due_ns: int


class _History:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._now_ns = 10**12
        self._world = made_up_world(rng, self._now_ns)
        self._policy = Adaptive(uplink_budget_bps=rng.choice(_BUDGETS_BPS), only=rng.choice(_ONLY))
        self._budget_ms = rng.choice((90.0, 150.0, 390.0))
        self._period_ms = rng.choice((33.3, 40.0, 100.0))
        self._sent: list[_Sent] = []
        self._sends = 0

    def next_frame(self, *, last: bool) -> Decision:
        rng = self._rng
        self._now_ns += int(rng.choice((1, 1, 1, 4)) * self._period_ms * MS)
        self._answers()
        decision = self._policy.decide(world=self._world, seen=self._seen(last=last))
        self._world.on_result(
            decision.point.place,
            decision.chosen.predicted_ms * rng.lognormvariate(0.05, 0.25),
            decision.chosen.predicted_ms,
            self._now_ns,
        )
        if decision.point.remote:
            self._send(decision)
        return decision

    def _seen(self, *, last: bool) -> Observation:
        rng = self._rng
        # With hardly any time left all remote points are equal but for rounding, and so is which is held to later.
        hopeless = last and rng.random() < 0.3
        return Observation(
            now_ns=self._now_ns,
            budget_ms=rng.uniform(-5, 20) if hopeless else self._budget_ms - rng.uniform(0, 12),
            device_backlog_ms=rng.choice((0.0, 0.0, rng.uniform(0, 30), rng.uniform(0, 200))),
            frame_period_ms=self._period_ms,
            motion=rng.choice((0.0, 0.01, rng.uniform(0, 0.3))),
            track_age_ms=rng.uniform(1, 600) if rng.random() < 0.9 else None,
            track_carried=rng.choice((1.0, 1.0, 0.7)),
        )

    def _send(self, decision: Decision) -> None:
        world, point, rng = self._world, decision.point, self._rng
        key = bool(point.key_bytes) and world.payloads.needs_key(point)
        size = round(world.payloads.expected(point, key=key) * rng.lognormvariate(0, 0.2)) + 1
        self._sends += 1
        world.on_sent(f"sent-{self._sends}", point, size, self._now_ns, is_key=key, coarser=rng.random() < 0.2)
        if key:
            world.payloads.on_reference(point.codec, point.cut, Reference.COMING)
        due_ns = self._now_ns + int(decision.chosen.predicted_ms * rng.lognormvariate(0, 0.3) * MS)
        self._sent.append(_Sent(f"sent-{self._sends}", point, due_ns))

    def _answers(self) -> None:
        world, rng = self._world, self._rng
        for sent in [each for each in self._sent if each.due_ns <= self._now_ns]:
            self._sent.remove(sent)
            reference = Reference.ALIVE
            if rng.random() < 0.85:
                times = RemoteTimes(rng.uniform(0, 8), sent.point.decode_ms, 1.3 * sent.point.cloud_ms, 0.2)
                world.on_reply(sent.key, sent.point, sent.due_ns, rng.choice("ab"), times)
            else:
                world.link.on_lost(sent.key)
                world.breaker.on_miss(self._now_ns)
                reference = Reference.NONE
            if sent.point.key_bytes:
                world.payloads.on_reference(sent.point.codec, sent.point.cut, reference)


def _points(rng: random.Random) -> tuple[OperatingPoint, ...]:
    made = [OperatingPoint("track", Place.TRACK, 1.0), OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=17.5)]
    if rng.random() < 0.3:
        made.append(OperatingPoint("local/small", Place.LOCAL, 0.8, edge_ms=4.0, variant="small"))
    for codec, level, fidelity, size in (
        ("jpeg", 30, 0.82, 5150),
        ("jpeg", 95, 0.96, 26_000),
        ("webp", 30, 0.84, 2500),
    ):
        name = f"frame/{codec}-{level}"
        made.append(OperatingPoint(name, Place.FRAME, fidelity, "", codec, level, 0, 0.7, size, 0.6, 17.5))
    for level, fidelity, size, first in ((24, 0.9, 974, 5862), (38, 0.81, 211, 1708)):
        point = OperatingPoint(
            f"frame/h264-{level}", Place.FRAME, fidelity, "", "h264", level, 0, 1.5, size, 0.9, 17.5
        )
        made.append(replace(point, key_bytes=first))
    for cut, head_ms in (("early", 7.0), ("late", 9.4)):
        tail_ms = 18.5 - head_ms
        split = OperatingPoint("", Place.SPLIT, 1, cut, "", 0, head_ms, 0.3, 0, 0.25, tail_ms, tail_ms)
        for level, fidelity, size in ((3, 0.9, 10_685), (8, 0.9998, 32_536)):
            name = f"split/{cut}/u8zstd-{level}"
            made.append(replace(split, name=name, codec="u8zstd", level=level, fidelity=fidelity, payload_bytes=size))
        for level, fidelity, size, first in ((69, 0.85, 111, 3360), (79, 0.9, 439, 4338), (99, 0.98, 2917, 11_422)):
            name = f"split/{cut}/temporal-{level}"
            temporal = replace(split, name=name, codec="temporal", level=level, fidelity=fidelity, encode_ms=3.7)
            made.append(replace(temporal, payload_bytes=size, key_bytes=first, decode_ms=2.5))
    return tuple(made)


def made_up_world(rng: random.Random, now_ns: int) -> World:
    link = LinkEstimator(bandwidth_bps=10 ** rng.uniform(4.5, 8), base_ms=rng.uniform(1, 60))
    world = World(_points(rng), track_kappa=rng.uniform(1, 80), link=link)
    remote = [point for point in world.points if point.remote]
    slowdown = 10 ** rng.uniform(-0.2, 1.3)
    for _ in range(rng.choice((0, 1, 20))):
        world.on_device(17.5 * slowdown * rng.lognormvariate(0, 0.2), 17.5, now_ns)
        world.on_encoded(remote[0], 0.7 * slowdown)
    _sends(world, rng, remote, now_ns)
    for place in Place:
        spread = rng.choice((0.03, 0.2, 1.0))
        for index in range(rng.choice((0, 3, 100))):
            world.on_result(place, 100 * rng.lognormvariate(0.1, spread), 100, now_ns - (100 - index) * 40 * MS)
    for _ in range(rng.choice((0, 5, 80))):
        world.track.audit(rng.uniform(0.2, 1), rng.uniform(0, 0.3), rng.uniform(1, 600))
    for codec, cut in sorted({(point.codec, point.cut) for point in remote if point.key_bytes}):
        world.payloads.on_reference(codec, cut, rng.choice(tuple(Reference)))
    if rng.random() < 0.9:
        world.breaker.on_success(now_ns - 2 * MS)
        world.breaker.on_success(now_ns - MS)
    world.on_heartbeat(now_ns, rng.choice((0.0, 3.0, 50.0)))
    if rng.random() < 0.12:
        world.on_sent("stuck", rng.choice(remote), 9000, now_ns - rng.choice((10, 300)) * MS)
    return world


def _sends(world: World, rng: random.Random, remote: list[OperatingPoint], now_ns: int) -> None:
    """Up to sixty exchanges over a link of one true rate, the last at `now_ns`."""
    count = rng.choice((0, 2, 60))
    ms_per_kb, base_ms = 10 ** rng.uniform(-1, 2), rng.uniform(1, 60)
    for index in range(count):
        point = rng.choice(remote)
        key = bool(point.key_bytes) and rng.random() < 0.1
        size = round((point.key_bytes if key else point.payload_bytes) * rng.lognormvariate(0.2, 0.3))
        sent_ns = now_ns - (count - index) * 200 * MS
        took_ms = (base_ms + size / 1e3 * ms_per_kb) * rng.lognormvariate(0, 0.1) + point.cloud_ms
        world.on_sent(f"before-{index}", point, size, sent_ns, is_key=key, coarser=rng.random() < 0.2)
        times = RemoteTimes(rng.uniform(0, 3), point.decode_ms, point.cloud_ms, 0)
        world.on_reply(f"before-{index}", point, sent_ns + int(took_ms * MS), rng.choice("ab"), times)
