"""Owns what a rival may choose from at this moment, and the floor under the fidelity of what it gets."""

from __future__ import annotations

from collections.abc import Iterable

from splitmesh.policy.decision import Observation
from splitmesh.policy.payloads import Reference
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World

_SPARE_NS = 20_000_000


class Menu:
    """drop: how much less than the plan's most faithful remote point those on offer may keep, in [0, 1]; 1: any."""

    def __init__(self, *, drop: float) -> None:
        self._drop = drop
        self._keys_due_ns: dict[tuple[str, str], int] = {}
        """By cut and codec: until when a key that was chosen may still be on its way to the link."""

    def on_offer(self, world: World, seen: Observation) -> list[OperatingPoint]:
        """Whole models here, and the remote points that could be sent now: none while the breaker is open, no cut
        whose tail would not fit any more, no stream whose key is under way."""
        world.breaker.tick(seen.now_ns)
        return [point for point in self.kept(world) if not point.remote or self._sendable(point, world, seen)]

    def kept(self, world: World) -> list[OperatingPoint]:
        """All but the tracker and what is below the floor."""
        best = max((point.fidelity for point in world.points if point.remote), default=0.0)
        floor = best - self._drop
        return [p for p in world.points if p.place is not Place.TRACK and p.fidelity >= floor]

    def chose(self, point: OperatingPoint, world: World, seen: Observation) -> None:
        """If `point` begins with a key, its stream is off the menu while that is made."""
        if point.remote and world.payloads.reference(point) is Reference.NONE:
            lead_ms = seen.device_backlog_ms + world.edge_ms(point.edge_ms) + world.encode_ms(point)
            self._keys_due_ns[point.cut, point.codec] = seen.now_ns + int(lead_ms * 1e6) + _SPARE_NS

    def _sendable(self, point: OperatingPoint, world: World, seen: Observation) -> bool:
        if not world.breaker.closed or self._key_comes(point, world, seen):
            return False
        return point.place is Place.FRAME or world.resumable(point, seen)

    def _key_comes(self, point: OperatingPoint, world: World, seen: Observation) -> bool:
        reference = world.payloads.reference(point)
        if reference is not Reference.NONE:
            return reference is Reference.COMING
        return seen.now_ns < self._keys_due_ns.get((point.cut, point.codec), 0)


def mean_bytes(point: OperatingPoint, world: World) -> float:
    """Expected size of a request; if a stream has to begin, its mean over the frames that the key is to serve."""
    later = world.message_bytes(point, key=False)
    if not world.payloads.needs_key(point):
        return later
    life = world.payloads.key_life_frames(point)
    return (world.message_bytes(point, key=True) + (life - 1) * later) / life


def best_codecs(points: Iterable[OperatingPoint], world: World) -> list[OperatingPoint]:
    """Of each cut, and of whole pictures, the point with the fewest bytes; of whole models here the fastest."""
    best: dict[tuple[Place, str], OperatingPoint] = {}
    for point in points:
        key = (point.place, point.cut)
        if key not in best or _cost(point, world) < _cost(best[key], world):
            best[key] = point
    return list(best.values())


def _cost(point: OperatingPoint, world: World) -> tuple[float, float, str]:
    size = mean_bytes(point, world) if point.remote else 0.0
    return size, point.edge_ms, point.name
