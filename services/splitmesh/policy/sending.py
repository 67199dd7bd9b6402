"""Owns what it is worth to send one of the points of a place, before what it takes of the device is charged.

What does not depend on the device's backlog is worked out once, as a few floats for each payload; behind a backlog a
prediction is then a comparison and a few sums, and one call gives the chances of all.

A codec with state first needs a key, which is many times larger than what follows it. Its utility is the mean over
the frames that a key is expected to serve, the key's own among them: a key that will be late itself can still pay.
Where the link has no room for all of it in time, it comes in parts (`part_of_key`), if its codec can do that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import itemgetter

from splitmesh.policy.decision import Observation
from splitmesh.policy.moment import MARGIN_MS, Moment
from splitmesh.policy.payloads import MESSAGE_BYTES, coarser_at_will, fading_in, part_of_key, same_stream
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.track_fidelity import TRUSTED
from splitmesh.policy.world import World

OWN_PRICE = 0.03
FRESHNESS = 0.1
"""Worth of a new answer (the device's own even if it is late) to the frames that will be tracked from it."""
_FREE_PERIODS = 0.5
"""Of the link's time a payload may take without a price: it has left before the next one comes, a larger one too."""
_SWITCH_COST = 0.004
_RESUMED_FIDELITY = 0.9
_ROUNDING = 1e-9

Payload = tuple[float, float, float, float, float, float, float]
"""(head's and tail's time on the device, ms, 0 for pictures; ms until the payload is ready, without a backlog; ms
until the link is free; ms from its turn there to the result; ms that doubt of the rate adds; utility if the answer is
late; what is gained if it is not). A tuple, and not a class: a frame has dozens."""
Valued = tuple[OperatingPoint, float, float, float]
"""(point, predicted_ms, p_hit, utility)."""
_UTILITY = itemgetter(3)


class Sending:
    """Of `points`, all at `place`, to the frame `seen`. Asks `world`, teaches it nothing.

    tracked: fidelity of the tracker's answer. incumbent: the point in use, if there is one. byte_price: utility that
    a byte costs beside what the payload's own time on the link does.
    """

    def __init__(
        self,
        world: World,
        now: Moment,
        seen: Observation,
        place: Place,
        points: Sequence[OperatingPoint],
        *,
        tracked: float,
        incumbent: OperatingPoint | None,
        byte_price: float,
    ) -> None:
        self._world, self._now, self._seen, self._place = world, now, seen, place
        self._tracked = tracked
        self._incumbent = incumbent
        self._byte_price = byte_price
        self._byte_periods = now.ms_per_byte / seen.frame_period_ms
        plain, keyed = world.payloads.by_need_of_key(points)
        self._plain = list(zip(plain, self._single(plain), strict=True))
        self._keyed = list(zip(keyed, self._lasting(keyed), strict=True)) if keyed else []
        self._longest_ms = max((payload[0] for _, payload in self._plain), default=0.0)
        """That head and tail of one of these take of the device."""

    def any_fits(self) -> bool:
        """With a free device the tail of one at least would fit."""
        slack_ms = self._slack_ms(0.0)
        return any(payload[0] <= slack_ms for _, payload in chain(self._plain, self._keyed))

    def at(self, device_backlog_ms: float) -> list[Valued]:
        """What each is worth behind that backlog; of cuts, those whose tail still fits then."""
        slack_ms = self._slack_ms(device_backlog_ms)
        plain = self._plain
        if self._longest_ms > slack_ms:
            plain = [each for each in plain if each[1][0] <= slack_ms]
        if self._keyed:
            keyed = [each for each in self._keyed if each[1][0] <= slack_ms]
            return self._with_streams_that_begin(plain, keyed, device_backlog_ms)
        return self._answers(plain, [device_backlog_ms] * len(plain))

    def best_when_free(
        self, valued: Sequence[Valued], backlogs_ms: Sequence[float]
    ) -> tuple[OperatingPoint, list[float]]:
        """(the best were the device free, its utility then and where it is free only after each of the backlogs).

        valued: as `at` some backlog. Where the tail would not fit any more, the utility is 0. What its stream costs
        to begin is the same. Raises ValueError if none fits.
        """
        best, utility, payload = self._best_when_free(valued)
        answers = self._answers([(best, payload)] * (len(backlogs_ms) + 1), (0.0, *backlogs_ms))
        beyond = 0.0 if utility is None else utility - answers[0][3]
        slack_ms = self._slack_ms(0.0) - payload[0]
        later = [
            beyond + other if backlog_ms <= slack_ms else 0.0
            for backlog_ms, (_, _, _, other) in zip(backlogs_ms, answers[1:], strict=True)
        ]
        return best, [beyond + answers[0][3], *later]

    def _best_when_free(self, valued: Sequence[Valued]) -> tuple[OperatingPoint, float | None, Payload]:
        """(point, its utility, its payload); None: that is what the payload alone is worth."""
        if self._keyed:
            point, _, _, utility = max(self.at(0.0), key=_UTILITY)
            return point, utility, self._single((point,))[0]
        # With a free device the chance only grows, so that a utility lies between the one behind the backlog and that
        # of an answer surely in time. What is at most less than another is at least is not the best.
        behind = {point.name: utility for point, _, _, utility in valued}
        least = max(min(behind.get(point.name, -math.inf), payload[5] + payload[6]) for point, payload in self._plain)
        least -= _ROUNDING
        slack_ms = self._slack_ms(0.0)
        able = [
            (point, payload)
            for point, payload in self._plain
            if (payload[5] + payload[6] >= least or payload[5] >= least) and payload[0] <= slack_ms
        ]
        if len(able) == 1:
            return able[0][0], None, able[0][1]
        valued = self._answers(able, [0.0] * len(able))
        index = valued.index(max(valued, key=_UTILITY))
        return able[index][0], None, able[index][1]

    def _slack_ms(self, device_backlog_ms: float) -> float:
        """What head and tail may take behind that backlog; of pictures anything."""
        if self._place is Place.SPLIT:
            return self._seen.budget_ms - MARGIN_MS - device_backlog_ms
        return math.inf

    # -- streams --------------------------------------------------------------------------------------------------

    def part_of_key(self, point: OperatingPoint, key_bytes: float, lead_ms: float) -> float:
        """That will be in the first payload of its stream, in (0, 1]. lead_ms: until that is ready."""
        if not coarser_at_will(point):
            return 1.0
        due_ms = self._seen.budget_ms - lead_ms
        return part_of_key(key_bytes, self._now.room_bytes(point, due_ms, around_bytes=MESSAGE_BYTES, key=True))

    def _beginning(
        self, keyed: Sequence[tuple[OperatingPoint, Payload]], device_backlog_ms: float
    ) -> tuple[list[Payload], list[float]]:
        """(the first payload of each stream, for how many frames its key comes)."""
        expected, sizes, fidelities, frames = self._world.payloads.expected, [], [], []
        for point, payload in keyed:
            key_bytes = expected(point, key=True)
            part = self.part_of_key(point, key_bytes, device_backlog_ms + payload[1])
            sizes.append(part * key_bytes + MESSAGE_BYTES)
            fidelities.append(fading_in(point.fidelity, part))
            frames.append(1 / part)
        return self._payloads([point for point, _ in keyed], sizes, fidelities), frames

    def _lasting(self, points: Sequence[OperatingPoint]) -> list[Payload]:
        """Of each in the long run: nothing queues on the link, and what it can't carry is tracked."""
        sizes = self._world.payloads.all_message_bytes(points, key=False)
        made = []
        for size, payload in zip(sizes, self._payloads(points, sizes, queued=False), strict=True):
            missed, gained = payload[5:]
            periods = size * self._byte_periods
            share = 1 / periods if periods > 1 else 1.0
            missed = share * missed + (1 - share) * self._tracked
            made.append((*payload[:5], missed, share * gained))
        return made

    def _with_streams_that_begin(
        self,
        plain: Sequence[tuple[OperatingPoint, Payload]],
        keyed: Sequence[tuple[OperatingPoint, Payload]],
        device_backlog_ms: float,
    ) -> list[Valued]:
        """As `at`; keyed: with their payloads in the long run."""
        firsts, frames = self._beginning(keyed, device_backlog_ms)
        asked = [*plain, *zip((point for point, _ in keyed), firsts, strict=True), *keyed]
        answers = self._answers(asked, [device_backlog_ms] * len(asked))
        begin, end = len(plain), len(plain) + len(keyed)
        made = answers[:begin]
        better = self._better_than_lasting(made, device_backlog_ms)
        for (point, ms, p, first), lasting, count in zip(answers[begin:end], answers[end:], frames, strict=True):
            made.append((point, ms, p, better + self._mean_over_life(point, count, first, lasting[3])))
        return made

    def _better_than_lasting(self, made: Iterable[Valued], device_backlog_ms: float) -> float:
        """What the point in use has now, beyond what it has in the long run. A stream that is to take its place is
        held against the latter: what queues before both at this moment is no reason to change."""
        incumbent = self._incumbent
        for point, _, _, utility in made:
            if incumbent is not None and point.name == incumbent.name:
                lasting = zip((point,), self._lasting((point,)), strict=True)
                return utility - self._answers(list(lasting), (device_backlog_ms,))[0][3]
        return 0.0

    def _mean_over_life(self, point: OperatingPoint, frames: float, first: float, lasts: float) -> float:
        """Of a stream that begins: `first` for `frames`, nothing new while its key is in the way, then `lasts`."""
        payloads, blocked = self._world.payloads, 0.0
        if not coarser_at_will(point):
            blocked = max(0.0, payloads.message_bytes(point, key=True) * self._byte_periods - 1)
        life = max(payloads.key_life_frames(point), frames + blocked)
        return (frames * first + blocked * self._tracked + (life - frames - blocked) * lasts) / life

    # -- one payload alone ----------------------------------------------------------------------------------------

    def _single(self, points: Sequence[OperatingPoint]) -> list[Payload]:
        """Of each as it goes out now, if it needs no key."""
        return self._payloads(points, self._world.payloads.all_message_bytes(points, key=False))

    def _payloads(
        self,
        points: Sequence[OperatingPoint],
        sizes: Sequence[float],
        fidelities: Sequence[float] | None = None,
        *,
        queued: bool = True,
    ) -> list[Payload]:
        """sizes: of messages. fidelities: if not as in `points`. queued: behind what is on the link now."""
        now, tracked, held, byte_periods = self._now, self._tracked, self._incumbent, self._byte_periods
        gamma_encode, gamma_cloud, ms_per_byte = now.gamma_encode, now.gamma_cloud, now.ms_per_byte
        doubt_ms_per_byte, gamma_others = now.doubt_ms_per_byte, gamma_encode[""]
        gamma_edge, gamma_resume, fallback = 0.0, 0.0, tracked
        if self._place is Place.SPLIT:
            gamma_edge, gamma_resume, fallback = now.gamma_edge, now.gamma_resume, max(tracked, _RESUMED_FIDELITY)
        byte_price, queue_ms, fixed_ms = 0.0, 0.0, now.base_ms + now.cloud_wait_ms
        if queued:
            byte_price, queue_ms = self._byte_price, now.link_backlog_ms
            # What is stuck doesn't drain while the device still computes.
            if now.stalled_ms > 0:
                queue_ms, fixed_ms = 0.0, fixed_ms + queue_ms
        made = []
        for point, size, value in zip(points, sizes, fidelities or [p.fidelity for p in points], strict=True):
            price, beyond = byte_price * size, byte_periods * size - _FREE_PERIODS
            if beyond > 0:
                price += OWN_PRICE * beyond * beyond
            # Between levels of one stream is no switch. Most differ in their codec, which takes no call to see.
            if held is not None and (
                point.codec != held.codec or (point.name != held.name and not same_stream(point, held))
            ):
                price += _SWITCH_COST
            fresh = (value if value < TRUSTED else 1.0) - tracked
            if fresh > 0:
                value += FRESHNESS * fresh
            head_ms = gamma_edge * point.edge_ms
            made.append(
                (
                    head_ms + gamma_resume * point.resume_ms,
                    head_ms + gamma_encode.get(point.codec, gamma_others) * point.encode_ms,
                    queue_ms,
                    size * ms_per_byte + fixed_ms + gamma_cloud * (point.decode_ms + point.cloud_ms),
                    doubt_ms_per_byte * size,
                    fallback - price,
                    value - fallback,
                )
            )
        return made

    def _answers(
        self, asked: Sequence[tuple[OperatingPoint, Payload]], device_backlogs_ms: Sequence[float]
    ) -> list[Valued]:
        """Each payload alone, behind a backlog of its own."""
        predicted_ms, late_ms = [], []
        for (_, payload), backlog_ms in zip(asked, device_backlogs_ms, strict=True):
            _, lead_ms, queue_ms, rest_ms, doubt_ms, _, _ = payload
            ready_ms = backlog_ms + lead_ms
            # What is under way goes on draining while the device still computes.
            ms = (ready_ms if ready_ms > queue_ms else queue_ms) + rest_ms
            predicted_ms.append(ms)
            late_ms.append(ms + doubt_ms)
        hits = self._world.p_hits(self._place, late_ms, self._seen)
        return [
            (point, ms, p, payload[5] + p * payload[6])
            for (point, payload), ms, p in zip(asked, predicted_ms, hits, strict=True)
        ]
