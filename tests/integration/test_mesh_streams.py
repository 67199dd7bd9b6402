"""Streams over a real broker, with real workers: what is lost costs a key, and no answer is ever wrong."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cloud_rig import SlowHosted, ask, refused, until, worker_on
from stream_rig import Edge, Sent, Truth, edge_on, features, point, same_answer, with_table

from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.codec.head import parse_head
from splitmesh.codec.temporal.encoder import FINER, TemporalEncoder
from splitmesh.frames.outcome import Outcome
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.link import LinkEstimator
from splitmesh.wire import subjects
from splitmesh.wire.messages import NackCode
from splitmesh.wire.requests import InferRequest, StreamRequest

LEVEL = 90


@pytest.fixture(scope="module")
def cut(bundle: Bundle) -> str:
    return bundle.cuts[0].name


@pytest.fixture(scope="module")
def planned(bundle: Bundle, cut: str) -> Bundle:
    return with_table(bundle, cut)


@pytest.fixture(scope="module")
def ready(planned: Bundle) -> Hosted:
    """A worker's model with the table."""
    return Hosted(planned, threads=1, providers=("cpu",))


@pytest.fixture
async def edge(broker: EmbeddedServer, planned: Bundle, cut: str, tmp_path: Path) -> AsyncIterator[Edge]:
    async with edge_on(broker, planned, point(planned, cut, "temporal", LEVEL), tmp_path) as made:
        yield made


def keys(sent: list[Sent]) -> list[int]:
    """Which requests were sent in full, to the pool."""
    return [n for n, each in enumerate(sent) if isinstance(each.request, InferRequest)]


def check_answers(edge: Edge, bundle: Bundle, cut: str) -> int:
    """Every frame that a worker answered has the answer that its payload decodes to; how many there were."""
    truth, records = Truth(bundle, cut), {record.seq: record for record in edge.records()}
    checked = 0
    for sent in edge.stream_requests():
        request = sent.request
        seq = request.seq if isinstance(request, StreamRequest) else int(request.frame_id.rpartition(".")[2])
        expected = truth.answer(request.payload)
        if records[seq].outcome is Outcome.SPLIT:
            assert same_answer(records[seq], expected), f"frame {seq} has a wrong answer"
            checked += 1
    return checked


async def test_a_stream_is_one_key_and_then_slim_requests_to_its_worker(
    broker: EmbeddedServer,
    edge: Edge,
    ready: Hosted,
    planned: Bundle,
    cut: str,
) -> None:
    async with worker_on(broker, ready) as worker:
        records = await edge.run(30)
        assert {record.outcome for record in records} == {Outcome.SPLIT}
        assert worker.status().served >= 30 and worker.status().nacked == {}
        assert keys(edge.tap.sent) == [0]
        assert {each.subject for each in edge.tap.sent[1:]} == {subjects.worker("default", "w-1")}
        assert edge.stream.home == "w-1"
        sizes = [len(each.request.payload) for each in edge.tap.sent]
        assert sum(sizes[1:]) / 29 < 0.7 * sizes[0]
        coarse = await edge.run(5, level=LEVEL - 24)
        assert {record.outcome for record in coarse} == {Outcome.SPLIT} and keys(edge.tap.sent) == [0]
        assert check_answers(edge, planned, cut) == 35


async def test_lost_requests_cost_their_frames_and_nothing_else(
    broker: EmbeddedServer,
    edge: Edge,
    ready: Hosted,
    planned: Bundle,
    cut: str,
) -> None:
    edge.tap.lose = lambda number: number in (0, 5, 6, 11)
    async with worker_on(broker, ready) as worker:
        records = await edge.run(20)
        lost = [n for n, record in enumerate(records) if record.outcome is not Outcome.SPLIT]
        assert lost == [0, 5, 6, 11] and {records[n].outcome for n in lost} == {Outcome.RESUMED}
        assert keys(edge.tap.sent) == [0, 1], "only the key that was lost was sent again"
        assert worker.status().nacked == {}
        assert check_answers(edge, planned, cut) == 16


async def test_a_worker_that_is_replaced_costs_one_key(
    broker: EmbeddedServer,
    edge: Edge,
    ready: Hosted,
    planned: Bundle,
    cut: str,
) -> None:
    async with worker_on(broker, ready, name="w-1"):
        await edge.run(6)
        assert edge.stream.home == "w-1"
    await until(lambda: edge.stream.home == "")  # it said that it goes
    alone = await edge.run(2)
    assert {record.outcome for record in alone} == {Outcome.RESUMED}
    async with worker_on(broker, ready, name="w-2"):
        records = await edge.run(6)
        assert [record.worker for record in records] == ["w-2"] * 6
    assert len(keys(edge.tap.sent)) == 4  # the first, two to nobody, one to the second worker
    assert check_answers(edge, planned, cut) == 12


