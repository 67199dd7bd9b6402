"""Owns the answers to what an edge is asked while it runs. Refuses what is malformed, unknown or too much of it.

More than a few commands a second are refused, and many more are not even answered: answers cross the uplink that the
frames need.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from splitmesh.edge.device import Device
from splitmesh.edge.recall import Recall
from splitmesh.edge.steering import Alternative, Course, Steering
from splitmesh.edge.watching import LINK_SHARE, Watching
from splitmesh.errors import SettingsError, WireError
from splitmesh.policy.decision import Decision
from splitmesh.policy.world import World
from splitmesh.schedule.tenants import TokenBucket
from splitmesh.telemetry.metrics import Asked, EdgeMetrics
from splitmesh.telemetry.recent import span_reports
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire.control import (
    BadField,
    Done,
    EdgeCommand,
    EdgeReply,
    Explained,
    Forecast,
    FrameReports,
    Points,
    PolicyAudit,
    PolicyChange,
    PolicyState,
    Refused,
    WhatIf,
    command_from,
    pack,
)
from splitmesh.wire.frame_reports import forecast, frame_report, point_reports

_log = logging.getLogger(__name__)

COMMANDS_PER_S = 20.0
_MOST_AT_ONCE = 40.0
REFUSALS_PER_S = 5.0
"""Of commands that are too many."""
_CHUNK = 20
"""Frame reports that are made before the frames get their turn; each takes some 50 µs."""
_REPORTS_PER_COMMAND = 25
"""Frame reports that cost as much of what is allowed as a command does."""
_LEAST_BYTES_PER_COMMAND = 500
"""The same of a reply's bytes, however slow the uplink is."""
_REPLY_S = 0.25
"""Of the estimated uplink, that the longest reply may take."""
_LEAST_REPLY_BYTES = 16_000
_MOST_REPLY_BYTES = 500_000


@dataclass(frozen=True, slots=True)
class Commanded:
    """What commands are about. device: whose slowness may be set for experiments; None: it may not."""

    edge: str
    run_id: str
    steering: Steering
    watching: Watching
    recall: Recall
    world: World
    tracing: Tracing
    device: Device | None
    metrics: EdgeMetrics


Reply = Callable[[bytes], Awaitable[None]]


