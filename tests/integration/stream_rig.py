"""What tests of streams share: a tiny model with a calibration table, and an edge in this process on a real broker.

Everything is what runs in production but the camera: frames are pushed in one by one. Between the edge and its bus
sits a tap that keeps every request, and can lose some.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from splitmesh.bus.base import Bus, Message, MessageSink, Subscription
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer
from splitmesh.codec.compact.fit import fit_table
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.registry import CODECS
from splitmesh.codec.temporal.decoder import TemporalDecoder
from splitmesh.codec.temporal.fit import fit_temporal_model
from splitmesh.edge.device import Device
from splitmesh.edge.device_work import DeviceWork
from splitmesh.edge.frame import OpenFrame
from splitmesh.edge.observer import Observer
from splitmesh.edge.offers import Offers
from splitmesh.edge.offload import Offloader
from splitmesh.edge.parts import Parts
from splitmesh.edge.pipeline import Pipeline
from splitmesh.edge.results import ResultLog
from splitmesh.edge.settlement import Settlement
from splitmesh.edge.streams import EdgeStream
from splitmesh.errors import RequestTimeout
from splitmesh.frames.answer import Answer
from splitmesh.frames.normalize import Normalizer
from splitmesh.frames.record import FrameRecord
from splitmesh.inference.session import open_session
from splitmesh.media.captured import Captured
from splitmesh.media.prepare import Preparer
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.decision import Decision, Forecast
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World
from splitmesh.telemetry.metrics import Metrics
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire.requests import InferRequest, StreamRequest, decode_request

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from plan_graphs import moving_squares

PICTURES = moving_squares(40)


def features(bundle: Bundle, cut: str) -> dict[str, np.ndarray]:
    """The cut's tensors of every picture, name → (N, …) float32."""
    head = open_session(bundle.head_path(cut), providers=("cpu",))
    normalize = Normalizer.from_manifest(bundle.manifest).normalize
    frames = [head.run({bundle.manifest.input: normalize(picture)}) for picture in PICTURES]
    return {name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]}


def with_table(bundle: Bundle, cut: str) -> Bundle:
    """The same plan as it is with footage: with a table for `cut`, fitted to the pictures here."""
    fitted = fit_table(features(bundle, cut))
    temporal = fit_temporal_model(fitted, [features(bundle, cut)])
    planned = dataclasses.replace(bundle)
    planned._tables[cut] = dataclasses.replace(fitted, temporal_model=temporal)
    return planned


def point(bundle: Bundle, cut: str, codec: str, level: int) -> OperatingPoint:
    """Of a codec at a cut ("": pictures); sizes are rough, which no test here depends on."""
    place = Place.SPLIT if cut else Place.FRAME
    return OperatingPoint(
        f"{place.value}/{codec}-{level}", place, 0.95, cut, codec, level,
        edge_ms=1.0, payload_bytes=200.0, cloud_ms=1.0, resume_ms=1.0,
        key_bytes=800.0 if CODECS[codec].stateful else 0.0,
    )  # fmt: skip


@dataclasses.dataclass
class Sent:
    """One request as it left the edge."""

    subject: str
    request: InferRequest | StreamRequest
    lost: bool


