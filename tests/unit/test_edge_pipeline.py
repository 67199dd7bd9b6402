"""A decided frame on its way to exactly one outcome: real device thread and bus twin, scripted model and worker."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from splitmesh.bus.base import Message
from splitmesh.bus.memory import MemoryBroker
from splitmesh.edge.device import Device, DeviceJob
from splitmesh.edge.device_work import DeviceWork
from splitmesh.edge.frame import OpenFrame
from splitmesh.edge.observer import Observer
from splitmesh.edge.offers import Offers
from splitmesh.edge.offload import Offloader
from splitmesh.edge.pipeline import Pipeline
from splitmesh.edge.results import ResultLog
from splitmesh.edge.service import EdgeService
from splitmesh.edge.settlement import Settlement
from splitmesh.errors import InferenceError
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import PlanRequest
from splitmesh.media.captured import Captured
from splitmesh.media.prepare import Preparer
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.footage import Footage
from splitmesh.policy.decision import Decision, Forecast
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World
from splitmesh.telemetry.metrics import Metrics
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire import subjects
from splitmesh.wire.messages import Cancel, InferReply, Nack, NackCode
from splitmesh.wire.requests import InferRequest

sys.path.append(str(Path(__file__).parent))
from plan_graphs import SIZE, classifier_manifest, residual_classifier, save

MODEL, CUT, BUDGET_MS = "tiny-classifier", "c1", 150.0
POINTS = {
    place: OperatingPoint(name, place, 0.9, cut, codec, level, edge_ms=edge_ms, resume_ms=resume_ms)
    for place, name, cut, codec, level, edge_ms, resume_ms in (
        (Place.TRACK, "track", "", "", 0, 0.0, 0.0),
        (Place.LOCAL, "local", "", "", 0, 20.0, 0.0),
        (Place.SPLIT, f"split/{CUT}/u8lz4-8", CUT, "u8lz4", 8, 10.0, 20.0),
        (Place.FRAME, "frame/jpeg-85", "", "jpeg", 85, 0.0, 0.0),
    )
}


def answer(kind: int) -> Answer:
    """One box whose class tells who gave it."""
    return Answer(np.float32([[0.1, 0.1, 0.5, 0.5]]), np.float32([0.9]), np.uint16([kind]))


OF_LOCAL, OF_TAIL, OF_WORKER, OLD = 1, 2, 3, 4


class ScriptedParts:
    """The model's parts: each run waits for its gate, then fails if told to."""

    def __init__(self) -> None:
        self.gates = {name: threading.Event() for name in ("full", "head", "tail")}
        self.entered = {name: threading.Event() for name in self.gates}
        self.failures: dict[str, Exception] = {}
        self.cancelled: list[str] = []
        self.variants: list[str] = []
        for gate in self.gates.values():
            gate.set()

    def full(self, job: DeviceJob[Any], variant: str, tensor: object) -> Answer:
        self.variants.append(variant)
        return self._run("full", job, answer(OF_LOCAL))

    def head(self, job: DeviceJob[Any], cut: str, variant: str, tensor: object) -> dict[str, np.ndarray]:
        self.variants.append(variant)
        return self._run("head", job, {"features": np.ones((1, 4, 6, 6), np.float32)})

    def tail(self, job: DeviceJob[Any], cut: str, tensors: object) -> Answer:
        return self._run("tail", job, answer(OF_TAIL))

    def _run(self, name: str, job: DeviceJob[Any], value: Any) -> Any:
        self.entered[name].set()
        while not self.gates[name].wait(0.005):
            if job.cancelled.is_set():
                self.cancelled.append(name)
                break
        if name in self.failures:
            raise self.failures[name]
        return value


