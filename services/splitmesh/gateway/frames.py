"""Owns one frame's way through the gateway: its budget, its payload, the worker's answer, and exactly one Result.

A frame that fails does so by its Result: nothing but a cancellation gets out of here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from splitmesh.errors import FrameShapeError, MeshError, Overloaded, RequestTimeout
from splitmesh.frames.answer import Answer
from splitmesh.gateway.asking import Asker
from splitmesh.gateway.faults import fault_name, fault_of_error, fault_of_nack
from splitmesh.gateway.offered import OfferedModel
from splitmesh.gateway.pictures import Fitted, fit_encoded, fit_pixels, passed_through, raw_picture
from splitmesh.gateway.stories import Times, told_story
from splitmesh.gateway.tenant import TenantMesh
from splitmesh.telemetry.frametrace import FrameTrace
from splitmesh.telemetry.gateway import GatewayMetrics
from splitmesh.telemetry.tracing import Tracing
from splitmesh.v1 import gateway_pb2 as pb
from splitmesh.v1 import infer_pb2
from splitmesh.wire.answers import answer_to_pb
from splitmesh.wire.messages import InferReply, Nack

_log = logging.getLogger(__name__)

MAX_BUDGET_MS = 600_000.0

Find = Callable[[str], tuple[OfferedModel, Asker]]
"""The model that a name stands for, and who is asked for it. Raises UnknownName."""


@dataclass(slots=True)
class Settled:
    """What became of a frame: its result, and the answer in it as arrays."""

    result: pb.Result
    answer: Answer | None = None


@dataclass(slots=True)
class _Open:
    """A frame under way. Times are monotonic ns."""

    frame: pb.Frame
    settled: Settled
    trace: FrameTrace
    times: Times
    budget_ms: float
    deadline_ns: int = 0
    model: str = ""
    """Once it was found: what a caller writes there may be as long as a message."""


class FrameDesk:
    """All frames of one process. limit: frames under way at once; more are refused. budget_ms: of a frame that brings
    none. threads: of pictures."""

    def __init__(
        self, *, limit: int, budget_ms: float, threads: int, tracing: Tracing, metrics: GatewayMetrics
    ) -> None:
        self._limit = limit
        self._budget_ms = budget_ms
        self._tracing = tracing
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="pictures")
        self.in_flight = 0

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def analyze(
        self,
        mesh: TenantMesh,
        find: Find,
        frame: pb.Frame,
        frame_id: str,
        *,
        left_s: float | None,
        traceparent: str | None,
    ) -> Settled:
        """`left_s`: to the deadline of its call, None: it has none."""
        arrived_ns = time.monotonic_ns()
        trace = self._tracing.continue_trace(traceparent, arrived_ns, frame_id=frame_id, name="gateway")
        result = pb.Result(seq=frame.seq, frame_id=frame_id, trace_id=bytes.fromhex(trace.trace_id))
        opened = _Open(frame, Settled(result), trace, Times(arrived_ns), self._budget_ms)
        with self._under_way():
            try:
                await self._answer(opened, find, left_s)
            except MeshError as exc:
                result.error.CopyFrom(fault_of_error(exc))
            except asyncio.CancelledError:
                trace.finish(time.monotonic_ns(), error="cancelled")
                self._metrics.frame(tenant=mesh.tenant, outcome="cancelled", seconds=0.0)
                raise
            except Exception:  # noqa: BLE001 - logged, and said in the result; the frame must have one
                _log.exception("frame %s failed", frame_id)
                result.error.CopyFrom(pb.FrameError(code=pb.FRAME_ERROR_CODE_INTERNAL, detail="see the log there"))
        self._settle(mesh, opened)
        return opened.settled

    # -- within ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        self.in_flight += 1
        self._metrics.in_flight_frames.set(self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1
            self._metrics.in_flight_frames.set(self.in_flight)

    async def _answer(self, opened: _Open, find: Find, left_s: float | None) -> None:
        if self.in_flight > self._limit:
            raise Overloaded(f"{self._limit} frames are under way at this gateway")
        opened.budget_ms = self._budget(opened.frame, left_s)
        opened.deadline_ns = opened.times.arrived_ns + round(opened.budget_ms * 1e6)
        model, asker = find(opened.frame.model)
        opened.model = model.name
        fitted = await self._fitted(opened, model)
        opened.times.prepared_ns = time.monotonic_ns()
        reply = await self._reply(opened, asker, fitted.payload)
        opened.times.replied_ns = time.monotonic_ns()
        opened.times.worker = reply.times
        _fill(opened.settled, reply, fitted)

    def _budget(self, frame: pb.Frame, left_s: float | None) -> float:
        """Raises FrameShapeError for one that is none, RequestTimeout where none is left."""
        budget_ms = frame.budget_ms or self._budget_ms
        if not (math.isfinite(budget_ms) and 0 < budget_ms <= MAX_BUDGET_MS):
            raise FrameShapeError(f"budget_ms {budget_ms} is not in (0, {MAX_BUDGET_MS:.0f}]")
        if left_s is not None:
            budget_ms = min(budget_ms, left_s * 1e3)
        if budget_ms <= 0:
            raise RequestTimeout("the call's deadline has passed")
        return budget_ms

    async def _fitted(self, opened: _Open, model: OfferedModel) -> Fitted:
        """Raises DecodeError, FrameShapeError, RequestTimeout."""
        frame, wanted, start_ns = opened.frame, model.input_picture, time.monotonic_ns()
        match frame.WhichOneof("picture"):
            case "encoded":
                fitted = passed_through(frame.encoded, wanted)
                if fitted is None:
                    fitted = await self._on_thread(lambda: fit_encoded(frame.encoded, wanted), opened)
            case "rgb":
                picture = raw_picture(frame.rgb.pixels, frame.rgb.width, frame.rgb.height)
                fitted = await self._on_thread(lambda: fit_pixels(picture, wanted), opened)
            case _:
                raise FrameShapeError("the frame brings no picture", advice="set encoded or rgb")
        opened.trace.span("prepare", start_ns, time.monotonic_ns())
        return fitted

    async def _on_thread(self, work: Callable[[], Fitted], opened: _Open) -> Fitted:
        def in_time() -> Fitted:
            if time.monotonic_ns() >= opened.deadline_ns:
                raise RequestTimeout("the budget ran out before the picture was looked at")
            return work()

        return await asyncio.get_running_loop().run_in_executor(self._threads, in_time)

    async def _reply(self, opened: _Open, asker: Asker, payload: bytes) -> InferReply:
        start_ns, trace = time.monotonic_ns(), opened.trace
        if start_ns >= opened.deadline_ns:
            raise RequestTimeout("the budget ran out before a worker was asked")
        try:
            return await asker.ask(
                opened.settled.result.frame_id,
                payload,
                deadline_ns=opened.deadline_ns,
                traceparent=trace.traceparent("ask"),
            )
        finally:
            trace.span("ask", start_ns, time.monotonic_ns())

    def _settle(self, mesh: TenantMesh, opened: _Open) -> None:
        result, end_ns = opened.settled.result, time.monotonic_ns()
        failed = result.WhichOneof("outcome") == "error"
        outcome = fault_name(result.error) if failed else "answered"
        result.total_ms = (end_ns - opened.times.arrived_ns) / 1e6
        attributes = {"splitmesh.model": opened.model, "splitmesh.outcome": outcome}
        late = result.total_ms > opened.budget_ms
        opened.trace.finish(end_ns, keep=failed or late, attributes=attributes, error=result.error.detail)
        self._metrics.frame(tenant=mesh.tenant, outcome=outcome, seconds=result.total_ms / 1e3)
        mesh.remembered.keep(told_story(result, opened.times, end_ns, opened.budget_ms))


def _fill(settled: Settled, reply: InferReply, fitted: Fitted) -> None:
    """The worker's answer goes from its input picture to the one that was sent."""
    result, times = settled.result, reply.times
    result.worker_id = reply.worker_id
    result.times.CopyFrom(
        infer_pb2.WorkerTimes(
            queue_us=times.queue_us,
            decode_us=times.decode_us,
            service_us=times.service_us,
            postprocess_us=times.postprocess_us,
        )
    )
    if isinstance(reply.outcome, Nack):
        result.error.CopyFrom(fault_of_nack(reply.outcome))
        return
    settled.answer = fitted.placement.to_source(reply.outcome)
    result.answer.CopyFrom(answer_to_pb(settled.answer))
