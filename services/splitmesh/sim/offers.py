"""Owns a simulated frame's dealings with the cloud: one codec thread, streams, sending, probes. As `edge.offers`."""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import partial

from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.probe import ProbeSchedule
from splitmesh.policy.world import World
from splitmesh.sim.door import Door, Terms
from splitmesh.sim.draws import Draws
from splitmesh.sim.engine import Engine, Wait
from splitmesh.sim.frame import Frame
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.request import Request, Said, StreamPart
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.streams import CHAINED, Coded, Stream

_BREAKS = frozenset({Said.NEED_KEYFRAME, Said.NO_RESPONDERS})
_LEAST_PATIENCE_S = 1.0
_PROBE_SHARE_OF_BUDGET = 0.3
_GREY_BYTES = 556
"""A grey JPEG of 300 × 300."""
_STREAM_IDS = 1_000_000


class Offers:
    """`door` None: the policy needs no cloud, and every offer is declined."""

    def __init__(
        self, engine: Engine, door: Door | None, world: World, plan: SimPlan, scenario: Scenario, draws: Draws
    ) -> None:
        self._engine = engine
        self._door = door
        self._world = world
        self._plan = plan
        self._scenario = scenario
        self._draws = draws
        self._codec_free_ns = 0
        self._streams: dict[tuple[str, str], Stream] = {}
        self._opened = 0
        self._probing = ProbeSchedule()
        pictures = [p for p in world.points if p.place is Place.FRAME and p.codec == "jpeg"]
        self._picture = min(pictures, key=lambda p: p.payload_bytes, default=None)
        whole_ms = max(p.cloud_ms for p in world.points)
        self._grey = OperatingPoint("probe", Place.FRAME, 0.0, codec="jpeg", level=30, cloud_ms=whole_ms)

    @property
    def world(self) -> World:
        """What the edge knows now; see `Door.world`."""
        return self._world if self._door is None else self._door.world

    def offer(self, frame: Frame) -> Generator[Wait, None, Request | None]:
        """Code and send; None if it can't be sent."""
        door = self._door
        if door is None or door.closed:
            return None
        return (yield from (self._by_stream(door, frame) if frame.point.key_bytes else self._alone(door, frame)))

    def cancel(self, request: Request) -> None:
        """The frame has its result from elsewhere. A frame of a stream stays: its answer acknowledges it."""
        if request.part is None and self._door is not None:
            self._door.cancel(request)

    # -- coding ---------------------------------------------------------------------------------------------------

    def _alone(self, door: Door, frame: Frame) -> Generator[Wait, None, Request | None]:
        yield from self._encoded(frame)
        if door.closed:
            return None
        size = max(1, round(frame.point.payload_bytes * self._scale(frame, self._plan.spread(frame.point).size)))
        return door.send(str(frame.seq), frame.seq, frame.point, size, _terms(frame))

    def _by_stream(self, door: Door, frame: Frame) -> Generator[Wait, None, Request | None]:
        point, world = frame.point, self.world
        stream = self._stream(point)
        self._tidy(door)
        now_ns = self._engine.now_ns
        if stream.full:
            return None
        due_ms = (frame.deadline_ns - now_ns) / 1e6
        room = world.room_bytes(point, due_ms, now_ns, key=world.payloads.needs_key(point))
        if self._codec_free_ns > now_ns:
            yield Wait(self._codec_free_ns)
        if stream.awaits_key:
            return None
        spread = self._plan.spread(point)
        scale, key_scale = self._scale(frame, spread.size), self._scale(frame, spread.key)
        coded = stream.code(point, scale, room, key_scale=key_scale)
        yield from self._encoded(frame, asked_ns=now_ns)
        if door.closed or not stream.send(coded):
            stream.lost(coded, broken=False, refused=False)
            return None
        frame.kept = coded.kept
        if coded.level != point.level:
            point = frame.coarser = self.world.at_level(point, coded.level)
            # All of it is there at that level, whatever was there before.
            truly = self._scenario.true_fidelity(self.world.planned(point))
            frame.kept = max(coded.kept, truly / max(frame.truth, 1e-9))
        part = StreamPart(stream.id, coded.number, coded.base)
        request = door.send(
            str(frame.seq),
            frame.seq,
            point,
            coded.size_bytes,
            _terms(frame),
            home=stream.home,
            part=part,
            coarser=point is not frame.point,
        )
        self._watch(stream, coded, request)
        return request

    def _encoded(self, frame: Frame, asked_ns: int | None = None) -> Generator[Wait, None, None]:
        """Wait for the codec thread and for it to be done."""
        now_ns = self._engine.now_ns
        sigma = self._plan.spread(frame.point).encode
        usual_ms = frame.point.encode_ms * self._scenario.encode_scales.get(frame.point.codec, 1.0)
        took_ms = usual_ms * math.exp(sigma * self._draws.encode_z[frame.seq])
        self._codec_free_ns = max(now_ns, self._codec_free_ns) + round(took_ms * 1e6)
        yield Wait(self._codec_free_ns)
        self.world.on_encoded(frame.point, (self._engine.now_ns - (now_ns if asked_ns is None else asked_ns)) / 1e6)

    def _scale(self, frame: Frame, sigma: float) -> float:
        """Size of this frame's payload against the plan's mean, where sizes are spread by `sigma`."""
        usual = self._scenario.size_scales.get(frame.point.codec, 1.0)
        return usual * math.exp(sigma * self._draws.size_z[frame.seq] - sigma * sigma / 2)

    # -- streams --------------------------------------------------------------------------------------------------

    def _stream(self, point: OperatingPoint) -> Stream:
        name = (point.codec, point.cut)
        stream = self._streams.get(name)
        if stream is None:
            tell = partial(self._world.payloads.on_reference, point.codec, point.cut)
            first = len(self._streams) * _STREAM_IDS
            stream = self._streams[name] = Stream(first, chained=point.codec in CHAINED, tell=tell)
        return stream

    def _tidy(self, door: Door) -> None:
        """Begin anew what can't go on: its worker is silent, the breaker has opened, its reference is old."""
        opened, now_ns = self.world.breaker.opened, self._engine.now_ns
        for stream in self._streams.values():
            gone = stream.home >= 0 and door.silent(stream.home)
            if stream.stale(now_ns) or opened != self._opened or gone:
                stream.reset()
        self._opened = opened

    def _watch(self, stream: Stream, coded: Coded, request: Request) -> None:
        """The reply acknowledges the frame; its lack is the loss."""

        def over() -> None:
            reply = request.reply.value
            if reply is None:
                return
            if reply.said is Said.ANSWER:
                stream.answered(coded, reply.worker, self._engine.now_ns)
            else:
                stream.lost(coded, broken=reply.said in _BREAKS, refused=reply.said.by_worker)

        if stream.home < 0:
            now_ns = self._engine.now_ns
            expected_s = self.world.link.network_ms(coded.size_bytes, now_ns) / 1e3
            patience_s = max(_LEAST_PATIENCE_S, 3 * expected_s)
            overdue = partial(self._overdue, stream, coded, request)
            self._engine.at(now_ns + round(patience_s * 1e9), overdue)
        request.reply.hear(over)

    @staticmethod
    def _overdue(stream: Stream, coded: Coded, request: Request) -> None:
        if not request.reply.done:
            stream.overdue(coded)

    # -- probes ---------------------------------------------------------------------------------------------------

    def maybe_probe(self, frame: Frame) -> None:
        """Ride on a settled frame to learn the state of the link, if a probe is due."""
        if (door := self._door) is None or door.closed:
            return
        self._tidy(door)
        now_ns, world = self._engine.now_ns, self.world
        budget_ns = frame.deadline_ns - frame.captured_ns
        point, size = self._picture, self._picture.payload_bytes if self._picture else 0.0
        slow = world.link.transfer_ms(size) > _PROBE_SHARE_OF_BUDGET * budget_ns / 1e6
        if point is None or slow or not world.breaker.closed:
            point, size = self._grey, float(_GREY_BYTES)
        if not self._probing.due(world, size, now_ns):
            return
        self._probing.sent(now_ns)
        terms = Terms(now_ns, now_ns + budget_ns, frame.decision.chosen.predicted_ms, probe=True)
        request = door.send(f"{frame.seq}.probe", frame.seq, point, round(size), terms)
        request.reply.hear(self._probing.back)


def _terms(frame: Frame) -> Terms:
    return Terms(frame.decided_ns, frame.deadline_ns, frame.decision.chosen.predicted_ms)
