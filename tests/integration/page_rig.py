"""A gateway's page over real HTTP, on a real broker, with edges and workers that say what a script has them say.

What real edges say is tested where edges are; here the page must show all there is to show, on demand. Run as a
program it serves such a mesh until it is interrupted: `python tests/integration/page_rig.py PORT`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import simplejpeg
from prometheus_client import CollectorRegistry

from splitmesh.bus.base import Bus, Message, Subscription
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.answer import Answer
from splitmesh.gateway.page.app import page_app
from splitmesh.gateway.state import GatewayState, LabControls
from splitmesh.gateway.tokens import Account, Tokens, entry
from splitmesh.media.clip import draw_picture
from splitmesh.settings.model import GatewaySettings
from splitmesh.v1 import control_pb2 as pb
from splitmesh.web.server import StatusServer
from splitmesh.wire import subjects
from splitmesh.wire.answers import answer_to_pb
from splitmesh.wire.messages import Heartbeat, HostedModel

RUN = "r1"
MODEL = "coco-ssdlite"
POINTS = (
    ("track", "track", 0.3, 0.0, 0, 0.62),
    ("local", "local", 92.0, 0.0, 0, 1.0),
    ("split/n37-64x19x19/temporal-83", "split", 31.0, 14.0, 1_240, 0.962),
    ("split/n37-64x19x19/temporal-60", "split", 31.0, 14.0, 610, 0.921),
    ("split/n37-64x19x19/compact-83", "split", 31.0, 14.0, 4_700, 0.978),
    ("frame/jpeg-50", "frame", 2.0, 24.0, 16_300, 0.935),
    ("frame/webp-30", "frame", 9.0, 24.0, 9_200, 0.911),
)
ANSWER = Answer(
    np.array([[0.22, 0.1, 0.45, 0.89], [0.61, 0.03, 0.95, 0.67]], np.float32),
    np.array([0.87, 0.55], np.float32),
    np.array([1, 3], np.uint16),
)


@dataclass(slots=True)
class ScriptedWorker:
    """Beats five times a second until it is stopped; knows the spans of every frame."""

    bus: Bus
    name: str
    tenant: str = "default"
    clock_ahead_ms: float = 7_000.0
    wait_us: int = 2_400
    seq: int = 0
    _parts: list[asyncio.Task[None] | Subscription] = field(default_factory=list)

    async def start(self) -> None:
        self._parts = [
            await self.bus.subscribe(subjects.spans(self.tenant, self.name), self._tell_spans),
            asyncio.create_task(self._beat()),
        ]

    async def stop(self) -> None:
        await _stop(self._parts)

    async def _beat(self) -> None:
        while True:
            models = (HostedModel(MODEL, "0" * 64, ("n37-64x19x19",)),)
            beat = Heartbeat(self.name, self.seq, models, self.wait_us, self.seq % 3)
            self.seq += 1
            await self.bus.publish(subjects.load(self.tenant), beat.encode())
            await asyncio.sleep(0.2)

    async def _tell_spans(self, message: Message) -> None:
        frame = pb.SpansRequest.FromString(message.payload).frame_id
        t0 = _epoch_ns(frame) + round(self.clock_ahead_ms * 1e6)
        rows = (("worker", 61, 19), ("queue", 61, 2), ("decode", 63, 2), ("tail", 65, 14), ("postprocess", 79, 1))
        spans = [_span(frame, n + 20, 20 if n else 5, row, t0, "cloud", self.name) for n, row in enumerate(rows)]
        await self.bus.publish(message.reply, pb.SpansReply(spans=spans).SerializeToString())


@dataclass(slots=True)
class ScriptedEdge:
    """Reports, answers commands, and while it is watched publishes 25 frames and 5 pictures a second."""

    bus: Bus
    name: str
    tenant: str = "default"
    seed: int = 1
    workers: tuple[str, ...] = ("w-1",)
    policy: str = "adaptive"
    deadline_ms: float = 150.0
    budget_bps: float = 0.0
    breaker: str = "closed"
    sends_pictures: bool = True
    seq: int = 0
    reports: int = 0
    watched_until: float = 0.0
    preview_fps: float = 0.0
    commands: list[pb.EdgeCommand] = field(default_factory=list)
    changes: deque[pb.PolicyAudit] = field(default_factory=lambda: deque(maxlen=50))
    frames: deque[pb.FrameReport] = field(default_factory=lambda: deque(maxlen=2000))
    _random: random.Random = field(default_factory=random.Random)
    _parts: list[asyncio.Task[None] | Subscription] = field(default_factory=list)

    async def start(self) -> None:
        self._random.seed(self.seed)
        for _ in range(500):
            self.frames.append(self._frame())
        command = subjects.command(self.tenant, self.name)
        self._parts = [
            await self.bus.subscribe(command, self._on_command),
            asyncio.create_task(self._report()),
            asyncio.create_task(self._work()),
            asyncio.create_task(self._picture()),
        ]

    async def stop(self) -> None:
        await _stop(self._parts)

    async def _report(self) -> None:
        while True:
            await self.bus.publish(subjects.status(self.tenant, self.name), self.report().SerializeToString())
            self.reports += 1
            await asyncio.sleep(1.0)

    def report(self) -> pb.EdgeReport:
        last = list(self.frames)[-125:]
        hits = sum(frame.deadline_hit for frame in last) / len(last)
        latencies = sorted(frame.latency_ms for frame in last if frame.HasField("latency_ms")) or [0.0]
        return pb.EdgeReport(
            edge_id=self.name, run_id=RUN, seq=self.reports, version="0.1.0", model=MODEL, policy=self.policy,
            deadline_ms=self.deadline_ms, uplink_budget_bps=self.budget_bps, run_s=self.seq / 25, captured=self.seq,
            settled=Counter(frame.outcome for frame in self.frames), in_flight=2, fps_5s=len(last) / 5,
            hit_rate=0.981, hit_rate_5s=hits, latency_p50_5s_ms=latencies[len(latencies) // 2],
            latency_p95_5s_ms=latencies[int(len(latencies) * 0.95)], latency_p99_5s_ms=latencies[-1],
            decisions_5s=Counter(frame.chosen.point.split("/")[0] for frame in last), link=last[-1].link,
            uplink_bps_5s=sum(frame.uplink_bytes for frame in last) * 8 / 5, breaker=self.breaker, gamma_edge=1.18,
            gamma_cloud=0.94, source="rtsp://camera/yard",
        )  # fmt: skip

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            fresh = [self._frame() for _ in range(5)]
            self.frames.extend(fresh)
            if time.monotonic() < self.watched_until:
                said = pb.FrameReports(edge_id=self.name, run_id=RUN, frames=fresh)
                await self.bus.publish(subjects.result(self.tenant, self.name), said.SerializeToString())

    async def _picture(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            if self.sends_pictures and time.monotonic() < self.watched_until and self.preview_fps:
                await self.bus.publish(subjects.preview(self.tenant, self.name), self.preview().SerializeToString())

    def preview(self) -> pb.Preview:
        rgb = np.ascontiguousarray(draw_picture(self.seq, width=640, height=360, seed=self.seed))
        last = self.frames[-1]
        return pb.Preview(
            edge_id=self.name, frame_id=last.frame_id, jpeg=simplejpeg.encode_jpeg(rgb, quality=80),
            answer=answer_to_pb(ANSWER), labels={1: "person", 3: "car"}, point=last.chosen.point,
            latency_ms=last.latency_ms, deadline_hit=last.deadline_hit,
        )  # fmt: skip

    def _frame(self) -> pb.FrameReport:
        """A link that swings between 0.1 and 8 Mbit/s decides what is done."""
        self.seq += 1
        seq, chance = self.seq, self._random.random()
        mbps = 4 + 3.9 * math.sin(seq / 180 + self.seed) + self._random.uniform(-0.2, 0.2)
        mbps = max(mbps, 0.1)
        name = POINTS[2][0] if mbps > 1.5 else POINTS[3][0] if mbps > 0.5 else "track" if chance < 0.6 else "local"
        name = "frame/jpeg-50" if mbps > 7 and chance < 0.5 else name
        place = name.split("/")[0]
        outcome = {"track": "tracked"}.get(place, place)
        latency_ms = {"track": 6.0, "local": 118.0, "split": 88.0, "frame": 76.0}[place] + self._random.gauss(0, 9)
        if place == "split" and mbps < 0.8 and chance < 0.25:
            outcome, latency_ms = "resumed", 139 + self._random.gauss(0, 8)
        if chance > 0.985:
            outcome, latency_ms = "shed", 0.0
        link = pb.LinkReport(
            bandwidth_bps=mbps * 1e6, bandwidth_low_bps=mbps * 0.8e6, bandwidth_high_bps=mbps * 1.3e6, base_ms=21.0,
            backlog_bytes=self._random.randrange(4000),
        )  # fmt: skip
        frame = pb.FrameReport(
            frame_id=f"{self.name}.{RUN}.{seq}", seq=seq, outcome=outcome,
            chosen=pb.Forecast(point=name, predicted_ms=max(latency_ms - 4, 0.3), p_hit=0.97, utility=0.93),
            reason="utility 0.930 against 0.902 of frame/jpeg-50",
            runners_up=[
                pb.Forecast(point="frame/jpeg-50", predicted_ms=104, p_hit=0.91, utility=0.902),
                pb.Forecast(point="local", predicted_ms=186, p_hit=0.07, utility=0.31),
                pb.Forecast(point="track", predicted_ms=0.3, p_hit=1.0, utility=0.29),
            ],
            deadline_ms=self.deadline_ms, deadline_hit=outcome != "shed" and latency_ms <= self.deadline_ms,
            uplink_bytes=next(point[4] for point in POINTS if point[0] == name),
            times_ms={"preprocess": 1.3, "head": 29.8, "encode": 4.1, "network": 21.5, "tail": 14.2},
            link=link, worker_id=self.workers[seq % len(self.workers)] if place in ("split", "frame") else "",
            trace_id=seq.to_bytes(16, "big"), captured_ms=seq * 40.0,
        )  # fmt: skip
        if outcome != "shed":
            frame.latency_ms = max(latency_ms, 1.0)
        return frame

    async def _on_command(self, message: Message) -> None:
        command = pb.EdgeCommand.FromString(message.payload)
        self.commands.append(command)
        reply = pb.EdgeReply(edge_id=self.name)
        kind = command.WhichOneof("command")
        if kind == "watch":
            self.watched_until = time.monotonic() + command.watch.lease_s
            self.preview_fps = command.watch.preview_fps
            reply.watching_s = command.watch.lease_s
        elif kind == "explain":
            self._explain(command.explain.frame_id, reply)
        elif kind == "get_points":
            for name, place, edge_ms, cloud_ms, size, fidelity in POINTS:
                reply.points.points.add(
                    name=name, place=place, edge_ms=edge_ms, cloud_ms=cloud_ms, bytes=size, fidelity=fidelity
                )
        elif kind == "recent":
            reply.recent.edge_id, reply.recent.run_id = self.name, RUN
            reply.recent.frames.extend(list(self.frames)[-command.recent.last :])
        elif kind == "what_if":
            self._what_if(command.what_if, reply)
        elif kind in ("set_policy", "get_policy"):
            self._set_policy(command, reply)
        await self.bus.publish(message.reply, reply.SerializeToString())

    def _explain(self, frame_id: str, reply: pb.EdgeReply) -> None:
        found = next((frame for frame in self.frames if frame.frame_id == frame_id), None)
        if found is None:
            reply.refused.field, reply.refused.detail = "frame_id", "not remembered"
            return
        reply.explained.frame.CopyFrom(found)
        rows = (("frame", 0, 88), ("decode", 0, 3), ("preprocess", 4, 2), ("decide", 6, 1), ("head", 7, 30),
                ("encode", 37, 4), ("offload", 42, 43), ("emit", 86, 1))  # fmt: skip
        t0 = _epoch_ns(frame_id)
        spans = [_span(frame_id, n or 99, 99 if n else 0, row, t0, "edge", self.name) for n, row in enumerate(rows)]
        spans[6].span_id = (5).to_bytes(8, "big")
        spans[5].span_id = (6).to_bytes(8, "big")
        reply.explained.spans.extend(spans)

    def _what_if(self, change: pb.PolicyChange, reply: pb.EdgeReply) -> None:
        last, answer = self.frames[-1], reply.what_if
        answer.now.CopyFrom(last.chosen)
        answer.now_reason = answer.then_reason = last.reason
        answer.now_runners_up.extend(last.runners_up)
        answer.then_runners_up.extend(last.runners_up)
        answer.then.CopyFrom(last.chosen)
        if change.HasField("deadline_ms") and change.deadline_ms < 60:
            answer.then.point, answer.then.predicted_ms, answer.then.p_hit = "track", 0.3, 1.0
            answer.then_reason = "utility 0.481 against 0.477 of frame/jpeg-50"
        answer.observed_ms_ago = 31.0

    def _set_policy(self, command: pb.EdgeCommand, reply: pb.EdgeReply) -> None:
        change = command.set_policy
        if change.HasField("policy") and change.policy not in ("adaptive", "local-only", "cloud-only"):
            reply.refused.field, reply.refused.detail = "policy", f"there is no policy {change.policy}"
            return
        before = f"{self.policy}, {self.deadline_ms:g} ms, {self.budget_bps:g} bit/s"
        self.policy = change.policy if change.HasField("policy") else self.policy
        self.deadline_ms = change.deadline_ms if change.HasField("deadline_ms") else self.deadline_ms
        self.budget_bps = change.uplink_budget_bps if change.HasField("uplink_budget_bps") else self.budget_bps
        if command.WhichOneof("command") == "set_policy":
            after = f"{self.policy}, {self.deadline_ms:g} ms, {self.budget_bps:g} bit/s"
            unix_ms = round(time.time() * 1e3)
            self.changes.appendleft(pb.PolicyAudit(unix_ms=unix_ms, actor=command.actor, before=before, after=after))
        reply.policy.policy, reply.policy.deadline_ms = self.policy, self.deadline_ms
        reply.policy.uplink_budget_bps = self.budget_bps
        reply.policy.known_policies.extend(["adaptive", "local-only", "cloud-only"])
        reply.policy.changes.extend(self.changes)


async def _stop(parts: list[asyncio.Task[None] | Subscription]) -> None:
    for part in parts:
        if isinstance(part, asyncio.Task):
            part.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await part
        else:
            await part.unsubscribe()
    parts.clear()


def _epoch_ns(frame_id: str) -> int:
    return 1_790_000_000_000_000_000 + int(frame_id.rsplit(".", 1)[1]) * 40_000_000


def _span(
    frame: str, span: int, parent: int, row: tuple[str, int, int], t0: int, service: str, instance: str
) -> pb.SpanReport:
    name, start_ms, took_ms = row
    return pb.SpanReport(
        trace_id=int(frame.rsplit(".", 1)[1]).to_bytes(16, "big"), span_id=span.to_bytes(8, "big"),
        parent_id=parent.to_bytes(8, "big") if parent else b"", name=name, service=service, instance=instance,
        start_unix_ns=t0 + start_ms * 1_000_000, end_unix_ns=t0 + (start_ms + took_ms) * 1_000_000,
        attributes={"splitmesh.cut": "n37-64x19x19"},
    )  # fmt: skip


@dataclass(slots=True)
class Served:
    """A page that is served. `refused` counts by reason."""

    state: GatewayState
    server: StatusServer
    broker: EmbeddedServer
    bus: Bus
    refused: Counter[str]

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def host(self) -> str:
        return self.server.url.removeprefix("http://")


@asynccontextmanager
async def served_page(
    folder: Path, *, tokens: dict[str, Account] | None = None, lab: LabControls | None = None, port: int = 0
) -> AsyncIterator[Served]:
    """tokens: who is let in by which; None: everybody, as tenant "default"."""
    refused: Counter[str] = Counter()
    path = None
    if tokens is not None:
        path = folder / "tokens.toml"
        path.write_text("\n".join(entry(token, account) for token, account in tokens.items()))
    async with EmbeddedServer(store=folder / "nats") as broker:
        bus = await connect_nats(broker.url, name="gateway", give_up_s=10)
        state = GatewayState(bus, Tokens(path, Account("default", "anyone")), name="gateway-test", lab=lab)
        await state.start()
        app = page_app(state, GatewaySettings(web_port=0), count_refusal=lambda why: refused.update([why]))
        server = StatusServer(
            "127.0.0.1", port, registry=CollectorRegistry(), status=dict, ready=lambda: (True, ""), page=app
        )
        await server.start()
        try:
            yield Served(state, server, broker, bus, refused)
        finally:
            await server.stop()
            await state.stop()
            await bus.drain()


class RecordingLab:
    """A lab that remembers what it was told to do."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []

    async def bend_link(self, factor: float, seconds: float) -> None:
        self.done.append(("bend", factor, seconds))

    async def kill_worker(self, name: str) -> None:
        self.done.append(("kill", name))

    async def restart_worker(self, name: str) -> None:
        self.done.append(("restart", name))

    async def slow_edge(self, edge: str, factor: float) -> None:
        self.done.append(("slow", edge, factor))


async def _serve(port: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with served_page(Path(folder), lab=RecordingLab(), port=port) as page:
            workers = [ScriptedWorker(page.bus, f"w-{n}") for n in (1, 2)]
            names = ("yard-north", "yard-south", "gate-1", "dock")
            edges = [ScriptedEdge(page.bus, name, seed=n, workers=("w-1", "w-2")) for n, name in enumerate(names, 1)]
            for part in (*workers, *edges):
                await part.start()
            print(page.url, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1]) if sys.argv[1:] else 0))
