"""Owns everything the edge has learnt of its device, the link and the cloud, each cause apart.

`T_k = q_e + γ_e·p_e(k) + enc_k + (W + S_k)/B + a + q_c + γ_c·(dec_k + p_c(k))`: contention here is never blamed on
the link. Events go in with `now_ns`; forecasts come out. Holds no clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from splitmesh.errors import ModelError
from splitmesh.policy.breaker import Breaker
from splitmesh.policy.decision import Observation
from splitmesh.policy.estimators import CENSORED, DeviceScale, LatenessEstimator, OnlineQuantile, ScaleEstimator
from splitmesh.policy.fidelity import MOVING, ContentFidelity
from splitmesh.policy.link import LinkEstimator
from splitmesh.policy.moment import MARGIN_MS, Moment
from splitmesh.policy.numeric.kernel import KERNEL
from splitmesh.policy.numeric.values import Chances
from splitmesh.policy.payloads import Payloads, at_level
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.track_fidelity import TrackFidelity

_WAIT_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class RemoteTimes:
    """What a worker says it spent on one request, ms."""

    queue_ms: float
    decode_ms: float
    service_ms: float
    postprocess_ms: float

    @property
    def total_ms(self) -> float:
        return self.queue_ms + self.decode_ms + self.service_ms + self.postprocess_ms


class _Believed:
    """Operating points as they are believed to be for one kind of content."""

    def __init__(self, points: tuple[OperatingPoint, ...]) -> None:
        self.points = points
        self.by_name = {point.name: point for point in points}
        self.cuts = tuple(point for point in points if point.place is Place.SPLIT)
        self.pictures = tuple(point for point in points if point.place is Place.FRAME)
        self.wholes = tuple(point for point in points if point.place is Place.LOCAL)
        self.tracks = tuple(point for point in points if point.place is Place.TRACK)


class World:
    """`points`: the plan's operating points. Raises ModelError unless "track" and "local" are among them.

    `points`, `by_name` and those of each place then give them with the fidelity that is expected here and now: the
    same objects from one call to the next, until an audit or the content's kind makes others of them.
    """

    def __init__(self, points: Sequence[OperatingPoint], *, track_kappa: float, link: LinkEstimator | None = None):
        self._planned = _Believed(tuple(points))
        if not {"track", "local"} <= self._planned.by_name.keys():
            raise ModelError("a plan needs the operating points 'track' and 'local'")
        self.fidelity = ContentFidelity()
        self._moving = False
        self._by_content = {False: self._planned, True: self._planned}
        self._believe()
        self.link = link or LinkEstimator()
        self.breaker = Breaker()
        self.track = TrackFidelity(kappa=track_kappa)
        self.gamma_edge = DeviceScale()
        self._gamma_encode: dict[str, ScaleEstimator] = {}
        self._encode_scales: dict[str, float] = {"": 1.0}
        """Values of the former by codec; "": of one that has not run here yet, as the one that ran last."""
        self._edge_late = OnlineQuantile(0.95, start=0.2)
        self._gamma_cloud: dict[str, ScaleEstimator] = {}
        self._last_worker = ""
        self._cloud_wait_ms = 0.0
        self.payloads = Payloads()
        self.lateness = {place: LatenessEstimator() for place in Place}
        self.last_sample_ns = 0
        self.device_ms = 0.0
        """For which the device has run models, audits included."""
        self.may_spare = True
        """False: power has a budget that is used up, and nothing runs only to learn."""
        self.sent_bytes = 0
        """Messages handed to the link for frames and probes."""

    # -- events ---------------------------------------------------------------------------------------------------

    def on_motion(self, motion: float) -> None:
        """The frame to be decided next moves so much: of the points, what is believed of such content holds now."""
        moving = motion >= MOVING
        if moving is not self._moving:
            self._moving = moving
            self._believe()

    def on_audit(self, sent: OperatingPoint, agreed: float, motion: float) -> None:
        """What answered a frame of that motion at `sent` agreed by `agreed` with the whole model, [0, 1]."""
        if not self.fidelity.audit(self.planned(sent), agreed, moving=motion >= MOVING):
            return
        points = self._planned.points
        for moving in self._by_content:
            self._by_content[moving] = _Believed(self.fidelity.believed(points, moving=moving))
        self._believe()

    def _believe(self) -> None:
        now = self._by_content[self._moving]
        self.points, self.by_name, self.cuts, self.pictures = now.points, now.by_name, now.cuts, now.pictures
        self.wholes, self.tracks = now.wholes, now.tracks

    def on_device(self, measured_ms: float, profiled_ms: float, now_ns: int) -> None:
        """The accelerator ran a part that the plan profiled at `profiled_ms`."""
        if 0 < measured_ms < math.inf:
            self.device_ms += measured_ms
        if 0 < profiled_ms < math.inf and measured_ms < math.inf:
            self._edge_late.observe(measured_ms / (self.gamma_edge.value * profiled_ms) - 1)
        self.gamma_edge.ran(measured_ms, profiled_ms, now_ns)

    def on_device_spare(self, ran_ms: float) -> None:
        """The accelerator ran for so long for no frame: an audit, whether or not it came to its end."""
        if 0 < ran_ms < math.inf:
            self.device_ms += ran_ms

    def on_device_given_up(self, ran_ms: float, profiled_ms: float, now_ns: int) -> None:
        """A part was given up that had run for `ran_ms`. Teaches something only if it is late by then."""
        spent_ms = self.device_ms + max(0.0, ran_ms)
        if ran_ms > self.edge_ms(profiled_ms):
            self.on_device(CENSORED * ran_ms, profiled_ms, now_ns)
        self.device_ms = spent_ms

    def on_encoded(self, point: OperatingPoint, measured_ms: float) -> None:
        """A payload of `point` was coded, the wait for the codec thread included."""
        scale = self._gamma_encode.setdefault(point.codec, ScaleEstimator())
        scale.observe(measured_ms, point.encode_ms)
        self._encode_scales[point.codec] = self._encode_scales[""] = scale.value

    def on_sent(
        self,
        key: str,
        point: OperatingPoint,
        payload_bytes: int,
        now_ns: int,
        *,
        message_bytes: int | None = None,
        is_key: bool = False,
        coarser: bool = False,
    ) -> None:
        """message_bytes: with all that goes around the payload. is_key: it is of a codec with state, and builds on
        nothing. coarser: `point` is what the link left of another; see `at_level`."""
        self.payloads.on_sent(point, payload_bytes, key=is_key, coarser=coarser)
        around = self.payloads.around(point, key=is_key)
        size = round(payload_bytes + around) if message_bytes is None else message_bytes
        self.sent_bytes += size
        self.link.on_sent(key, size, now_ns, remote_ms=self.remote_ms(point))

    def on_reply(self, key: str, point: OperatingPoint, now_ns: int, worker: str, times: RemoteTimes) -> float | None:
        """An answer or refusal came back. Returns the time it spent on the path, ms (None: nobody waited, or the
        worker's times are none, and nothing is learnt from them)."""
        if not all(
            0 <= each < math.inf for each in (times.queue_ms, times.decode_ms, times.service_ms, times.postprocess_ms)
        ):
            self.breaker.on_alive(now_ns)
            self.link.on_lost(key)
            return None
        self.last_sample_ns = now_ns
        self._last_worker = worker
        if times.service_ms > 0:
            profiled = point.cloud_ms + point.decode_ms
            measured = times.service_ms + times.decode_ms + times.postprocess_ms
            self._gamma_cloud.setdefault(worker, ScaleEstimator()).observe(measured, profiled)
        self._cloud_wait_ms += _WAIT_WEIGHT * (times.queue_ms - self._cloud_wait_ms)
        self.breaker.on_alive(now_ns)
        return self.link.on_delivered(key, now_ns, remote_ms=times.total_ms)

    def on_heartbeat(self, now_ns: int, predicted_wait_ms: float) -> None:
        if 0 <= predicted_wait_ms < math.inf:
            self._cloud_wait_ms += _WAIT_WEIGHT * (predicted_wait_ms - self._cloud_wait_ms)
        self.breaker.on_alive(now_ns)

    def on_result(self, place: Place, actual_ms: float, predicted_ms: float, now_ns: int) -> None:
        """A decided frame took `actual_ms` from decision to answer (or at least that long, if it was given up)."""
        self.lateness[place].observe(actual_ms, predicted_ms, now_ns)

    # -- questions ------------------------------------------------------------------------------------------------

    def at(self, now_ns: int) -> Moment:
        """What is known now, as it applies to every point alike."""
        link_backlog_ms, stalled_ms = self.link.backlog(now_ns)
        gamma_edge = self.gamma_edge.at(now_ns)
        return Moment(
            link_backlog_ms,
            stalled_ms,
            self.link.base_ms,
            self.link.transfer_ms(1.0),
            self.link.doubt_ms(1.0),
            self._cloud_wait_ms,
            gamma_edge,
            self._encode_scales,
            self.gamma_cloud,
            gamma_edge * self._late_by,
        )

    @property
    def gamma_cloud(self) -> float:
        known = self._gamma_cloud.get(self._last_worker)
        return known.value if known else 1.0

    def edge_ms(self, profiled_ms: float) -> float:
        return self.gamma_edge.value * profiled_ms

    def encode_ms(self, point: OperatingPoint) -> float:
        """Codecs don't run where models do, and what is done in no time waits for its thread all the same: each has a
        scale of its own."""
        return self._encode_scales.get(point.codec, self._encode_scales[""]) * point.encode_ms

    def message_bytes(self, point: OperatingPoint, *, key: bool | None = None) -> float:
        """Expected size of the next request of `point` on the wire. key: it builds on nothing; None: as it is now."""
        as_key = self.payloads.needs_key(point) if key is None else key
        return self.payloads.message_bytes(point, key=as_key)

    def planned(self, point: OperatingPoint) -> OperatingPoint:
        """`point` as the plan has it, whatever is believed of it."""
        known = self._planned.by_name.get(point.name)
        return point if known is None else at_level(known, point.level, self._planned.points)

    def at_level(self, point: OperatingPoint, level: int) -> OperatingPoint:
        """What `point` is expected to be at another level of its stream."""
        return at_level(point, level, self.points)

    def room_bytes(self, point: OperatingPoint, due_ms: float, now_ns: int, *, key: bool) -> float:
        """Payload that is expected to cross, and to be answered `due_ms` from now, if it is handed to the link now.

        With time to spare, and while the rate is in doubt as if it were two standard deviations less. Never nothing:
        what is late anyway keeps the stream going, a key with what crosses in half of that time.
        """
        around_bytes = self.payloads.around(point, key=key)
        return self.at(now_ns).room_bytes(point, due_ms, around_bytes=around_bytes, key=key)

    def remote_ms(self, point: OperatingPoint) -> float:
        """What the worker needs, its queue included."""
        return self._cloud_wait_ms + self.gamma_cloud * (point.decode_ms + point.cloud_ms)

    @property
    def _gamma_resume(self) -> float:
        return self.gamma_edge.value * self._late_by

    @property
    def _late_by(self) -> float:
        """Factor on a device time that 95 % of runs stay within."""
        return 1 + max(0.0, self._edge_late.value)

    def resume_q95_ms(self, point: OperatingPoint) -> float:
        """95 % quantile of the tail's time on this edge."""
        return self._gamma_resume * point.resume_ms

    def predicted_ms(self, point: OperatingPoint, seen: Observation, *, key: bool | None = None) -> float:
        """`T_k` from now to the result, without any fallback; `key` as in `message_bytes`."""
        size = self.message_bytes(point, key=key) if point.remote else 0.0
        return self.at(seen.now_ns).predicted_ms(point, size, seen.device_backlog_ms)

    def p_hits(self, place: Place, predicted_ms: Sequence[float], seen: Observation) -> list[float]:
        """P(result within the budget) of each of what is predicted to take `predicted_ms` at `place`."""
        return KERNEL.within(list(predicted_ms), self.chances(place, seen))

    def chances(self, place: Place, seen: Observation) -> Chances:
        """What `p_hits` of any prediction follow from."""
        return self.lateness[place].chances(seen.budget_ms - MARGIN_MS, seen.now_ns)

    def p_hit(
        self, point: OperatingPoint, predicted_ms: float, seen: Observation, *, key: bool | None = None
    ) -> float:
        """As `p_hits`. While the link's rate is in doubt, large payloads are taken to be slow: sent in good hope,
        they would be in the way of all that follows.
        """
        if point.remote:
            predicted_ms += self.link.doubt_ms(self.message_bytes(point, key=key))
        return self.p_hits(point.place, (predicted_ms,), seen)[0]

    def resume_at_ms(self, point: OperatingPoint, budget_ms: float) -> float:
        """When the fallback timer of a SPLIT fires: `deadline − q95(tail) − margin`, ms from the decision."""
        return budget_ms - self.resume_q95_ms(point) - MARGIN_MS

    def resumable(self, point: OperatingPoint, seen: Observation) -> bool:
        """A cut is only eligible if its tail still fits when the timer fires."""
        return self.at(seen.now_ns).resumable(point, seen.device_backlog_ms, seen.budget_ms)
