"""A worker on a real nats-server with real sessions: answers, refusals, heartbeats, traces, a broker that dies."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from cloud_rig import MODEL, PICTURE, TRACE, ask, payload_for, refused, until, worker_on

from splitmesh.bus.base import Bus, Message
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.codec.features import encode_features
from splitmesh.codec.picture import encode_picture
from splitmesh.frames.answer import Answer
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.read import Bundle
from splitmesh.telemetry.spanlog import frame_spans, read_spans
from splitmesh.v1 import infer_pb2 as pb
from splitmesh.wire import headers, subjects
from splitmesh.wire.messages import Heartbeat, InferReply, NackCode


async def test_whole_and_tails_agree_with_the_model_itself(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted
) -> None:
    tensor = Normalizer.from_manifest(bundle.manifest).normalize(PICTURE)
    reference = bundle.postprocess()(open_session(bundle.full_path).run({"image": tensor}))
    assert len(bundle.cuts) >= 1
    async with worker_on(broker, hosted) as worker:
        for cut in hosted.cuts:
            reply = await ask(edge, bundle, f"e.r.{cut or 'whole'}", cut=cut)
            assert isinstance(reply.outcome, Answer), reply
            assert reply.worker_id == "w-1"
            assert reply.outcome.classes[0] == reference.classes[0]
            assert abs(reply.outcome.scores[0] - reference.scores[0]) < 0.05
            assert reply.times.service_us > 0 and reply.times.decode_us > 0
        direct = await ask(edge, bundle, subject=subjects.worker("default", "w-1"))
        assert isinstance(direct.outcome, Answer)
        assert worker.status().served == len(hosted.cuts) + 1 and worker.status().nacked == {}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model_sha256": "0" * 64}, NackCode.UNKNOWN_MODEL),
        ({"model": "other"}, NackCode.UNKNOWN_MODEL),
        ({"cut": "no-such-cut", "subject": subjects.infer("default", MODEL, "")}, NackCode.UNKNOWN_MODEL),
        ({"payload": b"junk"}, NackCode.BAD_REQUEST),
        ({"payload": encode_picture(np.zeros((8, 8, 3), np.uint8), quality=85)}, NackCode.BAD_REQUEST),
        (
            {"payload": encode_features({"x": np.zeros((1, 2, 4, 4), np.float32)}, codec="u8lz4", level=8)},
            NackCode.BAD_REQUEST,
        ),
        ({"budget_us": 0}, NackCode.OVERLOADED),
        ({"budget_us": 1}, NackCode.OVERLOADED),
    ],
)
async def test_one_bad_request_is_refused_and_the_next_is_served(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted, changes: dict[str, object], code: NackCode
) -> None:
    async with worker_on(broker, hosted) as worker:
        reply = (
            await ask(edge, bundle, payload=payload_for(bundle, ""), **changes)
            if "payload" not in changes
            else (await ask(edge, bundle, **changes))
        )
        nack = refused(reply)
        assert nack.code is code and nack.detail
        assert reply.frame_id == "e.r.1"
        assert isinstance((await ask(edge, bundle, "e.r.2")).outcome, Answer)
        assert worker.status().nacked == {code.label: 1}


@pytest.mark.parametrize(
    ("raw", "head"),
    [
        (b"", {headers.BUDGET_US: "1000000"}),
        (b"\xff\xff", {headers.BUDGET_US: "1000000"}),
        (bytes(900_000), {headers.BUDGET_US: "1000000"}),
        (None, {}),
        (None, {headers.BUDGET_US: "soon"}),
    ],
)
async def test_unreadable_messages_are_refused(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted, raw: bytes | None, head: dict[str, str]
) -> None:
    async with worker_on(broker, hosted):
        message = await edge.request(
            subjects.infer("default", MODEL, ""), older(bundle) if raw is None else raw, headers=head, timeout_s=10
        )
        assert refused(InferReply.decode(message.payload)).code is NackCode.BAD_REQUEST
        assert isinstance((await ask(edge, bundle)).outcome, Answer)


def older(bundle: Bundle) -> bytes:
    """A request as edges sent it when budget and trace were headers."""
    return pb.InferRequest(
        frame_id="e.r.1", edge_id="e", model=MODEL, model_sha256=bundle.sha256, payload=payload_for(bundle, "")
    ).SerializeToString()


async def test_an_older_edge_is_served(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    head = {"traceparent": TRACE, "Nats-Msg-Id": "e.r.1", "Sm-Budget-Us": "5000000"}
    async with worker_on(broker, hosted, span_log=tmp_path / "spans"):
        message = await edge.request(subjects.infer("default", MODEL, ""), older(bundle), headers=head, timeout_s=10)
        reply = InferReply.decode(message.payload)
        assert isinstance(reply.outcome, Answer) and reply.frame_id == "e.r.1"
    assert {row.trace_id for row in frame_spans(read_spans(tmp_path / "spans"), "e.r.1")} == {TRACE[3:35]}


async def test_an_unforeseen_failure_is_told_without_its_text(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    hosted = Hosted(bundle, threads=1, providers=("cpu",))
    async with worker_on(broker, hosted):
        working = hosted._postprocess

        def broken(outputs: object) -> Answer:
            raise ZeroDivisionError("secret path")

        hosted._postprocess = broken
        nack = refused(await ask(edge, bundle))
        assert nack.code is NackCode.INFERENCE_FAILED and "secret" not in nack.detail
        assert "secret path" in caplog.text
        hosted._postprocess = lambda outputs: Answer(
            np.full((1, 4), np.nan, np.float32), np.ones(1, np.float32), np.zeros(1, np.uint16)
        )
        nack = refused(await ask(edge, bundle, "e.r.2"))
        assert nack.code is NackCode.INFERENCE_FAILED and "boxes" in nack.detail
        noise = np.random.default_rng(0).random((1, 600, 600))
        hosted._postprocess = lambda outputs: Answer.of_tensors({"depth": noise})
        nack = refused(await ask(edge, bundle, "e.r.4"))
        assert nack.code is NackCode.INFERENCE_FAILED and "more than the 1000000" in nack.detail
        hosted._postprocess = lambda outputs: Answer.of_tensors({"mask": np.eye(600, dtype=np.uint8)})
        masked = (await ask(edge, bundle, "e.r.5")).outcome
        assert isinstance(masked, Answer) and masked.mask is not None and masked.mask.sum() == 600
        hosted._postprocess = working
        assert isinstance((await ask(edge, bundle, "e.r.3")).outcome, Answer)


async def test_heartbeats(broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted) -> None:
    beats: list[tuple[float, Heartbeat]] = []

    async def hear(message: Message) -> None:
        beats.append((time.monotonic(), Heartbeat.decode(message.payload)))

    await edge.subscribe(subjects.load("default"), hear)
    async with worker_on(broker, hosted):
        await until(lambda: len(beats) >= 6)
    await until(lambda: beats[-1][1].draining)
    assert [b.seq for _, b in beats[:6]] == [1, 2, 3, 4, 5, 6]
    assert 0.8 < beats[5][0] - beats[0][0] < 2.5  # five a second
    assert beats[0][1].models == (hosted.announced(),) and not beats[0][1].draining


async def test_a_killed_broker_costs_no_worker(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted
) -> None:
    async with worker_on(broker, hosted) as worker:
        assert isinstance((await ask(edge, bundle)).outcome, Answer)
        broker.kill()
        await until(lambda: not worker.ready)
        await broker.start()
        await until(lambda: worker.ready and edge.connected)
        assert isinstance((await ask(edge, bundle, "e.r.2")).outcome, Answer)


async def test_spans_continue_the_edges_trace(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    async with worker_on(broker, hosted, span_log=tmp_path / "spans"):
        await ask(edge, bundle, "e.r.7")
        await ask(edge, bundle, "e.r.8", budget_us=1)
    rows = frame_spans(read_spans(tmp_path / "spans"), "e.r.7")
    served = {r.name: r for r in rows if r.trace_id == TRACE[3:35]}
    assert {"worker", "queue", "decode", "tail", "postprocess"} <= served.keys()
    outer = [r for r in rows if r.name == "worker" and not r.error]
    assert [r.parent_id for r in outer] == [TRACE[36:52]]
    assert {served[n].parent_id for n in ("queue", "decode", "tail", "postprocess")} == {outer[0].span_id}
    assert outer[0].attributes["splitmesh.worker"] == "w-1"
    late = frame_spans(read_spans(tmp_path / "spans"), "e.r.8")
    assert "overloaded" in {r.error for r in late}