class Commands:
    """Runs on the event loop, one command after another."""

    def __init__(self, parts: Commanded) -> None:
        self._p = parts
        self._admitted = TokenBucket(COMMANDS_PER_S, _MOST_AT_ONCE)
        self._refusals = TokenBucket(REFUSALS_PER_S, REFUSALS_PER_S)

    async def take(self, raw: bytes, reply: Reply) -> None:
        """One command; its answer goes to `reply`, unless there are far too many."""
        now_ns = time.monotonic_ns()
        if self._admitted.missing_ns(1, now_ns):
            if self._refusals.missing_ns(1, now_ns):
                self._p.metrics.asked(Asked.IGNORED)
                return
            self._refusals.take(1)
            detail = f"more than {COMMANDS_PER_S:g} commands a second"
            answered = EdgeReply(edge_id=self._p.edge, refused=Refused(detail=detail))
        else:
            answered = await self._answer(raw)
            self._admitted.take(self._cost(answered, now_ns))
        refused = answered.WhichOneof("outcome") == "refused"
        self._p.metrics.asked(Asked.REFUSED if refused else Asked.ANSWERED)
        await reply(pack(answered))

    def _cost(self, answered: EdgeReply, now_ns: int) -> float:
        """In commands: 1 for itself, more for what it took of the processor, and for what it takes of the uplink, so
        that answers keep to the share that watching has."""
        bandwidth_bps = self._p.world.link.view(now_ns).bandwidth_bps
        share_bytes = LINK_SHARE * bandwidth_bps / 8 / COMMANDS_PER_S
        cost = 1 + answered.ByteSize() / max(_LEAST_BYTES_PER_COMMAND, share_bytes)
        match answered.WhichOneof("outcome"):
            case "recent":
                return cost + len(answered.recent.frames) / _REPORTS_PER_COMMAND
            case "what_if":
                return cost + 1
        return cost

    async def _answer(self, raw: bytes) -> EdgeReply:
        made = EdgeReply(edge_id=self._p.edge)
        try:
            await self._fill(made, command_from(raw))
        except BadField as exc:
            made.refused.CopyFrom(Refused(field=exc.field, detail=str(exc)))
        except SettingsError as exc:
            made.refused.CopyFrom(Refused(field=exc.key, detail=str(exc)))
        except WireError as exc:
            made.refused.CopyFrom(Refused(detail=str(exc)))
        except Exception as exc:  # noqa: BLE001 - a fault of ours is told to who asked, and is no frame's business
            _log.exception("a command failed")
            made.refused.CopyFrom(Refused(detail=f"unforeseen {type(exc).__name__}"))
        return made

    async def _fill(self, made: EdgeReply, command: EdgeCommand) -> None:
        """Raises BadField, SettingsError."""
        p, now_ns = self._p, time.monotonic_ns()
        match command.WhichOneof("command"):
            case "watch":
                made.watching_s = p.watching.grant(command.watch, now_ns)
            case "explain":
                made.explained.CopyFrom(self._explain(command.explain.frame_id))
            case "what_if":
                found = p.steering.what_if(self._course(command.what_if), now_ns)
                if found is None:
                    raise BadField("no frame has been decided on yet", field="what_if")
                made.what_if.CopyFrom(_what_if(found))
            case "set_policy":
                course = self._course(command.set_policy)
                p.steering.change(course, actor=command.actor, now_ns=now_ns, unix_ms=_unix_ms())
                _log.info("%r set: %s", command.actor, p.steering.course)
                made.policy.CopyFrom(self._policy())
            case "get_policy":
                made.policy.CopyFrom(self._policy())
            case "get_points":
                made.points.CopyFrom(Points(points=point_reports(p.world.points)))
            case "experiment":
                self._experiment(command.experiment.edge_slowdown, command.actor)
                made.done.CopyFrom(Done())
            case "recent":
                made.recent.CopyFrom(await self._recent(command.recent.last, now_ns))

    def _explain(self, frame_id: str) -> Explained:
        entry = self._p.recall.get(frame_id)
        if entry is None:
            raise BadField(f"{frame_id} is not among the frames that were settled last", field="frame_id")
        report = frame_report(entry.record, utility=entry.utility, answer=True)
        return Explained(frame=report, spans=span_reports(self._p.tracing.recent_rows(frame_id)))

    def _course(self, change: PolicyChange) -> Course:
        """What is, but for what shall change."""
        now = self._p.steering.course
        return Course(
            change.policy if change.HasField("policy") else now.policy,
            change.deadline_ms if change.HasField("deadline_ms") else now.deadline_ms,
            change.uplink_budget_bps if change.HasField("uplink_budget_bps") else now.uplink_budget_bps,
        )

    def _policy(self) -> PolicyState:
        steering = self._p.steering
        return PolicyState(
            policy=steering.course.policy,
            deadline_ms=steering.course.deadline_ms,
            uplink_budget_bps=steering.course.uplink_budget_bps,
            known_policies=steering.known_policies(),
            changes=[
                PolicyAudit(unix_ms=each.unix_ms, actor=each.actor, before=each.before, after=each.after)
                for each in steering.audits
            ],
        )

    def _experiment(self, slowdown: float, actor: str) -> None:
        device = self._p.device
        if device is None:
            raise BadField("this edge was not started with --allow-experiments", field="experiment")
        before, device.slowdown = device.slowdown, slowdown
        self._p.steering.note(actor, f"edge slowdown {before:g}", f"edge slowdown {slowdown:g}", _unix_ms())

    async def _recent(self, last: int, now_ns: int) -> FrameReports:
        """The newest that the uplink carries in no time."""
        bandwidth_bps = self._p.world.link.view(now_ns).bandwidth_bps
        room = min(max(_LEAST_REPLY_BYTES, _REPLY_S * bandwidth_bps / 8), _MOST_REPLY_BYTES)
        entries = self._p.recall.last(last)
        made = []
        for count, entry in enumerate(reversed(entries), 1):
            report = frame_report(entry.record, utility=entry.utility)
            room -= report.ByteSize() + 4
            if room < 0:
                break
            made.append(report)
            if not count % _CHUNK:
                await asyncio.sleep(0)
        left_out = len(entries) - len(made)
        return FrameReports(edge_id=self._p.edge, run_id=self._p.run_id, frames=reversed(made), left_out=left_out)


def _what_if(found: Alternative) -> WhatIf:
    made = WhatIf(
        now_reason=found.now.reason, then_reason=found.then.reason, observed_ms_ago=max(0.0, found.observed_ms_ago)
    )
    made.now.CopyFrom(forecast(found.now.chosen))
    made.then.CopyFrom(forecast(found.then.chosen))
    made.now_runners_up.extend(_runners_up(found.now))
    made.then_runners_up.extend(_runners_up(found.then))
    return made


def _runners_up(decision: Decision) -> list[Forecast]:
    return [forecast(each) for each in decision.runners_up]


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
