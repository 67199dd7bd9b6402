"""Owns one Watch call: what of the tenant's mesh its filter lets through, from many edges to one reader."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from splitmesh.errors import MeshError, UnknownName, WireError
from splitmesh.gateway.fleet import Fleet
from splitmesh.gateway.fleet_values import FleetEvent, Health
from splitmesh.gateway.tenant import TenantMesh
from splitmesh.gateway.watching import Inbox, Watched
from splitmesh.telemetry.tracing import wall_offset_ns
from splitmesh.v1 import control_pb2
from splitmesh.v1 import gateway_pb2 as pb
from splitmesh.wire.checks import check_range, check_size
from splitmesh.wire.subjects import check_token

_log = logging.getLogger(__name__)

MAX_EDGES = 64
MAX_PREVIEW_FPS = 30.0
_WAITING = 256
_DEFAULT = (pb.WATCH_KIND_DECISIONS, pb.WATCH_KIND_REPORTS, pb.WATCH_KIND_FLEET)
_FRAMES = frozenset({pb.WATCH_KIND_RESULTS, pb.WATCH_KIND_DECISIONS})
_PREVIEW_FPS = 5.0
_POLL_S = 0.2
_SEEK_S = 1.0


class EventFeed:
    """What one caller watches. actor: their name in audits. Raises WireError for a filter that breaks a rule."""

    def __init__(self, mesh: TenantMesh, fleet: Fleet, wanted: pb.WatchFilter, *, actor: str) -> None:
        self._mesh = mesh
        self._fleet = fleet
        self._actor = actor
        self._kinds = frozenset(wanted.kinds or _DEFAULT)
        self._edges = _named(wanted, self._kinds)
        self._request = _request(wanted, self._kinds)
        self._inbox: Inbox[pb.WatchEvent] = Inbox(_WAITING)
        self._offset_ns = wall_offset_ns()

    async def run(self) -> None:
        """Collect until cancelled. Raises MeshError if a named edge can't be watched."""
        async with asyncio.TaskGroup() as group:
            if pb.WATCH_KIND_FLEET in self._kinds:
                group.create_task(self._follow_fleet(), name="fleet events")
            if pb.WATCH_KIND_REPORTS in self._kinds:
                group.create_task(self._follow_reports(), name="reports")
            if self._request is not None:
                for edge in self._edges:
                    group.create_task(self._follow_edge(edge), name=f"watch {edge}")
                if not self._edges:
                    group.create_task(self._follow_all(group), name="watch all")

    async def next(self) -> tuple[pb.WatchEvent, int]:
        """(the next event, how many were missed before it)."""
        event = await self._inbox.get()
        missed = self._inbox.take_missed()
        event.missed = missed
        return event, missed

    # -- sources --------------------------------------------------------------------------------------------------

    async def _follow_fleet(self) -> None:
        """Polled: the fleet is a pure value that tells nobody."""
        seen = max((event.number for event in self._fleet.events(self._mesh.tenant, limit=1)), default=0)
        while True:
            for event in self._fleet.events(self._mesh.tenant, after=seen):
                seen = event.number
                if not self._edges or event.member in self._edges or event.kind.value.startswith("worker"):
                    self._inbox.put(pb.WatchEvent(fleet=self._told(event)))
            await asyncio.sleep(_POLL_S)

    async def _follow_reports(self) -> None:
        def take(report: control_pb2.EdgeReport) -> None:
            if not self._edges or report.edge_id in self._edges:
                self._inbox.put(pb.WatchEvent(report=report))

        stop = self._mesh.listen(take)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stop()

    async def _follow_all(self, group: asyncio.TaskGroup) -> None:
        """Every edge that reports, and those that come later."""
        followed: dict[str, asyncio.Task[None]] = {}
        while True:
            for edge in self._fleet.edges(self._mesh.tenant, time.monotonic_ns()):
                name, task = edge.edge_id, followed.get(edge.edge_id)
                room = task is not None or len(followed) < MAX_EDGES
                if edge.health is not Health.GONE and room and (task is None or task.done()):
                    followed[name] = group.create_task(self._try_edge(name), name=f"watch {name}")
            await asyncio.sleep(_SEEK_S)

    async def _try_edge(self, edge: str) -> None:
        try:
            await self._follow_edge(edge)
        except MeshError as exc:
            _log.debug("edge %s is not watched: %s", edge, exc)

    async def _follow_edge(self, edge: str) -> None:
        if self._request is None:
            raise UnknownName(f"nothing of {edge} is asked for", field="kinds", name=edge)
        async with contextlib.aclosing(self._mesh.watch(edge, self._request, actor=self._actor)) as said:
            async for message in said:
                self._take(message)

    def _take(self, message: Watched) -> None:
        if isinstance(message, control_pb2.Preview):
            if pb.WATCH_KIND_PREVIEWS in self._kinds:
                self._inbox.put(pb.WatchEvent(preview=message))
        elif self._kinds & _FRAMES:
            if pb.WATCH_KIND_RESULTS not in self._kinds:
                for frame in message.frames:
                    frame.ClearField("answer")
            self._inbox.put(pb.WatchEvent(frames=message))

    def _told(self, event: FleetEvent) -> pb.FleetEvent:
        return pb.FleetEvent(
            unix_ms=(event.at_ns + self._offset_ns) // 1_000_000,
            service="cloud" if event.kind.value.startswith("worker") else "edge",
            name=event.member,
            what=event.kind.value,
            detail=event.detail,
        )


def _named(wanted: pb.WatchFilter, kinds: frozenset[int]) -> tuple[str, ...]:
    check_size(len(wanted.edges), field="edges", limit=MAX_EDGES)
    for kind in kinds:
        check_range(kind, field="kinds", low=1, high=max(pb.WatchKind.values()))
    if pb.WATCH_KIND_PREVIEWS in kinds and not wanted.edges:
        raise WireError("edges must name those whose pictures are wanted")
    return tuple(dict.fromkeys(check_token(edge, field="edges") for edge in wanted.edges))


def _request(wanted: pb.WatchFilter, kinds: frozenset[int]) -> control_pb2.WatchRequest | None:
    """What each edge is asked for; None: nothing beyond what it says anyway."""
    if not 0 <= wanted.preview_fps <= MAX_PREVIEW_FPS:
        raise WireError(f"preview_fps {wanted.preview_fps} is not in [0, {MAX_PREVIEW_FPS:g}]")
    if wanted.preview_px:
        check_range(wanted.preview_px, field="preview_px", low=64, high=1920)
    previews = pb.WATCH_KIND_PREVIEWS in kinds
    if not previews and not kinds & _FRAMES:
        return None
    return control_pb2.WatchRequest(
        frames=bool(kinds & _FRAMES),
        answers=pb.WATCH_KIND_RESULTS in kinds,
        preview_fps=(wanted.preview_fps or _PREVIEW_FPS) if previews else 0.0,
        preview_px=wanted.preview_px,
        max_bytes_per_s=wanted.max_bytes_per_s,
    )
