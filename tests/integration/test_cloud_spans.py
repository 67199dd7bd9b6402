"""A worker tells what it did for a frame: to whose frame it was, and to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from cloud_rig import MODEL, TRACE, ask, until
from prometheus_client import CollectorRegistry

from splitmesh.bus.base import Bus, Message
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.cloud.service import Worker, WorkerOptions
from splitmesh.cloud.told import tell_spans
from splitmesh.plan.bundle.read import Bundle
from splitmesh.schedule.tenants import Tenant
from splitmesh.telemetry.metrics import Metrics
from splitmesh.telemetry.tracing import Tracing
from splitmesh.v1 import control_pb2 as pb
from splitmesh.wire import subjects
from splitmesh.wire.control import spans_from

NAME = "w-1"


@pytest.fixture
async def registry(broker: EmbeddedServer, hosted: Hosted) -> AsyncIterator[CollectorRegistry]:
    """Metrics of a worker of two tenants that remembers three frames."""
    bus = await connect_nats(broker.url, name="worker", give_up_s=10)
    tracing = Tracing("cloud", instance=NAME, sample_ratio=0.0, recent_frames=3)
    metrics = Metrics(CollectorRegistry())
    options = WorkerOptions(name=NAME, tenants=(Tenant("a"), Tenant("b")))
    worker = Worker(options, [hosted], tracing=tracing, metrics=metrics.cloud)
    await worker.warm_up()
    await worker.start(bus)
    await tell_spans(bus, NAME, ("a", "b"), tracing, metrics.cloud)
    yield metrics.registry
    await worker.drain(5)
    await bus.drain()
    await asyncio.to_thread(tracing.close)


async def work(bus: Bus, bundle: Bundle, tenant: str, frame: str) -> None:
    await ask(bus, bundle, frame, subject=subjects.infer(tenant, MODEL, ""))


async def spans(bus: Bus, tenant: str, request: bytes | str) -> list[pb.SpanReport]:
    raw = request if isinstance(request, bytes) else pb.SpansRequest(frame_id=request).SerializeToString()
    message = await bus.request(subjects.spans(tenant, NAME), raw, timeout_s=10)
    return list(spans_from(message.payload).spans)


async def told(bus: Bus, tenant: str, frame: str) -> list[pb.SpanReport]:
    """Once its trace is finished, which is a moment after the reply."""
    async with asyncio.timeout(10):
        while not (found := await spans(bus, tenant, frame)):  # noqa: ASYNC110 - it has no event for us
            await asyncio.sleep(0.1)
    return found


async def test_the_spans_of_a_frame_hang_below_those_of_who_asked(
    registry: CollectorRegistry, edge: Bus, bundle: Bundle
) -> None:
    await work(edge, bundle, "a", "cam.r.1")
    found = await told(edge, "a", "cam.r.1")
    root = next(span for span in found if span.name == "worker")
    assert {span.name for span in found} == {"worker", "queue", "decode", "tail", "postprocess"}
    assert {span.trace_id.hex() for span in found} == {TRACE.split("-")[1]}
    assert root.parent_id.hex() == TRACE.split("-")[2]
    assert {span.parent_id for span in found if span is not root} == {root.span_id}
    assert (root.service, root.instance) == ("cloud", NAME)
    assert all(root.start_unix_ns <= span.start_unix_ns <= span.end_unix_ns for span in found)


async def test_a_tenant_is_told_of_its_own_frames_alone(
    registry: CollectorRegistry, edge: Bus, bundle: Bundle
) -> None:
    await work(edge, bundle, "a", "cam.r.1")
    mine = await told(edge, "a", "cam.r.1")
    assert await spans(edge, "b", "cam.r.1") == []
    await work(edge, bundle, "b", "cam.r.1")
    theirs = await told(edge, "b", "cam.r.1")
    assert await spans(edge, "a", "cam.r.1") == mine
    assert not {span.span_id for span in mine} & {span.span_id for span in theirs}


async def test_only_the_last_frames_are_known(registry: CollectorRegistry, edge: Bus, bundle: Bundle) -> None:
    for n in range(5):
        await work(edge, bundle, "a", f"cam.r.{n}")
    await told(edge, "a", "cam.r.4")
    assert await spans(edge, "a", "cam.r.0") == []
    assert await spans(edge, "a", "cam.r.3")


@pytest.mark.parametrize("raw", [b"", b"\xff\xff", b"\n\x03a b", b"\n\x81\x01" + b"f" * 129, bytes(5000)])
async def test_what_is_no_question_has_no_spans(registry: CollectorRegistry, edge: Bus, raw: bytes) -> None:
    assert await spans(edge, "a", raw) == []
    assert registry.get_sample_value("splitmesh_span_requests_total", {"result": "refused"}) == 1


async def test_a_flood_of_questions_stays_unanswered_and_frames_do_not(
    registry: CollectorRegistry, edge: Bus, bundle: Bundle
) -> None:
    answers: list[Message] = []

    async def on_answer(message: Message) -> None:
        answers.append(message)

    def counted(result: str) -> float:
        return registry.get_sample_value("splitmesh_span_requests_total", {"result": result}) or 0.0

    await work(edge, bundle, "a", "cam.r.1")
    await told(edge, "a", "cam.r.1")
    before = counted("answered") + counted("refused")
    await edge.subscribe("test.answers", on_answer)
    request = pb.SpansRequest(frame_id="cam.r.1").SerializeToString()
    for _ in range(1000):
        await edge.publish(subjects.spans("a", NAME), request, reply="test.answers")
    await work(edge, bundle, "a", "cam.r.2")
    await until(lambda: counted("answered") + counted("ignored") + counted("refused") - before >= 1000)
    assert counted("ignored") > 500
    await until(lambda: len(answers) >= counted("answered") + counted("refused") - before)
    assert len(answers) + counted("ignored") == 1000
