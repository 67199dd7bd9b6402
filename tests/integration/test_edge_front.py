"""A real edge tells how it fares, shows what is watched and answers what it is asked, and loses no frame by it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import simplejpeg
from mesh_run import Node, Scene, node, until

from splitmesh.bus.base import Bus, Message
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.outcome import Outcome
from splitmesh.v1 import control_pb2 as pb
from splitmesh.wire import subjects
from splitmesh.wire.control import frames_from, preview_from, reply_from, report_from, spans_from

pytestmark = pytest.mark.slow

EDGE = "cam-1"
TENANT = "default"


@dataclass
class Onlooker:
    """A client on the bus that hears the edge and asks it."""

    bus: Bus
    reports: list[pb.EdgeReport] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    frames: list[pb.FrameReports] = field(default_factory=list)
    previews: list[pb.Preview] = field(default_factory=list)
    heard: list[tuple[float, int]] = field(default_factory=list)
    """(when, bytes) of what is sent because somebody watches."""

    async def listen(self) -> None:
        async def on_report(message: Message) -> None:
            self.sizes.append(len(message.payload))
            self.reports.append(report_from(message.payload, edge=EDGE))

        async def on_frames(message: Message) -> None:
            self.heard.append((time.monotonic(), len(message.payload)))
            self.frames.append(frames_from(message.payload, edge=EDGE))

        async def on_preview(message: Message) -> None:
            self.heard.append((time.monotonic(), len(message.payload)))
            self.previews.append(preview_from(message.payload, edge=EDGE))

        await self.bus.subscribe(subjects.statuses(TENANT), on_report)
        await self.bus.subscribe(subjects.result(TENANT, EDGE), on_frames)
        await self.bus.subscribe(subjects.preview(TENANT, EDGE), on_preview)

    async def ask(self, raw: bytes | None = None, **command: Any) -> pb.EdgeReply:
        payload = pb.EdgeCommand(actor="ann", **command).SerializeToString() if raw is None else raw
        message = await self.bus.request(subjects.command(TENANT, EDGE), payload, timeout_s=10)
        return reply_from(message.payload, edge=EDGE)

    async def refusal(self, raw: bytes | None = None, **command: Any) -> str:
        reply = await self.ask(raw, **command)
        assert reply.WhichOneof("outcome") == "refused", reply
        return reply.refused.field

    def seen(self) -> list[pb.FrameReport]:
        return [frame for message in self.frames for frame in message.frames]


@asynccontextmanager
async def onlooker(broker: EmbeddedServer) -> AsyncIterator[Onlooker]:
    bus = await connect_nats(broker.url, name="onlooker", give_up_s=10)
    looking = Onlooker(bus)
    await looking.listen()
    try:
        yield looking
    finally:
        await bus.drain()


@asynccontextmanager
async def mesh(
    scene: Scene, broker: EmbeddedServer, folder: Path, **changes: Any
) -> AsyncIterator[tuple[Node, Onlooker]]:
    """A worker, an edge that is under way, and who looks on. At the end the edge's ledger is checked."""
    async with onlooker(broker) as looking:
        async with node("cloud", folder / "cloud", ready=False, **scene.worker(nats_url=broker.url)):
            settings = scene.edge(nats_url=broker.url, name=EDGE, **changes)
            async with node("edge", folder / "edge", **settings) as edge:
                await edge.offloads(5)
                yield edge, looking
                assert await edge.stop() == 0, edge.log
        edge.frame_records()