async def test_a_worker_that_vanishes_without_a_word_costs_one_frame_and_one_key(
    broker: EmbeddedServer,
    edge: Edge,
    ready: Hosted,
    planned: Bundle,
    cut: str,
) -> None:
    async with worker_on(broker, ready, name="w-2") as second:
        async with worker_on(broker, ready, name="w-1") as first:
            while edge.tap.sent == [] or edge.stream.home != "w-1":
                edge.offers.streams.worker_gone("w-2")
                await edge.run(1)
            for interest in (*first._requests, *first._cancellations):
                await interest.unsubscribe()  # as if it were gone: nobody listens on its subject
            records = await edge.run(6)
        assert records[0].outcome is Outcome.RESUMED and "nobody listens" in records[0].note
        assert [record.worker for record in records[1:]] == ["w-2"] * 5
        assert second.status().nacked == {}
    check_answers(edge, planned, cut)


async def test_a_worker_that_forgot_the_stream_says_so_and_one_key_follows(
    broker: EmbeddedServer,
    edge: Edge,
    ready: Hosted,
    planned: Bundle,
    cut: str,
) -> None:
    async with worker_on(broker, ready) as worker:
        await edge.run(4)
        worker._tenancies["default"].intake.streams.trim(10**18)  # much later
        records = await edge.run(4)
        assert [record.outcome for record in records] == [Outcome.RESUMED] + [Outcome.SPLIT] * 3
        assert "refused (need_keyframe)" in records[0].note
        assert worker.status().nacked == {"need_keyframe": 1}
        assert keys(edge.tap.sent) == [0, 5]
        assert check_answers(edge, planned, cut) == 7


async def test_of_two_workers_only_the_one_that_holds_the_reference_is_asked(
    broker: EmbeddedServer,
    edge: Edge,
    ready: Hosted,
    planned: Bundle,
    cut: str,
) -> None:
    async with worker_on(broker, ready, name="w-1") as first, worker_on(broker, ready, name="w-2") as second:
        records = await edge.run(12)
        assert len({record.worker for record in records}) == 1
        assert keys(edge.tap.sent) == [0]
        home = edge.stream.home
        other = second if home == "w-1" else first
        assert other.status().nacked == {}
        slim = edge.tap.sent[-1].request
        assert isinstance(slim, StreamRequest)
        raw = await edge.tap._bus.request(subjects.worker("default", other.options.name), slim.encode(), timeout_s=10)
        assert other.status().nacked == {"need_keyframe": 1} and raw.payload
        assert check_answers(edge, planned, cut) == 12


async def test_a_broker_that_restarts_costs_frames_but_not_the_stream(
    broker: EmbeddedServer,
    edge: Edge,
    ready: Hosted,
    planned: Bundle,
    cut: str,
) -> None:
    async with worker_on(broker, ready) as worker:
        await edge.run(4)
        broker.kill()
        await until(lambda: not edge.tap.connected)
        gone = await edge.run(3)
        assert {record.outcome for record in gone} == {Outcome.RESUMED}
        await broker.start()
        await until(lambda: edge.tap.connected and worker.ready)
        records = await edge.run(4)
        assert {record.outcome for record in records} == {Outcome.SPLIT}
        assert check_answers(edge, planned, cut) == 8


@pytest.mark.parametrize("codec", ["compact", "temporal"])
async def test_a_worker_that_planned_without_footage_gets_the_table(
    broker: EmbeddedServer,
    hosted: Hosted,
    planned: Bundle,
    cut: str,
    tmp_path: Path,
    codec: str,
) -> None:
    async with (
        worker_on(broker, hosted) as worker,
        edge_on(broker, planned, point(planned, cut, codec, LEVEL), tmp_path) as edge,
    ):
        (first,) = await edge.run(1)
        assert first.outcome is Outcome.RESUMED and "refused (need_table)" in first.note
        await until(lambda: len(worker._tenancies["default"].intake.tables) == 1)
        records = await edge.run(8)
        assert {record.outcome for record in records} == {Outcome.SPLIT}
        assert edge.tap.tables == [subjects.table("default", "w-1")]
        assert worker.status().nacked == {"need_table": 1}
        if codec == "temporal":
            assert check_answers(edge, planned, cut) == 8


async def test_pictures_of_an_h264_stream_cross_and_a_loss_costs_a_key(
    broker: EmbeddedServer,
    ready: Hosted,
    planned: Bundle,
    tmp_path: Path,
) -> None:
    async with (
        worker_on(broker, ready) as worker,
        edge_on(broker, planned, point(planned, "", "h264", 20), tmp_path) as edge,
    ):
        edge.tap.lose = lambda number: number == 6
        records = await edge.run(12)
        lost = [n for n, record in enumerate(records) if record.outcome is not Outcome.FRAME]
        assert lost == [6] and worker.status().nacked == {}
        assert keys(edge.tap.sent) == [0, 7]