class Tap:
    """A bus that keeps what is asked through it, and loses the requests that `lose` says."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.sent: list[Sent] = []
        self.tables: list[str] = []
        self.lose: Callable[[int], bool] = lambda number: False

    @property
    def connected(self) -> bool:
        return self._bus.connected

    @property
    def pending_bytes(self) -> int:
        return self._bus.pending_bytes

    @property
    def max_payload_bytes(self) -> int:
        return self._bus.max_payload_bytes

    async def publish(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        await self._bus.publish(subject, payload, headers=headers, reply=reply)

    async def request(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float
    ) -> Message:
        if subject.endswith(".table"):
            self.tables.append(subject)
            return await self._bus.request(subject, payload, headers=headers, timeout_s=timeout_s)
        assert not headers
        request = decode_request(payload, {})
        if isinstance(request, InferRequest) and request.probe:
            return await self._bus.request(subject, payload, timeout_s=timeout_s)
        lost = self.lose(len(self.sent))
        self.sent.append(Sent(subject, request, lost))
        if lost:
            await asyncio.sleep(0.2)  # shorter than the edge's own patience, to spare the test's
            raise RequestTimeout("this request was lost on purpose")
        return await self._bus.request(subject, payload, timeout_s=timeout_s)

    async def echo(self, *, timeout_s: float) -> None:
        await self._bus.echo(timeout_s=timeout_s)

    async def subscribe(self, subject: str, sink: MessageSink, *, queue: str = "") -> Subscription:
        return await self._bus.subscribe(subject, sink, queue=queue)

    async def drain(self) -> None:
        await self._bus.drain()


class Edge:
    """Everything of an edge behind the policy."""

    def __init__(self, bundle: Bundle, chosen: OperatingPoint, bus: Bus, folder: Path) -> None:
        self.bundle, self.point = bundle, chosen
        points = [OperatingPoint("track", Place.TRACK, 1.0), OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=2.0)]
        self.world = World([*points, chosen], track_kappa=0.1)
        self.tap = Tap(bus)
        self.device = Device()
        self.parts = Parts(bundle, threads=1, points=[*points, chosen], providers=("cpu",))
        work = DeviceWork(self.device, self.parts, self.world)
        self.offloader = Offloader(self.world, bundle, edge="e", tenant="default")
        self.offers = Offers(self.offloader, self.world, bundle)
        self.results = ResultLog(folder / "results.jsonl")
        metrics = Metrics(CollectorRegistry()).edge
        self.settlement = Settlement(run_ns=time.monotonic_ns(), metrics=metrics, results=self.results)
        observer = Observer(self.world, kind=bundle.manifest.postprocess.kind)
        self.pipeline = Pipeline(
            world=self.world, device=work, offers=self.offers, observer=observer, settlement=self.settlement
        )
        self.tracing = Tracing("edge", instance="e", sample_ratio=1.0)
        self.preparer = Preparer.from_manifest(bundle.manifest)
        self._seq = 0

    @property
    def stream(self) -> EdgeStream:
        (only,) = self.offers.streams._streams.values()
        return only

    def frame(self, budget_ms: float = 2000.0, *, level: int | None = None) -> OpenFrame:
        """The next picture, decided."""
        now_ns = time.monotonic_ns()
        self._seq += 1
        picture = PICTURES[self._seq % len(PICTURES)]
        height, width = picture.shape[:2]
        captured = Captured(self._seq, self._seq, self._seq * 10**8, now_ns, None, False, False, width, height)
        self.settlement.capture(captured)
        chosen = self.point if level is None else dataclasses.replace(self.point, level=level)
        return OpenFrame(
            frame_id=f"e.run.{self._seq}",
            captured=captured,
            prepared=self.preparer.prepare(picture),
            decision=Decision(Forecast(chosen, 30.0, 0.9, 0.8), "test"),
            decided_ns=now_ns,
            deadline_ns=now_ns + int(budget_ms * 1e6),
            trace=self.tracing.start_frame(f"e.run.{self._seq}", now_ns),
            motion=0.0,
            link={},
        )

    async def run(self, count: int, *, level: int | None = None) -> list[FrameRecord]:
        """`count` frames, one after the other; their records."""
        before = len(self.records())
        for _ in range(count):
            await asyncio.wait_for(self.pipeline.run(self.frame(level=level)), 15)
        return self.records()[before:]

    def records(self) -> list[FrameRecord]:
        return [FrameRecord.from_json_line(line) for line in self.results.path.read_text().splitlines()]

    def stream_requests(self) -> list[Sent]:
        return [sent for sent in self.tap.sent if sent.request.stream]

    async def close(self) -> None:
        await self.offloader.drain(1.0)
        await self.tap.drain()
        await asyncio.to_thread(self.device.close)
        self.offers.close()
        self.results.close()
        self.tracing.close()


@asynccontextmanager
async def edge_on(
    broker: EmbeddedServer, bundle: Bundle, chosen: OperatingPoint, folder: Path
) -> AsyncIterator[Edge]:
    """At the end: every captured frame has one record."""
    edge = Edge(bundle, chosen, await connect_nats(broker.url, name="edge", give_up_s=10), folder)
    try:
        await edge.offloader.attach(edge.tap)
        yield edge
    finally:
        await edge.close()
    assert edge.settlement.ledger.conserved, edge.settlement.ledger
    assert len(edge.records()) == edge.settlement.ledger.captured


class Truth:
    """Decodes every temporal payload as the worker should have, and runs the tail on it."""

    def __init__(self, bundle: Bundle, cut: str) -> None:
        table = bundle.table(cut)
        assert isinstance(table, CompactTable)
        self._decoder = TemporalDecoder(table, kept=64)
        self._tail = open_session(bundle.tail_path(cut), threads=1, providers=("cpu",))
        self._postprocess = bundle.postprocess()

    def answer(self, payload: bytes) -> Answer:
        return self._postprocess(self._tail.run(self._decoder.decode(payload)))


def same_answer(record: FrameRecord, truth: Answer) -> bool:
    """To the last bit of what a record keeps."""
    return np.array_equal(record.answer.classes, truth.classes) and np.allclose(
        record.answer.scores, truth.scores, rtol=0, atol=1e-5
    )
