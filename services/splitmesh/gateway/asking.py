"""Owns one tenant's requests for one model: which worker gets each, a second try elsewhere, and giving up.

Workers are chosen as edges choose theirs (`schedule.choice`). Lives on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

from splitmesh.bus.base import Bus
from splitmesh.errors import BusError, NoResponders, Overloaded, RequestTimeout, WireError
from splitmesh.gateway.offered import OfferedModel
from splitmesh.schedule.choice import Basis, WorkerChoice
from splitmesh.schedule.ejection import Ejection
from splitmesh.wire import subjects
from splitmesh.wire.headers import MAX_BUDGET_US
from splitmesh.wire.messages import Cancel, Heartbeat, InferReply, Nack, NackCode
from splitmesh.wire.requests import InferRequest

_WORK_MS = 10.0
"""What a request is reckoned at: nothing was profiled here, and each worker's own γ makes up for it."""
_GRACE_S = 0.05
"""Beyond the budget: a refusal that says why beats silence."""
_MOST_OF_BUDGET = 0.75
"""That an answer may be predicted to take: predictions err, and the way there and back is not in them. Where the
whole budget was allowed, three in five of the frames that an overloaded worker got came too late."""
_ELSEWHERE = frozenset({NackCode.OVERLOADED, NackCode.DRAINING})
_FAULTS = frozenset({NackCode.UNKNOWN_MODEL, NackCode.INFERENCE_FAILED})