class Rig:
    """Everything behind the policy on one event loop. `ask` puts a frame into it."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self.world = World(list(POINTS.values()), track_kappa=0.1)
        self.parts = ScriptedParts()
        self.device = Device()
        work = DeviceWork(self.device, self.parts, self.world)  # type: ignore[arg-type]
        self.offloader = Offloader(self.world, bundle, edge="e", tenant="default")
        self.offers = Offers(self.offloader, self.world, bundle)
        self.observer = Observer(self.world, kind="ssd")
        self.results = ResultLog(folder / "results.jsonl")
        self.settlement = Settlement(
            run_ns=time.monotonic_ns(),
            metrics=Metrics(CollectorRegistry()).edge,
            results=self.results,
        )
        self.pipeline = Pipeline(
            world=self.world, device=work, offers=self.offers, observer=self.observer, settlement=self.settlement
        )
        self.tracing = Tracing("edge", instance="e", sample_ratio=1.0)
        self.preparer = Preparer(SIZE, SIZE)
        self.broker = MemoryBroker()
        self.requests: asyncio.Queue[tuple[InferRequest, Message]] = asyncio.Queue()
        self.cancels: list[str] = []
        self._seq = 0

    async def start(self, *, worker: bool = True) -> None:
        self.cloud = self.broker.connect()
        await self.offloader.attach(self.broker.connect())
        if worker:
            for cut in ("", CUT):
                await self.cloud.subscribe(subjects.infer("default", MODEL, cut), self._on_request)
        await self.cloud.subscribe(subjects.cancel("default"), self._on_cancel)

    async def _on_request(self, message: Message) -> None:
        await self.requests.put((InferRequest.decode(message.payload), message))

    async def _on_cancel(self, message: Message) -> None:
        self.cancels.append(Cancel.decode(message.payload).frame_id)

    async def reply(self, outcome: Answer | Nack | None = None) -> None:
        """Answer the oldest request of a frame (probes are left alone), by default as the model would."""
        async with asyncio.timeout(5):
            request, message = await self.requests.get()
            while request.probe:
                request, message = await self.requests.get()
        made = InferReply(request.frame_id, "w-1", answer(OF_WORKER) if outcome is None else outcome)
        await self.cloud.publish(message.reply, made.encode())

    def remember(self) -> None:
        """Give the tracker something to carry on."""
        self.observer.observe(answer(OLD), 0, 0.0)

    def frame(self, place: Place, budget_ms: float = BUDGET_MS, point: OperatingPoint | None = None) -> OpenFrame:
        now_ns = time.monotonic_ns()
        self._seq += 1
        picture = np.full((SIZE, SIZE, 3), 90, np.uint8)
        captured = Captured(self._seq, self._seq, self._seq * 10**8, now_ns, None, False, False, SIZE, SIZE)
        self.settlement.capture(captured)
        frame_id = f"e.run.{self._seq}"
        return OpenFrame(
            frame_id=frame_id,
            captured=captured,
            prepared=self.preparer.prepare(picture),
            decision=Decision(Forecast(point or POINTS[place], 30.0, 0.9, 0.8), "test"),
            decided_ns=now_ns,
            deadline_ns=now_ns + int(budget_ms * 1e6),
            trace=self.tracing.start_frame(frame_id, now_ns),
            motion=0.0,
            link={},
        )

    def run(self, frame: OpenFrame) -> asyncio.Task[None]:
        return asyncio.create_task(self.pipeline.run(frame))

    async def ask(self, place: Place, budget_ms: float = BUDGET_MS) -> FrameRecord:
        await asyncio.wait_for(self.run(self.frame(place, budget_ms)), 10)
        return self.records()[-1]

    def records(self) -> list[FrameRecord]:
        return [FrameRecord.from_json_line(line) for line in self.results.path.read_text().splitlines()]

    def awaits(self, record: FrameRecord) -> bool:
        """Whether the frame's own request is still under way; a probe may be."""
        return f"offer-{record.frame_id}" in {task.get_name() for task in self.offloader._open}

    async def close(self) -> None:
        for gate in self.parts.gates.values():
            gate.set()
        await self.offloader.drain(0.0)
        await self.cloud.drain()
        if self.offloader._bus is not None:
            await self.offloader._bus.drain()
        await asyncio.to_thread(self.device.close)
        self.offers.close()
        self.results.close()
        self.tracing.close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("plan")
    model = save(residual_classifier(), folder / "model.onnx")
    return make_plan(PlanRequest(model, classifier_manifest()), Footage(), folder / "tiny.plan", lambda *_: None)


@pytest.fixture
async def rig(tmp_path: Path, bundle: Bundle) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, bundle)
    await made.start()
    yield made
    await made.close()
    assert made.settlement.ledger.conserved, made.settlement.ledger
    assert len(made.records()) == made.settlement.ledger.captured


@pytest.fixture
async def lonely(tmp_path: Path, bundle: Bundle) -> AsyncIterator[Rig]:
    """Connected to a broker on which no worker listens."""
    made = Rig(tmp_path, bundle)
    await made.start(worker=False)
    yield made
    await made.close()
    assert made.settlement.ledger.conserved