async def test_a_payload_with_state_but_no_stream_is_refused(
    broker: EmbeddedServer,
    edge: Edge,
    ready: Hosted,
    planned: Bundle,
    cut: str,
) -> None:
    async with worker_on(broker, ready):
        await edge.run(1)
        payload = edge.tap.sent[0].request.payload
        reply = await ask(edge.tap._bus, planned, cut=cut, payload=payload)
        assert refused(reply).code is NackCode.BAD_REQUEST and "no stream" in refused(reply).detail


async def test_ten_thousand_streams_of_one_edge_end_nobody_elses(
    broker: EmbeddedServer,
    edge: Edge,
    ready: Hosted,
    planned: Bundle,
    cut: str,
) -> None:
    async with worker_on(broker, ready, queue_limit=1) as worker:
        await edge.run(2)
        opener = edge.tap.sent[0].request
        assert isinstance(opener, InferRequest)
        subject = subjects.infer("default", opener.model, cut)
        for number in range(10_000):
            bomb = InferRequest(
                f"bomb.r.{number}", "bomb", opener.model, opener.model_sha256, cut, opener.payload,
                budget_us=10_000_000, stream=number + 1,
            )  # fmt: skip
            await edge.tap.publish(subject, bomb.encode(), reply="nobody.listens")
            if number % 500 == 0:
                await edge.tap.echo(timeout_s=10)
        await edge.tap.echo(timeout_s=10)
        await until(lambda: worker._dispatch.idle, 60)
        assert len(worker._tenancies["default"].intake.streams) <= 10
        assert worker.status().nacked["overloaded"] > 0
        records = await edge.run(3)
        assert [record.outcome for record in records] == [Outcome.SPLIT] * 3
        assert len(keys(edge.tap.sent)) == 1


class ThinLink(LinkEstimator):
    """Stays with what it was told: loopback would soon teach it better."""

    def _learn(self, y_ms: float, kb: float) -> None:
        self.samples += 1


async def test_where_the_link_has_no_room_for_a_key_the_stream_fades_in(
    broker: EmbeddedServer, edge: Edge, ready: Hosted, planned: Bundle, cut: str
) -> None:
    """What goes is as coarse as it must be, says so, gets finer, and is answered as it decodes."""
    table = planned.table(cut)
    assert table is not None
    first = {name: frames[1:2] for name, frames in features(planned, cut).items()}
    whole = len(TemporalEncoder(table).encode(first, level=LEVEL).payload)
    budget_ms = 1000.0
    edge.world.link = ThinLink(bandwidth_bps=8000 * (0.6 * whole + 250) / (0.8 * budget_ms), base_ms=1.0)
    edge.world.link._p_ss = 0.0
    async with worker_on(broker, ready):
        for _ in range(10):
            await asyncio.wait_for(edge.pipeline.run(edge.frame(budget_ms=budget_ms)), 15)
        levels = [parse_head(sent.request.payload)[0].level for sent in edge.stream_requests()]
        assert keys(edge.tap.sent) == [0] and len(edge.tap.sent[0].request.payload) < 0.65 * whole
        assert levels[0] < LEVEL + FINER and max(levels[1:]) == LEVEL
        notes = [record.note for record in edge.records()]
        assert f"level {levels[0] - FINER} of {LEVEL}: the link carries" in notes[0], notes[0]
        assert notes[-1] == "", "by now all of it fits"
        assert check_answers(edge, planned, cut) == 10


async def test_a_key_that_comes_too_late_for_its_frame_still_opens_the_stream(
    broker: EmbeddedServer, edge: Edge, planned: Bundle, cut: str
) -> None:
    """Its frame is resumed from the cut meanwhile, and the request is not withdrawn."""
    slow = SlowHosted(planned)
    async with worker_on(broker, slow) as worker:
        slow.gate.clear()
        edge.point = dataclasses.replace(edge.point, resume_ms=300.0)  # its timer fires early, however busy we are
        await asyncio.wait_for(edge.pipeline.run(edge.frame(budget_ms=800.0)), 15)
        assert edge.records()[-1].outcome is Outcome.RESUMED, edge.records()[-1].note
        blocked = await edge.run(1)
        assert blocked[0].outcome is Outcome.RESUMED and "key of this stream is under way" in blocked[0].note
        slow.gate.set()
        await until(lambda: edge.stream.home == "w-1")
        assert [record.outcome for record in await edge.run(3)] == [Outcome.SPLIT] * 3
        assert keys(edge.tap.sent) == [0] and worker.status().nacked == {}
        assert check_answers(edge, planned, cut) == 3
