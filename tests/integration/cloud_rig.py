"""What tests of the worker share: a tiny model's plan, a real broker, workers on it, requests to them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from splitmesh.bus.base import Bus
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.cloud.service import Worker, WorkerOptions
from splitmesh.codec.features import encode_features
from splitmesh.codec.picture import encode_picture
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import PlanRequest
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.footage import Footage
from splitmesh.telemetry.metrics import Metrics
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire import subjects
from splitmesh.wire.messages import InferReply, Nack
from splitmesh.wire.requests import InferRequest

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
    return make_plan(PlanRequest(model, classifier_manifest()), Footage(), folder / "tiny.plan", lambda *_: None)


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
    broker: EmbeddedServer, *hosted: Hosted, span_log: Path | None = None, user: str = "", **options: object
) -> AsyncIterator[Worker]:
    """user: "name:password" at the broker, if it asks for one."""
    url = broker.url.replace("//", f"//{user}@") if user else broker.url
    bus = await connect_nats(url, name="worker", give_up_s=10)
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
        "budget_us": budget_us,
        "traceparent": TRACE,
        **changes,
    }
    message = await bus.request(
        subject or subjects.infer("default", MODEL, cut), InferRequest(**fields).encode(), timeout_s=20
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

    def execute(self, cut, decode, abandoned=lambda: False):
        self.entered += 1
        self.gate.wait(20)
        return super().execute(cut, decode, abandoned)