def gave(record: FrameRecord) -> int:
    return int(record.answer.classes[0]) if len(record.answer) else 0


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@pytest.mark.parametrize(("place", "outcome"), [(Place.LOCAL, Outcome.LOCAL), (Place.SPLIT, Outcome.SPLIT)])
async def test_a_variant_runs_its_own_files_and_is_timed_by_its_own_profile(
    rig: Rig, place: Place, outcome: Outcome
) -> None:
    quick = dataclasses.replace(POINTS[place], name="variant", variant="int8", edge_ms=POINTS[place].edge_ms / 100)
    taught: list[float] = []
    rig.world.on_device = lambda busy_ms, profiled_ms, _now_ns: taught.append(profiled_ms)  # type: ignore[method-assign]
    task = rig.run(rig.frame(place, point=quick))
    if place is Place.SPLIT:
        await rig.reply()
    await asyncio.wait_for(task, 10)
    assert rig.records()[-1].outcome is outcome
    assert rig.parts.variants == ["int8"]
    assert taught[0] == quick.edge_ms


@pytest.mark.parametrize(
    ("place", "variant", "answered", "carried"),
    [
        (Place.LOCAL, "small", "", 0.7),
        (Place.SPLIT, "", "reply", 0.7),
        (Place.SPLIT, "", "refusal", 1.0),
        (Place.SPLIT, "int8", "refusal", 0.7),
        (Place.FRAME, "", "reply", 0.7),
        (Place.FRAME, "", "refusal", 1.0),
    ],
)
async def test_the_tracker_is_told_how_good_the_answer_is(
    rig: Rig, place: Place, variant: str, answered: str, carried: float
) -> None:
    point = dataclasses.replace(POINTS[place], name="poor", variant=variant, fidelity=0.7)
    task = rig.run(rig.frame(place, point=point))
    if answered:
        await rig.reply(None if answered == "reply" else Nack(NackCode.OVERLOADED, "busy"))
    await asyncio.wait_for(task, 10)
    assert rig.records()[-1].outcome.answered
    assert rig.observer.carried == carried


# -- who answers -----------------------------------------------------------------------------------------------------


async def test_track_and_local(rig: Rig) -> None:
    assert (await rig.ask(Place.TRACK)).outcome is Outcome.EXPIRED  # nothing was ever seen
    local = await rig.ask(Place.LOCAL)
    assert (local.outcome, gave(local), local.deadline_hit) == (Outcome.LOCAL, OF_LOCAL, True)
    tracked = await rig.ask(Place.TRACK)
    assert (tracked.outcome, gave(tracked)) == (Outcome.TRACKED, OF_LOCAL)


@pytest.mark.parametrize(("place", "outcome"), [(Place.SPLIT, Outcome.SPLIT), (Place.FRAME, Outcome.FRAME)])
async def test_a_reply_in_time_is_the_answer(rig: Rig, place: Place, outcome: Outcome) -> None:
    asked = asyncio.create_task(rig.ask(place))
    await rig.reply()
    record = await asked
    assert (record.outcome, gave(record), record.worker) == (outcome, OF_WORKER, "w-1")
    assert record.uplink_bytes > 0 and rig.cancels == []


async def test_silence_resumes_in_time_and_cancels_what_nobody_needs(rig: Rig) -> None:
    record = await rig.ask(Place.SPLIT)
    assert (record.outcome, gave(record), record.deadline_hit) == (Outcome.RESUMED, OF_TAIL, True)
    await until(lambda: rig.cancels == [record.frame_id])
    await rig.reply()  # too late: it changes nothing
    await until(lambda: not rig.awaits(record))
    assert len(rig.records()) == 1


async def test_a_reply_that_overtakes_the_resume_wins_and_stops_it(rig: Rig) -> None:
    rig.parts.gates["tail"].clear()
    rig.remember()
    asked = asyncio.create_task(rig.ask(Place.SPLIT, budget_ms=1500))
    await asyncio.to_thread(rig.parts.entered["tail"].wait, 5)
    await rig.reply()
    record = await asked
    assert (record.outcome, gave(record)) == (Outcome.SPLIT, OF_WORKER)
    await until(lambda: rig.parts.cancelled == ["tail"])
    assert rig.cancels == []


@pytest.mark.parametrize("code", list(NackCode))
async def test_a_refusal_resumes_at_once(rig: Rig, code: NackCode) -> None:
    asked = asyncio.create_task(rig.ask(Place.SPLIT, budget_ms=3000))
    began = time.monotonic()
    await rig.reply(Nack(code, "no"))
    record = await asked
    assert time.monotonic() - began < 2  # the timer would have fired much later
    assert (record.outcome, gave(record)) == (Outcome.RESUMED, OF_TAIL)
    assert f"refused ({code.label}): no" in record.note and rig.cancels == []


