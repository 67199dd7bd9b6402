"""Owns making operating points of a plan's rows and a device's times. Measures nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from splitmesh.codec.registry import CODECS
from splitmesh.plan.bundle.between import between
from splitmesh.plan.bundle.schema import PlanFile, ProfileFile, RateRow
from splitmesh.plan.pareto import LIMIT, STEP, pareto
from splitmesh.policy.point import OperatingPoint, Place

MAX_PAYLOAD_BYTES = 900_000
"""A message of the bus holds 1 MB; single frames may be a little larger than nineteen of twenty."""
LEAST_FIDELITY = 0.8
"""Below, carrying the last answer forward is as good for a frame or two, and costs nothing."""
OFFERED_CODECS = frozenset({"u8lz4", "u8zstd", "compact", "temporal", "jpeg", "webp", "h264"})
"""Those that an edge can send with. Rows of others are measured and compared, but are no operating points."""


def operating_points(
    plan: PlanFile, profile: ProfileFile, *, limit: int = LIMIT, beginning: str = ""
) -> tuple[OperatingPoint, ...]:
    """At most `limit` remote points (of the Pareto set of those measured and those between them), plus "track",
    "local" and local variants; sorted by name. beginning: of the names of remote points; others are left out.

    A variant (a quantised model or head, a smaller model) must pay. It must be at least 10 % faster on the edge than
    what it stands for: less is within the noise of timing, and the original has the better answers. And a local
    variant must keep `LEAST_FIDELITY`: below that it would only tempt a policy on a busy device to settle for less;
    so must levels that were searched. A quantised head needs no such bound: it competes with the coarser levels of
    the same cut in the Pareto set.

    Times that run on the edge (model, encoding, resumed tail) are multiplied by `profile.edge_slowdown`. Rows that
    the profile has no times for give no point.
    """
    times = _Times(profile)
    local = OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=times.edge("full"))
    points = [OperatingPoint("track", Place.TRACK, 1.0), local]
    remote: list[OperatingPoint] = []
    for row, point in _points(plan, times):
        if row.codec:
            if (
                row.point.startswith(beginning)
                and _sendable(row)
                and not (row.variant and _slow_head(row, point, times))
            ):
                remote.append(point)
        elif _faster(point.edge_ms, local.edge_ms) and point.fidelity >= LEAST_FIDELITY:
            points.append(point)
    remote += between(remote, plan.rows)
    return tuple(sorted([*points, *pareto(remote, limit=limit)], key=lambda p: p.name))


def operating_point(plan: PlanFile, profile: ProfileFile, name: str) -> OperatingPoint | None:
    """The remote point `name`, offered or not, at any level between measured ones; None if the plan has none."""
    measured = [point for row, point in _points(plan, _Times(profile)) if row.codec in OFFERED_CODECS]
    known = [*measured, *between(measured, plan.rows, ratio=1.0 + 1e-6)]
    return next((point for point in known if point.name == name), None)


class _Times:
    """Median milliseconds by part, of a device that may be taken to be slower than it is."""

    def __init__(self, profile: ProfileFile) -> None:
        self._times: Mapping[str, float] = {name: timing.p50_ms for name, timing in profile.times.items()}
        self._slowdown = profile.edge_slowdown

    def __contains__(self, name: str) -> bool:
        return name in self._times

    def cloud(self, name: str) -> float:
        return self._times[name]

    def edge(self, name: str) -> float:
        return self._times[name] * self._slowdown


def _points(plan: PlanFile, times: _Times) -> Iterator[tuple[RateRow, OperatingPoint]]:
    """Every row that `times` knows all parts of, as a point."""
    for row in plan.rows:
        if not row.codec:
            if (name := f"full {row.variant}") in times:
                yield (
                    row,
                    OperatingPoint(
                        row.point, Place.LOCAL, row.fidelity, edge_ms=times.edge(name), variant=row.variant
                    ),
                )
        elif (point := _remote(row, times)) is not None:
            yield row, point


def _remote(row: RateRow, times: _Times) -> OperatingPoint | None:
    plain = row.model_copy(update={"variant": ""}).point
    """A variant's features have the same shape: where its own coding was not timed, the original's stands in."""
    encode, decode = (
        next((name for point in (row.point, plain) if (name := f"{step} {point}") in times), None)
        for step in ("encode", "decode")
    )
    head = f"head {row.cut}{' ' + row.variant if row.variant else ''}"
    tail = f"tail {row.cut}" if row.cut else "full"
    if encode is None or decode is None or tail not in times or (row.cut and head not in times):
        return None
    return OperatingPoint(
        name=row.point,
        place=Place.SPLIT if row.cut else Place.FRAME,
        fidelity=row.fidelity,
        cut=row.cut,
        codec=row.codec,
        level=row.level,
        edge_ms=times.edge(head) if row.cut else 0.0,
        encode_ms=times.edge(encode),
        payload_bytes=row.bytes_mean,
        decode_ms=times.cloud(decode),
        cloud_ms=times.cloud(tail),
        resume_ms=times.edge(tail) if row.cut else 0.0,
        variant=row.variant,
        key_bytes=row.key_bytes,
    )


def _sendable(row: RateRow) -> bool:
    """The edge has the codec, a message holds the payload, and a continuous knob was not turned too far down."""
    if row.codec not in OFFERED_CODECS or max(row.bytes_p95, row.key_bytes) > MAX_PAYLOAD_BYTES:
        return False
    return bool(CODECS[row.codec].levels) or row.fidelity >= LEAST_FIDELITY


def _slow_head(row: RateRow, point: OperatingPoint, times: _Times) -> bool:
    return f"head {row.cut}" in times and not _faster(point.edge_ms, times.edge(f"head {row.cut}"))


def _faster(mine_ms: float, other_ms: float) -> bool:
    return mine_ms * STEP <= other_ms