async def test_an_edge_reports_while_it_runs_and_says_how_it_ended(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    async with mesh(scene, broker, tmp_path) as (edge, looking):
        await until(lambda: len(looking.reports) >= 4)
        status = await edge.status()
        _, metrics = await edge.get("/metrics")
    await until(lambda: looking.reports[-1].finished)
    last, records = looking.reports[-1], edge.frame_records()
    counts = {outcome.value: sum(r.outcome is outcome for r in records) for outcome in Outcome}
    assert dict(last.settled) == {kind: count for kind, count in counts.items() if count}
    assert last.captured == len(records) == sum(last.settled.values()) and last.in_flight == 0
    assert [report.seq for report in looking.reports] == list(range(looking.reports[0].seq, last.seq + 1))
    assert len({report.run_id for report in looking.reports}) == 1
    assert last.run_id == records[0].frame_id.split(".")[1]
    assert max(looking.sizes) <= 400, looking.sizes
    busy = looking.reports[-2]
    assert (busy.policy, busy.deadline_ms, busy.breaker) == ("adaptive", 250.0, "closed")
    assert busy.model == "coco-ssdlite" and busy.link.bandwidth_bps > 0 and busy.uplink_bytes > 0
    assert busy.source == status["source"] and busy.version
    assert sum(looking.sizes[:-1]) == last.told_bytes
    assert 'splitmesh_told_bytes_total{what="report"}' in metrics


WATCH = pb.WatchRequest(lease_s=60, frames=True, answers=True, preview_fps=5, preview_px=160)


async def test_what_is_watched_is_what_the_records_say(scene: Scene, broker: EmbeddedServer, tmp_path: Path) -> None:
    async with mesh(scene, broker, tmp_path) as (edge, looking):
        reply = await looking.ask(watch=WATCH)
        assert reply.watching_s == 60
        await until(lambda: len(looking.seen()) >= 60 and len(looking.previews) >= 5)
    records = {record.frame_id: record for record in edge.frame_records()}
    seen = looking.seen()
    assert len({frame.frame_id for frame in seen}) == len(seen)
    for frame in seen:
        record = records[frame.frame_id]
        assert (frame.outcome, frame.chosen.point, frame.reason) == (record.outcome, record.point, record.reason)
        assert frame.latency_ms == pytest.approx(record.latency_ms) and frame.deadline_hit == record.deadline_hit
        assert frame.answer.count == len(record.answer)
    everything = max(frame.seq for frame in seen) - min(frame.seq for frame in seen) + 1
    assert everything == len(seen) + looking.frames[-1].left_out
    for preview in looking.previews:
        height, width, _, _ = simplejpeg.decode_jpeg_header(preview.jpeg)
        assert max(height, width) == 160
        record = records[preview.frame_id]
        assert preview.answer.count == len(record.answer) and preview.point == record.point
        assert set(preview.labels) == set(record.answer.classes.tolist())


async def test_nothing_is_sent_unwatched_and_no_more_than_was_asked_for(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    limit = 4000
    async with mesh(scene, broker, tmp_path) as (edge, looking):
        await until(lambda: len(looking.reports) >= 2)
        assert edge.outcomes() and not looking.heard
        await looking.ask(watch=pb.WatchRequest(lease_s=4, frames=True, preview_fps=30, max_bytes_per_s=limit))
        start = time.monotonic()
        await until(lambda: len(looking.reports) >= 9)
        took_s = looking.heard[-1][0] - start
        assert took_s < 6, "the lease has ended"
        assert sum(size for _, size in looking.heard) <= limit * (took_s + 1)
        assert looking.frames[-1].left_out > 0
        assert len(looking.frames) <= 5 * (took_s + 1)
        count = len(looking.heard)
        reports = len(looking.reports)
        await until(lambda: len(looking.reports) >= reports + 2)
        assert len(looking.heard) == count


async def test_an_edge_answers_what_it_is_asked(scene: Scene, broker: EmbeddedServer, tmp_path: Path) -> None:
    async with mesh(scene, broker, tmp_path) as (edge, looking):
        recent = (await looking.ask(recent=pb.Recent(last=20))).recent
        assert 5 <= len(recent.frames) <= 20 and recent.run_id
        remote = next(frame for frame in recent.frames if frame.outcome in ("split", "frame"))
        explained = (await looking.ask(explain=pb.ExplainRequest(frame_id=remote.frame_id))).explained
        assert explained.frame.chosen == remote.chosen and explained.frame.HasField("answer")
        spans = {span.name: span for span in explained.spans}
        assert {"frame", "decode", "preprocess", "decide", "offload", "emit"} <= set(spans)
        request = pb.SpansRequest(frame_id=remote.frame_id).SerializeToString()
        message = await looking.bus.request(subjects.spans(TENANT, remote.worker_id), request, timeout_s=10)
        served = next(span for span in spans_from(message.payload).spans if span.name == "worker")
        assert served.parent_id == spans["offload"].span_id and served.trace_id == remote.trace_id
        await told_by_why(broker.url, remote)
        points = (await looking.ask(get_points=pb.GetPoints())).points.points
        assert {"track", "local", "split", "frame"} == {point.place for point in points}
        assert remote.chosen.point in {point.name for point in points}
        assert await looking.refusal(explain=pb.ExplainRequest(frame_id="cam-1.nothing.7")) == "frame_id"
        assert await looking.refusal(b"\xff\xff\xff") == ""
        assert await looking.refusal(b"") == "command"
        assert await looking.refusal(watch=pb.WatchRequest(lease_s=61)) == "lease_s"
        assert await looking.refusal(set_policy=pb.PolicyChange(policy="clever")) == "policy"
        assert await looking.refusal(experiment=pb.Experiment(edge_slowdown=2)) == "experiment"
        _, metrics = await edge.get("/metrics")
        assert 'splitmesh_commands_total{result="refused"} 7.0' in metrics


async def told_by_why(url: str, frame: pb.FrameReport) -> None:
    """`splitmesh why` asks edge and worker while they run."""

    async def output(*arguments: str) -> tuple[int | None, str]:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "splitmesh.cli.main", "why", *arguments, "--nats-url", url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        text, _ = await child.communicate()
        return child.returncode, text.decode()

    status, told = await output(frame.frame_id, "--json")
    assert status == 0, told
    row = json.loads(told)
    assert row["frame"]["point"] == frame.chosen.point and row["frame"]["worker"] == frame.worker_id
    assert {span["service"] for span in row["spans"]} == {"edge", "cloud"}
    status, told = await output("nobody.r.1")
    assert status == 1 and "no edge 'nobody'" in told
    status, told = await output(f"{EDGE}.r.1")
    assert status == 1 and f"{EDGE}.r.1 is not among the frames" in told


def settled_deadlines_ms(edge: Node) -> set[float]:
    """Of the lines that are whole by now."""
    lines = edge.results.read_bytes().splitlines(keepends=True)
    return {json.loads(line)["deadline_ms"] for line in lines if line.endswith(b"\n")}


async def test_a_policy_that_is_set_holds_from_the_next_frame_on(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    async with mesh(scene, broker, tmp_path, allow_experiments=True) as (edge, looking):
        change = pb.PolicyChange(policy="track", deadline_ms=123.0, uplink_budget_bps=5e5)
        what = (await looking.ask(what_if=change)).what_if
        assert what.now_reason and what.then.point == "track" and what.observed_ms_ago < 5000
        before = (await looking.ask(get_policy=pb.GetPolicy())).policy
        assert (before.policy, before.deadline_ms, len(before.changes)) == ("adaptive", 250.0, 0)
        after = (await looking.ask(set_policy=change)).policy
        assert (after.policy, after.deadline_ms, after.uplink_budget_bps) == ("track", 123.0, 5e5)
        assert after.changes[0].actor == "ann" and after.changes[0].unix_ms > 1.6e12
        await until(lambda: looking.reports[-1].policy == "track" and looking.reports[-1].deadline_ms == 123.0)
        await until(lambda: 123.0 in settled_deadlines_ms(edge))
        assert (await looking.ask(experiment=pb.Experiment(edge_slowdown=9))).WhichOneof("outcome") == "done"
        back = pb.PolicyChange(policy="local-only", deadline_ms=2000.0)
        await looking.ask(set_policy=back)
        await until(lambda: edge.outcomes()[-1] is Outcome.LOCAL)
    records = edge.frame_records()
    deadlines = [record.deadline_ms for record in records]
    assert sorted(set(deadlines), key=deadlines.index) == [250.0, 123.0, 2000.0]
    assert {record.point for record in records if record.deadline_ms == 123.0} == {"track"}
    local = [record.times_ms["local"] for record in records if record.outcome is Outcome.LOCAL]
    assert local


async def test_a_flood_of_commands_is_refused_and_costs_no_frame(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    command = pb.EdgeCommand(actor="mob", recent=pb.Recent(last=500)).SerializeToString()
    replies: list[int] = []

    async def on_reply(message: Message) -> None:
        replies.append(len(message.payload))

    def counted(page: str, result: str) -> float:
        line = next(
            row for row in page.splitlines() if row.startswith(f'splitmesh_commands_total{{result="{result}"')
        )
        return float(line.split()[-1])

    async with mesh(scene, broker, tmp_path) as (edge, looking):
        await looking.bus.subscribe("test.replies", on_reply)
        start = time.monotonic()
        first = len(edge.outcomes())
        for _ in range(30):
            for _ in range(100):
                await looking.bus.publish(subjects.command(TENANT, EDGE), command, reply="test.replies")
            await asyncio.sleep(0.1)  # the pace of the flood, not a wait for anything
        took_s = time.monotonic() - start
        frames = len(edge.outcomes()) - first
        _, page = await edge.get("/metrics")
        assert counted(page, "answered") <= 40 + 20 * (took_s + 1)
        assert counted(page, "refused") <= 5 + 5 * (took_s + 1)
        assert counted(page, "ignored") >= 2000
        assert frames >= 5 * took_s, "frames go on: the source brings fifteen a second"
        await until(lambda: len(replies) == counted(page, "answered") + counted(page, "refused"))


async def test_while_the_broker_is_away_nothing_is_told_and_then_again(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    async with mesh(scene, broker, tmp_path) as (edge, looking):
        await looking.ask(watch=WATCH)
        await until(lambda: looking.frames and looking.reports)
        broker.kill()
        frames, told = len(edge.outcomes()), looking.reports[-1].seq
        await until(lambda: len(edge.outcomes()) >= frames + 40)
        assert looking.reports[-1].seq <= told + 1
        await broker.start()
        await until(lambda: looking.reports[-1].seq > told + 1)
        assert looking.reports[-1].breaker in ("open", "half-open", "closed")
        missed = looking.reports[-1].seq - told
        assert missed >= 2, "a gap in the numbers shows that reports are missing"
        heard = len(looking.seen())
        await until(lambda: len(looking.seen()) > heard)
        assert (await looking.ask(get_policy=pb.GetPolicy())).policy.policy == "adaptive"
    await until(lambda: looking.reports[-1].finished)
    assert looking.reports[-1].captured == len(edge.frame_records())