async def test_without_a_worker_or_a_broker_the_edge_resumes_at_once(lonely: Rig) -> None:
    began = time.monotonic()
    nobody = await lonely.ask(Place.SPLIT, budget_ms=3000)
    lonely.broker.stop()
    gone = await lonely.ask(Place.SPLIT, budget_ms=3000)
    assert time.monotonic() - began < 2
    assert [r.outcome for r in (nobody, gone)] == [Outcome.RESUMED] * 2
    assert "no connection to the broker" in gone.note
    lonely.broker.start()


async def test_a_broker_that_dies_while_a_reply_is_awaited_counts_as_a_refusal(rig: Rig) -> None:
    asked = asyncio.create_task(rig.ask(Place.SPLIT, budget_ms=3000))
    began = time.monotonic()
    await rig.requests.get()
    rig.broker.stop()
    record = await asked
    assert record.outcome is Outcome.RESUMED and time.monotonic() - began < 2
    rig.broker.start()


async def test_a_refused_picture_is_answered_here_if_it_fits(rig: Rig) -> None:
    asked = asyncio.create_task(rig.ask(Place.FRAME))
    await rig.reply(Nack(NackCode.OVERLOADED, "later"))
    record = await asked
    assert (record.outcome, gave(record)) == (Outcome.LOCAL, OF_LOCAL)


async def test_a_refused_picture_is_tracked_if_a_run_here_would_be_late(rig: Rig) -> None:
    rig.remember()
    asked = asyncio.create_task(rig.ask(Place.FRAME, budget_ms=18))  # a local run takes 20 ms
    await rig.reply(Nack(NackCode.OVERLOADED, "later"))
    record = await asked
    assert (record.outcome, gave(record)) == (Outcome.TRACKED, OLD)
    assert not rig.parts.entered["full"].is_set()


async def test_a_late_reply_refreshes_the_tracker_but_not_its_frame(rig: Rig) -> None:
    rig.remember()
    record = await rig.ask(Place.FRAME)
    assert (record.outcome, gave(record), record.deadline_hit) == (Outcome.TRACKED, OLD, True)
    assert record.note == "no reply by the deadline"
    await rig.reply()
    await until(lambda: rig.observer.age_ms(record.pts_ns) == 0)
    assert len(rig.records()) == 1 and gave(rig.records()[0]) == OLD
    assert int(rig.observer.predict(record.pts_ns).classes[0]) == OF_WORKER


async def test_with_nothing_to_track_a_late_answer_beats_none(rig: Rig) -> None:
    asked = asyncio.create_task(rig.ask(Place.FRAME, budget_ms=40))
    await asyncio.sleep(BUDGET_MS / 1e3)
    await rig.reply()
    record = await asked
    assert (record.outcome, record.deadline_hit) == (Outcome.FRAME, False)


# -- what fails ------------------------------------------------------------------------------------------------------


async def test_a_head_that_is_late_is_tracked_and_its_job_dropped(rig: Rig) -> None:
    rig.remember()
    rig.parts.gates["head"].clear()
    record = await rig.ask(Place.SPLIT)
    assert (record.outcome, record.note) == (Outcome.TRACKED, "the head was late")
    await until(lambda: rig.parts.cancelled == ["head"])


async def test_a_local_run_that_is_late_still_refreshes_the_tracker(rig: Rig) -> None:
    rig.remember()
    rig.parts.gates["full"].clear()
    record = await rig.ask(Place.LOCAL)
    assert (record.outcome, record.deadline_hit) == (Outcome.TRACKED, True)
    rig.parts.gates["full"].set()
    await until(lambda: rig.observer.age_ms(record.pts_ns) == 0)


async def test_buffers_go_round_but_never_while_the_device_reads_them(rig: Rig) -> None:
    first, second = rig.frame(Place.LOCAL), rig.frame(Place.LOCAL, budget_ms=5_000)
    await rig.run(first)
    assert first.prepared._buffers is None, "a settled frame's buffers are back in the pool"
    rig.parts.gates["full"].clear()
    second.deadline_ns = time.monotonic_ns() + 60_000_000
    await rig.run(second)
    assert second.prepared._buffers is not None, "the device has not left them yet"
    rig.parts.gates["full"].set()
    await until(lambda: second.prepared._buffers is None)


async def test_a_late_resume_and_a_late_reply_settle_nothing_twice(rig: Rig) -> None:
    rig.remember()
    rig.parts.gates["tail"].clear()
    record = await rig.ask(Place.SPLIT)
    assert (record.outcome, gave(record)) == (Outcome.TRACKED, OLD)
    await rig.reply()
    await until(lambda: rig.observer.age_ms(record.pts_ns) == 0)  # the reply was news all the same
    rig.parts.gates["tail"].set()
    await until(lambda: not rig.awaits(record))
    assert len(rig.records()) == 1