class Asker:
    """`gateway`: this process's name on the bus. `draw`: random numbers in [0, 1)."""

    def __init__(
        self,
        bus: Bus,
        tenant: str,
        model: OfferedModel,
        *,
        gateway: str,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._bus = bus
        self._tenant = tenant
        self._model = model
        self._gateway = gateway
        self._draw = draw
        self._ours = (model.name, model.sha256)
        self._wait_ms: dict[str, float] = {}
        """Last predicted, of workers heard since others came."""
        self._choice: WorkerChoice[str] = WorkerChoice(ejection=Ejection())

    def hear(self, beat: Heartbeat, now_ns: int) -> None:
        """A worker of the tenant says how it fares."""
        if self._ours not in {(hosted.model, hosted.model_sha256) for hosted in beat.models}:
            return
        if beat.draining:
            self._goes(beat.worker_id)
            return
        self._told(beat.worker_id, beat.predicted_wait_us, now_ns)

    def workers(self, now_ns: int) -> dict[str, float]:
        """The live ones by name, each with the wait that it last predicted, milliseconds."""
        return {name: wait_ms for name, wait_ms in self._wait_ms.items() if self._choice.live(name, now_ns)}

    async def ask(self, frame_id: str, payload: bytes, *, deadline_ns: int, traceparent: str | None) -> InferReply:
        """An answer, or the refusal of the last worker that was asked.

        Cancelled, or out of time, it tells the workers that nobody waits any more. Raises NoResponders where nobody
        serves the model, Overloaded where none would answer in time, RequestTimeout at the deadline, BusError,
        WireError.
        """
        try:
            return await self._tried(frame_id, payload, deadline_ns, traceparent)
        except (asyncio.CancelledError, RequestTimeout):
            with contextlib.suppress(BusError):
                await self._bus.publish(subjects.cancel(self._tenant), Cancel(frame_id).encode())
            raise

    # -- within ---------------------------------------------------------------------------------------------------

    async def _tried(self, frame_id: str, payload: bytes, deadline_ns: int, traceparent: str | None) -> InferReply:
        tried: list[str] = []
        worker = self._first_worker(deadline_ns)
        while True:
            try:
                reply = await self._asked(worker, frame_id, payload, deadline_ns, traceparent)
            except NoResponders:
                self._goes(worker)
                if not worker:
                    raise
                worker = ""  # whoever of the group is there
                continue
            if not isinstance(reply.outcome, Nack) or reply.outcome.code not in _ELSEWHERE or tried:
                return reply
            tried.append(reply.worker_id)
            other = self._other_worker(tried, deadline_ns)
            if not other:
                return reply
            worker = other

    def _first_worker(self, deadline_ns: int) -> str:
        """None chosen: "", whoever of the group gets it. One that has nothing of ours is always tried, lest it never
        be measured. Raises Overloaded where none would make it: what can't be answered in time shall not take time
        from what can."""
        now_ns = time.monotonic_ns()
        choice = self._choice.pick(_WORK_MS, now_ns=now_ns, draw=self._draw())
        if choice is None:
            return ""
        in_time = choice.answer_ms * 1e6 <= _MOST_OF_BUDGET * (deadline_ns - now_ns)
        if not in_time and choice.basis is not Basis.TRIAL and self._choice.under_way(choice.worker):
            raise Overloaded(f"the soonest worker would answer in {choice.answer_ms:.0f} ms, beyond the budget")
        return choice.worker

    def _other_worker(self, tried: list[str], deadline_ns: int) -> str:
        """One that is expected to make it; "" if there is none."""
        now_ns = time.monotonic_ns()
        choice = self._choice.pick(_WORK_MS, now_ns=now_ns, draw=self._draw(), without=tried, trial=False)
        fits = choice is not None and now_ns + choice.answer_ms * 1e6 < deadline_ns
        return choice.worker if choice is not None and fits else ""

    async def _asked(
        self, worker: str, frame_id: str, payload: bytes, deadline_ns: int, traceparent: str | None
    ) -> InferReply:
        sent_ns = time.monotonic_ns()
        budget_us = min(MAX_BUDGET_US, max(0, (deadline_ns - sent_ns) // 1000))
        request = InferRequest(
            frame_id=frame_id,
            edge_id=self._gateway,
            model=self._model.name,
            model_sha256=self._model.sha256,
            cut="",
            payload=payload,
            budget_us=budget_us,
            traceparent=traceparent,
        )
        to_pool = subjects.infer(self._tenant, self._model.name, "")
        subject = subjects.worker(self._tenant, worker) if worker else to_pool
        self._choice.sent(worker, frame_id, _WORK_MS, sent_ns)
        try:
            message = await self._bus.request(subject, request.encode(), timeout_s=budget_us / 1e6 + _GRACE_S)
            reply = _true(InferReply.decode(message.payload), frame_id, worker)
        except RequestTimeout:
            self._choice.overdue(worker, frame_id, time.monotonic_ns())
            self._choice.ended(worker, frame_id)
            raise
        except WireError:
            self._choice.failed(worker, frame_id, time.monotonic_ns())
            raise
        except BaseException:
            self._choice.ended(worker, frame_id)
            raise
        self._learn(worker, frame_id, reply, sent_ns, budget_us / 1e3)
        return reply

    def _learn(self, worker: str, frame_id: str, reply: InferReply, sent_ns: int, budget_ms: float) -> None:
        now_ns = time.monotonic_ns()
        if reply.worker_id in self._wait_ms:
            self._told(reply.worker_id, reply.predicted_wait_us, now_ns)
        outcome, times = reply.outcome, reply.times
        if not isinstance(outcome, Nack):
            measured_ms = (times.decode_us + times.service_us + times.postprocess_us) / 1e3
            whole_ms = (now_ns - sent_ns) / 1e6
            slowness = whole_ms / max(measured_ms + times.queue_us / 1e3, _WORK_MS)
            self._choice.answered(worker, frame_id, measured_ms=measured_ms, slowness=slowness, now_ns=now_ns)
        elif outcome.code in _FAULTS:
            self._choice.failed(worker, frame_id, now_ns)
        elif outcome.code is NackCode.OVERLOADED:
            self._choice.refused(worker, frame_id, budget_ms=budget_ms, now_ns=now_ns)
        else:
            self._choice.ended(worker, frame_id)
            if outcome.code is NackCode.DRAINING:
                self._goes(reply.worker_id)

    def _told(self, worker: str, wait_us: int, now_ns: int) -> None:
        if worker not in self._wait_ms:
            self._wait_ms = self.workers(now_ns)
        self._choice.told(worker, wait_us / 1e3, now_ns)
        self._wait_ms[worker] = wait_us / 1e3

    def _goes(self, worker: str) -> None:
        self._choice.gone(worker)
        self._wait_ms.pop(worker, None)


def _true(reply: InferReply, frame_id: str, worker: str) -> InferReply:
    """`reply`, if it is to what was asked of whom it was asked. Raises WireError."""
    nameless = isinstance(reply.outcome, Nack) and not reply.frame_id
    if reply.frame_id != frame_id and not nameless:
        raise WireError(f"{reply.worker_id} answered {frame_id} with a reply for {reply.frame_id}")
    if worker and reply.worker_id != worker:
        raise WireError(f"{reply.worker_id} answered what was sent to {worker}")
    return reply
