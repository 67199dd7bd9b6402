"""Owns what it is worth to send one of the points of a place, before what it takes of the device is charged.

What does not depend on the device's backlog is worked out once, as a few floats for each payload; behind a backlog a
prediction is then a comparison and a few sums. Both are done for all points in one call of `policy.numeric`.

A codec with state first needs a key, which is many times larger than what follows it. Its utility is the mean over
the frames that a key is expected to serve, the key's own among them: a key that will be late itself can still pay.
Where the link has no room for all of it in time, it comes in parts (`part_of_key`), if its codec can do that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

from splitmesh.policy.decision import Observation
from splitmesh.policy.moment import MARGIN_MS, Moment
from splitmesh.policy.numeric.kernel import KERNEL
from splitmesh.policy.numeric.values import Payload, Terms, Valued
from splitmesh.policy.payloads import MESSAGE_BYTES, coarser_at_will, fading_in, part_of_key
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.track_fidelity import TRUSTED
from splitmesh.policy.world import World

OWN_PRICE = 0.03
FRESHNESS = 0.1
"""Worth of a new answer (the device's own even if it is late) to the frames that will be tracked from it."""
_FREE_PERIODS = 0.5
"""Of the link's time a payload may take without a price: it has left before the next one comes, a larger one too."""
_RESUMED_FIDELITY = 0.9

_UTILITY = itemgetter(3)


class _Key(NamedTuple):
    """Of a stream that would begin: what does not depend on when."""

    size_bytes: float
    in_parts: bool
    """If it must; see `coarser_at_will`."""
    remote_ms: float
    blocked_frames: float
    """That its time on the link takes, beside its own."""
    life_frames: float
    """That it is expected to serve."""


_Plain = tuple[OperatingPoint, Payload]
_Keyed = tuple[OperatingPoint, Payload, _Key]
"""The payload: in the long run."""


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
        self._fallback = max(tracked, _RESUMED_FIDELITY) if place is Place.SPLIT else tracked
        self._byte_price = byte_price
        self._byte_periods = now.ms_per_byte / seen.frame_period_ms
        self._chances = world.chances(place, seen)
        plain, keyed = world.payloads.by_need_of_key(points)
        self._plain = list(zip(plain, self._single(plain), strict=True))
        self._keyed = list(zip(keyed, self._lasting(keyed), self._keys(keyed), strict=True)) if keyed else []
        taken_ms = [payload[0] for _, payload in self._plain] + [payload[0] for _, payload, _ in self._keyed]
        """That head and tail take of the device."""
        self._shortest_ms, self._longest_ms = min(taken_ms, default=math.inf), max(taken_ms, default=0.0)

    def any_fits(self) -> bool:
        """With a free device the tail of one at least would fit."""
        return self._shortest_ms <= self._slack_ms(0.0)

    def at(self, device_backlog_ms: float) -> list[Valued]:
        """What each is worth behind that backlog; of cuts, those whose tail still fits then."""
        slack_ms = self._slack_ms(device_backlog_ms)
        plain, keyed = self._plain, self._keyed
        if self._longest_ms > slack_ms:
            plain = [each for each in plain if each[1][0] <= slack_ms]
            keyed = [each for each in keyed if each[1][0] <= slack_ms]
        if keyed:
            return self._with_streams_that_begin(plain, keyed, device_backlog_ms)
        return KERNEL.answers(plain, [device_backlog_ms] * len(plain), self._chances)

    def best_when_free(
        self, valued: Sequence[Valued], device_backlog_ms: float, backlogs_ms: Sequence[float]
    ) -> tuple[OperatingPoint, list[float]]:
        """(the best were the device free, its utility then and where it is free only after each of the backlogs).

        valued: as `at(device_backlog_ms)`. Where the tail would not fit any more, the utility is 0. What its stream
        costs to begin is the same. Raises ValueError if none fits.
        """
        best, _, _, utility = max(self.at(0.0) if device_backlog_ms else valued, key=_UTILITY)
        payload = next((each for point, each in self._plain if point is best), None) or self._single([best])[0]
        alone = KERNEL.answers([(best, payload)] * (len(backlogs_ms) + 1), [0.0, *backlogs_ms], self._chances)
        beyond = utility - alone[0][3]
        slack_ms = self._slack_ms(0.0) - payload[0]
        later = [
            beyond + other if backlog_ms <= slack_ms else 0.0
            for backlog_ms, (_, _, _, other) in zip(backlogs_ms, alone[1:], strict=True)
        ]
        return best, [utility, *later]

    def _slack_ms(self, device_backlog_ms: float) -> float:
        """What head and tail may take behind that backlog; of pictures anything."""
        if self._place is Place.SPLIT:
            return self._seen.budget_ms - MARGIN_MS - device_backlog_ms
        return math.inf

    # -- streams --------------------------------------------------------------------------------------------------

    def part_of_key(self, point: OperatingPoint, device_backlog_ms: float) -> float:
        """That will be in the first payload of its stream, in (0, 1]."""
        keyed = zip([point], self._single([point]), self._keys([point]), strict=True)
        return self._parts(list(keyed), device_backlog_ms)[0]

    def _keys(self, points: Sequence[OperatingPoint]) -> list[_Key]:
        payloads, byte_periods, remote_ms = self._world.payloads, self._byte_periods, self._now.remote_ms
        lives: dict[tuple[str, str], float] = {}
        made = []
        for point, size in zip(points, payloads.all_keys(points), strict=True):
            stream = point.cut, point.codec
            if stream not in lives:
                lives[stream] = payloads.key_life_frames(point)
            in_parts = coarser_at_will(point)
            blocked = 0.0 if in_parts else max(0.0, (size + MESSAGE_BYTES) * byte_periods - 1)
            made.append(_Key(size, in_parts, remote_ms(point), blocked, lives[stream]))
        return made

    def _parts(self, keyed: Sequence[_Keyed], device_backlog_ms: float) -> list[float]:
        """How much of each key will be in the first payload of its stream, in (0, 1]."""
        budget_ms = self._seen.budget_ms
        rooms_bytes = self._now.rooms_bytes(
            [budget_ms - (device_backlog_ms + payload[1]) for _, payload, _ in keyed],
            [key.remote_ms for _, _, key in keyed],
            around_bytes=MESSAGE_BYTES,
            key=True,
        )
        return [
            part_of_key(key.size_bytes, room_bytes) if key.in_parts else 1.0
            for (_, _, key), room_bytes in zip(keyed, rooms_bytes, strict=True)
        ]

    def _lasting(self, points: list[OperatingPoint]) -> list[Payload]:
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
        self, plain: Sequence[_Plain], keyed: Sequence[_Keyed], device_backlog_ms: float
    ) -> list[Valued]:
        """As `at`."""
        parts = self._parts(keyed, device_backlog_ms)
        points = [point for point, _, _ in keyed]
        sizes = [part * key.size_bytes + MESSAGE_BYTES for part, (_, _, key) in zip(parts, keyed, strict=True)]
        fidelities = [fading_in(point.fidelity, part) for point, part in zip(points, parts, strict=True)]
        firsts = self._payloads(points, sizes, fidelities)
        asked = [*plain, *zip(points, firsts, strict=True), *[(point, payload) for point, payload, _ in keyed]]
        answers = KERNEL.answers(asked, [device_backlog_ms] * len(asked), self._chances)
        begin, end = len(plain), len(plain) + len(keyed)
        made = answers[:begin]
        better = self._better_than_lasting(made, device_backlog_ms)
        for (point, ms, p, first), lasting, (_, _, key), part in zip(
            answers[begin:end], answers[end:], keyed, parts, strict=True
        ):
            made.append((point, ms, p, better + self._mean_over_life(key, 1 / part, first, lasting[3])))
        return made

    def _better_than_lasting(self, made: Iterable[Valued], device_backlog_ms: float) -> float:
        """What the point in use has now, beyond what it has in the long run. A stream that is to take its place is
        held against the latter: what queues before both at this moment is no reason to change."""
        incumbent = self._incumbent
        for point, _, _, utility in made:
            if incumbent is not None and point.name == incumbent.name:
                lasting = list(zip((point,), self._lasting([point]), strict=True))
                return utility - KERNEL.answers(lasting, [device_backlog_ms], self._chances)[0][3]
        return 0.0

    def _mean_over_life(self, key: _Key, frames: float, first: float, lasts: float) -> float:
        """Of a stream that begins: `first` for `frames`, nothing new while its key is in the way, then `lasts`."""
        taken = frames + key.blocked_frames
        life = key.life_frames if key.life_frames > taken else taken
        return (
            frames * first + key.blocked_frames * self._tracked + (life - frames - key.blocked_frames) * lasts
        ) / life

    # -- one payload alone ----------------------------------------------------------------------------------------

    def _single(self, points: list[OperatingPoint]) -> list[Payload]:
        """Of each as it goes out now, if it needs no key."""
        return self._payloads(points, self._world.payloads.all_message_bytes(points, key=False))

    def _payloads(
        self,
        points: list[OperatingPoint],
        sizes: list[float],
        fidelities: list[float] | None = None,
        *,
        queued: bool = True,
    ) -> list[Payload]:
        """sizes: of messages. fidelities: if not as in `points`. queued: behind what is on the link now."""
        terms = Terms(
            self._place is Place.SPLIT,
            queued,
            self._byte_price if queued else 0.0,
            self._byte_periods,
            _FREE_PERIODS,
            OWN_PRICE,
            self._tracked,
            self._fallback,
            TRUSTED,
            FRESHNESS,
        )
        return KERNEL.payloads(points, sizes, fidelities, self._now, terms)