@pytest.mark.parametrize(("place", "part"), [(Place.LOCAL, "full"), (Place.SPLIT, "head")])
@pytest.mark.parametrize("remembers", [True, False])
async def test_a_part_that_fails_costs_the_answer_not_the_line(
    rig: Rig, place: Place, part: str, remembers: bool
) -> None:
    if remembers:
        rig.remember()
    rig.parts.failures[part] = InferenceError("output x of y holds NaN or Inf")
    record = await rig.ask(place)
    assert record.outcome is (Outcome.TRACKED if remembers else Outcome.EXPIRED)
    assert "holds NaN" in record.note


async def test_a_fault_of_ours_costs_the_answer_not_the_line(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.parts.failures["full"] = ZeroDivisionError("a bug")
    record = await rig.ask(Place.LOCAL)
    assert (record.outcome, record.note) == (Outcome.EXPIRED, "unforeseen ZeroDivisionError")
    assert "a bug" in caplog.text


async def test_a_tail_that_fails_here_leaves_the_frame_to_the_worker(rig: Rig) -> None:
    rig.remember()
    rig.parts.gates["tail"].clear()
    rig.parts.failures["tail"] = InferenceError("no")
    asked = asyncio.create_task(rig.ask(Place.SPLIT, budget_ms=600))
    await asyncio.to_thread(rig.parts.entered["tail"].wait, 5)
    rig.parts.gates["tail"].set()
    await rig.reply()
    record = await asked
    assert (record.outcome, gave(record)) == (Outcome.SPLIT, OF_WORKER)


async def test_a_lying_reply_is_noted_and_teaches_nothing(rig: Rig) -> None:
    asked = asyncio.create_task(rig.ask(Place.SPLIT, budget_ms=3000))
    request, message = await rig.requests.get()
    await rig.cloud.publish(message.reply, InferReply(f"{request.frame_id}1", "w-1", answer(OF_WORKER)).encode())
    record = await asked
    assert record.outcome is Outcome.RESUMED and "with a reply for" in record.note
    assert rig.world.last_sample_ns == 0


# -- the edge ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "gate"),
    [(Place.LOCAL, "full"), (Place.SPLIT, "head"), (Place.SPLIT, ""), (Place.SPLIT, "tail"), (Place.FRAME, "")],
)
@pytest.mark.parametrize("remembers", [True, False])
async def test_cancelling_at_any_await_settles_once(rig: Rig, place: Place, gate: str, remembers: bool) -> None:
    """ "" waits for a reply that never comes."""
    if remembers:
        rig.remember()
    if gate:
        rig.parts.gates[gate].clear()
    service = EdgeService(SimpleNamespace(pipeline=rig.pipeline, settlement=rig.settlement))  # type: ignore[arg-type]
    budget_ms = BUDGET_MS if gate == "tail" else 3000
    task = asyncio.create_task(service._settle(rig.frame(place, budget_ms)))
    if gate:
        await asyncio.to_thread(rig.parts.entered[gate].wait, 5)
    else:
        await rig.requests.get()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = rig.records()
    assert record.outcome is (Outcome.TRACKED if remembers else Outcome.EXPIRED)
    assert record.note.endswith("still under way when the edge stopped")


async def test_settling_twice_is_refused_without_a_trace(rig: Rig) -> None:
    frame = rig.frame(Place.LOCAL)
    assert rig.settlement.settle(frame, Outcome.LOCAL, answer(OF_LOCAL)) is True
    assert rig.settlement.settle(frame, Outcome.TRACKED, answer(OLD)) is False
    rig.pipeline.abandon(frame)
    assert [record.outcome for record in rig.records()] == [Outcome.LOCAL]
    assert rig.settlement.ledger.counts()["tracked"] == 0 and rig.settlement.hits == 1


# -- probes ----------------------------------------------------------------------------------------------------------


async def test_probes_ride_on_settled_frames_one_at_a_time(rig: Rig) -> None:
    assert not rig.world.breaker.closed
    first = await rig.ask(Place.LOCAL)
    request, message = await asyncio.wait_for(rig.requests.get(), 5)
    assert request.probe and request.frame_id == f"{first.frame_id}.probe"
    await rig.ask(Place.LOCAL)
    assert rig.requests.empty()  # one is under way
    await rig.cloud.publish(message.reply, InferReply(request.frame_id, "w-1", answer(OF_WORKER)).encode())
    await until(lambda: not rig.offloader._open)
    assert rig.world.last_sample_ns > 0
    assert {record.uplink_bytes for record in rig.records()} == {0}
    assert [record.outcome for record in rig.records()] == [Outcome.LOCAL] * 2
