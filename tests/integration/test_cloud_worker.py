"""A worker on a real nats-server with real sessions: answers, refusals, cancellation, outages, draining."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from splitmesh.bus.base import Bus, Message
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.command import share_threads
from splitmesh.cloud.hosted import Hosted
from splitmesh.cloud.service import Worker, WorkerOptions
from splitmesh.codec.features import encode_features
from splitmesh.codec.picture import encode_picture
from splitmesh.errors import NoResponders
from splitmesh.frames.answer import Answer
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.planner import ensure_plan
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle import Bundle
from splitmesh.telemetry.metrics import Metrics
from splitmesh.telemetry.spanlog import frame_spans, read_spans
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire import headers, subjects
from splitmesh.wire.messages import Cancel, Heartbeat, InferReply, InferRequest, Nack, NackCode

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from plan_graphs import classifier_manifest, moving_squares, residual_classifier, save

MODEL = "tiny-classifier"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of real processes have no event
            await asyncio.sleep(0.005)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("plan")
    model = save(residual_classifier(), folder / "model.onnx")
    return ensure_plan(model, classifier_manifest(), [], folder / "tiny.plan", progress=lambda *_: None)


@pytest.fixture(scope="module")
def hosted(bundle: Bundle) -> Hosted:
    return Hosted(bundle, threads=1, providers=("cpu",))


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(store=tmp_path / "nats") as running:
        yield running


@pytest.fixture
async def edge(broker: EmbeddedServer) -> AsyncIterator[Bus]:
    bus = await connect_nats(broker.url, name="edge", give_up_s=10)
    yield bus
    await bus.drain()


@asynccontextmanager
async def worker_on(
    broker: EmbeddedServer, *hosted: Hosted, span_log: Path | None = None, **options: object
) -> AsyncIterator[Worker]:
    bus = await connect_nats(broker.url, name="worker", give_up_s=10)
    tracing = Tracing("cloud", instance="w-1", span_log=span_log)
    worker = Worker(
        WorkerOptions(**{"name": "w-1", **options}),
        hosted,
        tracing=tracing,
        metrics=Metrics(CollectorRegistry()).cloud,
    )
    await worker.warm_up()
    await worker.start(bus)
    try:
        yield worker
    finally:
        await worker.drain(5)
        await bus.drain()
        await asyncio.to_thread(tracing.close)


PICTURE = moving_squares(8)[7]


def payload_for(bundle: Bundle, cut: str) -> bytes:
    if not cut:
        return encode_picture(PICTURE, quality=95)
    tensor = Normalizer.from_manifest(bundle.manifest).normalize(PICTURE)
    features = open_session(bundle.head_path(cut), providers=("cpu",)).run({"image": tensor})
    return encode_features(features, codec="u8zstd", level=8)


async def ask(
    bus: Bus,
    bundle: Bundle,
    frame: str = "e.r.1",
    *,
    cut: str = "",
    payload: bytes | None = None,
    budget_us: int = 5_000_000,
    subject: str | None = None,
    **changes: object,
) -> InferReply:
    fields = {
        "frame_id": frame,
        "edge_id": "e",
        "model": MODEL,
        "model_sha256": bundle.sha256,
        "cut": cut,
        "payload": payload_for(bundle, cut) if payload is None else payload,
        **changes,
    }
    message = await bus.request(
        subject or subjects.infer("default", MODEL, cut),
        InferRequest(**fields).encode(),
        headers=headers.pack(TRACE, frame, budget_us),
        timeout_s=20,
    )
    return InferReply.decode(message.payload)


def refused(reply: InferReply) -> Nack:
    assert isinstance(reply.outcome, Nack)
    return reply.outcome


class SlowHosted(Hosted):
    """The real model behind a gate, so that a test can hold requests in service."""

    def __init__(self, bundle: Bundle) -> None:
        import threading

        super().__init__(bundle, threads=1, providers=("cpu",))
        self.gate = threading.Event()
        self.gate.set()
        self.entered = 0

    def execute(self, cut, payload, abandoned=lambda: False):
        self.entered += 1
        self.gate.wait(20)
        return super().execute(cut, payload, abandoned)


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
    good = InferRequest("e.r.1", "e", MODEL, bundle.sha256, "", payload_for(bundle, "")).encode()
    async with worker_on(broker, hosted):
        message = await edge.request(
            subjects.infer("default", MODEL, ""), good if raw is None else raw, headers=head, timeout_s=10
        )
        assert refused(InferReply.decode(message.payload)).code is NackCode.BAD_REQUEST
        assert isinstance((await ask(edge, bundle)).outcome, Answer)


async def test_overload_is_refused_with_a_hint_and_the_rest_served(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow, queue_limit=2) as worker:
        warm = slow.entered
        slow.gate.clear()
        asked = [asyncio.create_task(ask(edge, bundle, "e.r.0"))]
        await until(lambda: slow.entered == warm + 1)
        asked += [asyncio.create_task(ask(edge, bundle, f"e.r.{i}")) for i in (1, 2)]
        await until(lambda: worker.status().queue_depth == 2)
        full = refused(await ask(edge, bundle, "e.r.3"))
        assert full.code is NackCode.OVERLOADED and full.retry_after_us > 0
        double = refused(await ask(edge, bundle, "e.r.1"))
        assert double.code is NackCode.BAD_REQUEST and "in work already" in double.detail
        slow.gate.set()
        replies = await asyncio.gather(*asked)
        assert all(isinstance(r.outcome, Answer) for r in replies)
        assert replies[1].times.queue_us > 0


async def test_a_request_that_expires_in_the_queue_is_told_so(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow, heartbeat_s=0.02) as worker:
        warm = slow.entered
        slow.gate.clear()
        first = asyncio.create_task(ask(edge, bundle, "e.r.0"))
        await until(lambda: slow.entered == warm + 1)
        reply = await ask(edge, bundle, "e.r.1", budget_us=300_000)
        assert refused(reply).code is NackCode.EXPIRED
        assert reply.times.queue_us > 200_000
        assert not first.done()  # told while the other still ran
        slow.gate.set()
        assert isinstance((await first).outcome, Answer)
        assert worker.status().nacked == {"expired": 1}


async def test_cancellation_of_waiting_and_of_running_requests(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow) as worker:
        warm = slow.entered
        slow.gate.clear()
        running = asyncio.create_task(ask(edge, bundle, "e.r.0"))
        await until(lambda: slow.entered == warm + 1)
        waiting = asyncio.create_task(ask(edge, bundle, "e.r.1"))
        await until(lambda: worker.status().queue_depth == 1)
        for frame in ("e.r.1", "e.r.0", "e.r.unknown"):
            await edge.publish(subjects.cancel("default"), Cancel(frame).encode())
        await edge.publish(subjects.cancel("default"), b"\xff")
        assert refused(await waiting).code is NackCode.CANCELLED
        await until(lambda: worker._running["e.r.0"].abandoned)
        slow.gate.set()
        assert refused(await running).code is NackCode.CANCELLED
        assert slow.entered == warm + 1  # the waiting one was never begun
        assert isinstance((await ask(edge, bundle, "e.r.2")).outcome, Answer)


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


async def test_draining_finishes_what_was_taken_and_refuses_the_rest(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow) as worker:
        warm = slow.entered
        slow.gate.clear()
        asked = [asyncio.create_task(ask(edge, bundle, f"e.r.{i}")) for i in range(3)]
        await until(lambda: slow.entered == warm + 1 and worker.status().queue_depth == 2)
        draining = asyncio.create_task(worker.drain(10))
        await until(lambda: worker.draining)
        assert worker.readiness() == (False, "draining")
        with contextlib.suppress(NoResponders):  # it may have left the group already
            assert refused(await ask(edge, bundle, "e.r.late")).code is NackCode.DRAINING
        slow.gate.set()
        assert all(isinstance(r.outcome, Answer) for r in await asyncio.gather(*asked))
        await draining
        with pytest.raises(NoResponders):
            await ask(edge, bundle, "e.r.after")


async def test_a_drain_that_takes_too_long_refuses_what_waits(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow) as worker:
        warm = slow.entered
        slow.gate.clear()
        running = asyncio.create_task(ask(edge, bundle, "e.r.0"))
        await until(lambda: slow.entered == warm + 1)
        waiting = asyncio.create_task(ask(edge, bundle, "e.r.1"))
        await until(lambda: worker.status().queue_depth == 1)
        draining = asyncio.create_task(worker.drain(0.05))
        assert refused(await waiting).code is NackCode.DRAINING
        slow.gate.set()
        assert isinstance((await running).outcome, Answer)
        await draining


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


async def test_many_edges_at_once_are_all_answered(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted
) -> None:
    """Under a flood every request gets an answer or a refusal: none is lost, none waits for its timeout."""
    payload = payload_for(bundle, "")
    async with worker_on(broker, hosted, slots=2) as worker:
        replies = await asyncio.gather(
            *(ask(edge, bundle, f"e.r.{i}", payload=payload, budget_us=20_000 + 500 * i) for i in range(300))
        )
        assert [r.frame_id for r in replies] == [f"e.r.{i}" for i in range(300)]
        answered = sum(isinstance(r.outcome, Answer) for r in replies)
        codes = {r.outcome.code for r in replies if isinstance(r.outcome, Nack)}
        assert answered > 0 and codes <= {NackCode.OVERLOADED, NackCode.EXPIRED}
        status = worker.status()
        assert status.served == answered and sum(status.nacked.values()) == 300 - answered
        assert worker._queue.idle


@pytest.mark.parametrize(("threads", "shared"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 2)), (8, (2, 4)), (9, (3, 3))])
def test_threads_are_a_budget(threads: int, shared: tuple[int, int]) -> None:
    assert share_threads(threads) == shared
    assert shared[0] * shared[1] <= threads


@asynccontextmanager
async def process(
    broker_url: str, bundle: Bundle, folder: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, object]]]:
    ready, log = folder / "ready.json", (folder / "worker.log").open("wb")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "splitmesh.cli.main", "cloud", "--config", os.devnull, "--nats-url", broker_url),
        *("--plan", str(bundle.folder), "--name", "w-p", "--web-port", "0", "--ready-json", str(ready)),
        *("--providers", "cpu", "--span-log", str(folder / "spans")),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=log,
    )
    log.close()
    try:
        await until(lambda: ready.exists() or child.returncode is not None, 60)
        assert ready.exists(), (folder / "worker.log").read_text()
        yield child, json.loads(ready.read_text())
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def test_the_process_serves_reports_and_drains_on_sigterm(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, tmp_path: Path
) -> None:
    async with process(broker.url, bundle, tmp_path) as (child, ready):
        assert ready["ready"] is True and ready["pid"] == child.pid
        assert isinstance((await ask(edge, bundle)).outcome, Answer)
        reader, writer = await asyncio.open_connection("127.0.0.1", ready["web_port"])
        writer.write(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        await writer.wait_closed()
        status = json.loads(body)
        assert status["served"] == 1 and status["ready"] is True and status["models"] == [MODEL]
        asked = [asyncio.create_task(ask(edge, bundle, f"e.r.{i}")) for i in range(20)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        child.send_signal(signal.SIGTERM)
        replies = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(r, InferReply) for r in replies), replies  # none was left without a word
        async with asyncio.timeout(15):
            assert await child.wait() == 0
        with pytest.raises(NoResponders):
            await ask(edge, bundle, "e.r.after")
    assert frame_spans(read_spans(tmp_path / "spans"), "e.r.1")


async def test_sigterm_while_there_is_no_broker_ends_the_process(bundle: Bundle, tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "splitmesh.cli.main", "cloud", "--config", os.devnull, "--web-port", "off"),
        *("--nats-url", "nats://127.0.0.1:1", "--plan", str(bundle.folder), "--providers", "cpu"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stderr is not None
    async with asyncio.timeout(60):
        while b"Connect call failed" not in await child.stderr.readline():
            pass
        child.send_signal(signal.SIGTERM)
        await child.communicate()
    assert child.returncode == 0


async def test_a_killed_worker_leaves_no_queue_member(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    async with process(broker.url, bundle, tmp_path) as (child, _):
        child.send_signal(signal.SIGKILL)
        await child.wait()
        async with worker_on(broker, hosted):
            for i in range(10):
                assert isinstance((await ask(edge, bundle, f"e.r.{i}")).outcome, Answer)
