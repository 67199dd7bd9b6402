"""Owns a simulated stream of a codec with state: what each payload builds on and weighs. Mirrors `edge.streams`.

A key to the pool opens it; the worker that answers is its home. While the key is under way nothing else goes. Every
reply acknowledges its frame; after `CALM_FRAMES` without a loss each frame builds on the one before it.

Sizes: a change that builds on the frame `d` before takes `d^0.585` of one that builds on the last (a third fewer
bytes where replies take two frames: docs/architecture.md), never more than a key. What a worker holds of the picture
is counted in bytes of a key: a payload brings what the key at its level has more, and the change. If that is more
than there is room for, it goes coarser, and what it leaves out is for later ones to bring; until then answers keep
the root of the share that is there (`policy.payloads.fading_in`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from splitmesh.policy.payloads import Reference
from splitmesh.policy.point import OperatingPoint

MAX_UNACKNOWLEDGED = 12
MAX_IDLE_NS = 10_000_000_000
CALM_FRAMES = 8
MAX_REFUSALS = 3
CHAINED = frozenset({"h264"})
"""Each frame builds on the one before, and another level begins with a key."""
_DISTANCE_POWER = 0.585
_LEVELS_PER_HALF = 8.0


@dataclass(frozen=True, slots=True)
class Coded:
    """One payload. `base` None: a key. `kept`: share of the point's fidelity that its answer has."""

    size_bytes: int
    level: int
    number: int
    base: int | None
    life: int
    trusted: bool
    kept: float


class Stream:
    """`tell`: hears whether a payload can build on an earlier one."""

    def __init__(self, id: int, *, chained: bool, tell: Callable[[Reference], None]) -> None:
        self.id = id
        self.home = -1
        """The worker that holds the reference; -1: none does."""
        self._chained = chained
        self._tell = tell
        self._life = 0
        self._under_way: set[int] = set()
        self._acknowledged_ns = 0
        self._refusals = 0
        self._numbers = 0
        self._fresh()

    def _fresh(self) -> None:
        self._base: int | None = None
        self._key_under_way: int | None = None
        self._calm = 0
        self._level: int | None = None
        self._held: dict[int, float] = {}
        """By number of a frame that may be built on: what it has of the picture, in bytes of a key."""

    # -- sending --------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return len(self._under_way) >= MAX_UNACKNOWLEDGED

    def stale(self, now_ns: int) -> bool:
        return self.home >= 0 and now_ns - self._acknowledged_ns > MAX_IDLE_NS

    @property
    def awaits_key(self) -> bool:
        return self._key_under_way is not None and self._base is None

    def code(self, point: OperatingPoint, scale: float, room_bytes: float, *, key_scale: float = 1.0) -> Coded:
        """scale, key_scale: sizes of this frame's change, and of a key of it, against their means. room_bytes:
        coarser rather than larger."""
        self._numbers += 1
        number = self._numbers
        base = self._base
        if self._chained and base is not None:
            base = None if self._level not in (None, point.level) else number - 1
        first = self._base is None
        wanted = key_bytes = point.key_bytes * key_scale
        held, change = 0.0, 0.0
        if base is not None:
            held = self._held.get(base, 0.0)
            change = point.payload_bytes * scale * max(1, number - base) ** _DISTANCE_POWER
            wanted = min(change + max(0.0, key_bytes - held), key_bytes)
        size, level = wanted, point.level
        if not self._chained and wanted > room_bytes:
            size = room_bytes
            level = max(0, point.level - math.ceil(_LEVELS_PER_HALF * math.log2(wanted / size)))
        now_held = min(max(held + size - change, size), max(held, key_bytes))
        self._hold(number, now_held)
        self._level = point.level
        if base is None and first:
            self._key_under_way = number
        trusted = not first and self._calm >= CALM_FRAMES and not self._chained
        if trusted:
            self._base = number
        kept = 1.0 if self._chained else math.sqrt(min(1.0, now_held / key_bytes))
        return Coded(max(1, round(size)), level, number, base, self._life, trusted, kept)

    def _hold(self, number: int, held_bytes: float) -> None:
        oldest = number if self._base is None else self._base
        self._held = {at: held for at, held in self._held.items() if at >= oldest}
        self._held[number] = held_bytes

    def send(self, coded: Coded) -> bool:
        """False: the stream began anew while this was coded."""
        if coded.life != self._life:
            return False
        self._under_way.add(coded.number)
        if self.home < 0:
            self._tell(Reference.COMING)
        return True

    # -- what becomes of it ---------------------------------------------------------------------------------------

    def overdue(self, coded: Coded) -> None:
        """The key takes so long that another may be sent. It still counts if it is answered."""
        if coded.life != self._life or coded.number not in self._under_way or self.home >= 0:
            return
        if self._chained:
            self.reset()
            return
        if coded.number == self._key_under_way:
            self._key_under_way = None
        self._calm = 0
        self._tell(Reference.NONE)

    def answered(self, coded: Coded, worker: int, now_ns: int) -> None:
        if coded.life != self._life:
            return
        self._under_way.discard(coded.number)
        if self.home not in (-1, worker):
            self._lost(coded, broken=False)
            return
        self.home = worker
        self._acknowledged_ns = now_ns
        self._refusals = 0
        self._calm += 1
        if not coded.trusted:
            self._base = max(self._base or 0, coded.number)
        self._tell(Reference.ALIVE)

    def lost(self, coded: Coded, *, broken: bool, refused: bool) -> None:
        """broken: the stream can't go on where it was. refused: a worker said so."""
        if coded.life != self._life:
            return
        self._under_way.discard(coded.number)
        self._refusals += refused and not broken
        self._lost(coded, broken=broken)

    def _lost(self, coded: Coded, *, broken: bool) -> None:
        if broken or self._chained or coded.trusted or self._refusals >= MAX_REFUSALS:
            self.reset()
            return
        if coded.number == self._key_under_way:
            self._key_under_way = None
        self._calm = 0
        if self.home < 0:
            self._tell(Reference.COMING if self._under_way else Reference.NONE)

    def reset(self) -> None:
        """Begin anew: the next frame is a key to the pool."""
        self.id += 1
        self.home = -1
        self._life += 1
        self._under_way.clear()
        self._refusals = 0
        self._fresh()
        self._tell(Reference.NONE)
