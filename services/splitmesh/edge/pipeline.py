"""Owns a decided frame until it is settled: runs it where the policy said, and falls back in the declared order.

    TRACK  → settled at once from the tracker
    LOCAL  → device                                  → else tracked at the deadline
    SPLIT  → device (head) → codec → bus ⟶ reply     → else, at the timer or a refusal: resume from the cut
                                                     → else tracked at the deadline
    FRAME  → codec → bus ⟶ reply                     → on a refusal: locally if it still fits
                                                     → else tracked at the deadline

First result wins; the loser is cancelled by id. A frame with nothing to track from is waited for beyond its
deadline; it is late then, or expires if nothing comes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from splitmesh.edge.device import DeviceJob
from splitmesh.edge.device_work import DeviceWork
from splitmesh.edge.frame import OpenFrame
from splitmesh.edge.observer import Observer
from splitmesh.edge.offers import Offers
from splitmesh.edge.offload import Offer
from splitmesh.edge.parts import Tensors
from splitmesh.edge.settlement import Settlement
from splitmesh.errors import InferenceError, MeshError
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.policy.estimators import CENSORED
from splitmesh.policy.fallback import Fallback, FallbackChoice, choose_fallback
from splitmesh.policy.point import Place
from splitmesh.policy.world import World

_log = logging.getLogger(__name__)

_TRACK_MARGIN_NS = 6_000_000
"""On one core, nine in ten results reach the loop within 4.6 ms of a model run's end; the timer is no quicker."""
_GRACE_NS = 2_000_000_000


class Pipeline:
    """Runs on the event loop. Only `run` is called from outside."""

    def __init__(
        self, *, world: World, device: DeviceWork, offers: Offers, observer: Observer, settlement: Settlement
    ) -> None:
        self._world = world
        self._device = device
        self._offers = offers
        self._observer = observer
        self._settlement = settlement

    async def run(self, frame: OpenFrame) -> None:
        """Settle `frame`, whatever happens on the way."""
        try:
            match frame.point.place:
                case Place.TRACK:
                    self._settle_tracked(frame)
                case Place.LOCAL:
                    await self._local(frame)
                case Place.SPLIT:
                    await self._split(frame)
                case Place.FRAME:
                    await self._frame(frame)
        except MeshError as exc:
            frame.notes.append(str(exc))
            self._settle_tracked(frame)
        except Exception as exc:  # noqa: BLE001 - a fault of ours may cost this frame its answer, never its line
            _log.exception("frame %s failed", frame.frame_id)
            self._settle_tracked(frame, f"unforeseen {type(exc).__name__}")
        await self._offers.maybe_probe(frame)
        self._maybe_audit(frame)
        frame.give_back()

    def abandon(self, frame: OpenFrame) -> None:
        """The edge stops: settle `frame` with what there is, at once."""
        self._settle_tracked(frame)

    # -- the places -----------------------------------------------------------------------------------------------

    async def _local(self, frame: OpenFrame) -> None:
        job = self._device.full(frame)
        if await self._first(frame, job.done):
            answer = self._device.take(frame, job, "local")
            self._settle_inferred(frame, Outcome.LOCAL, answer)
            if frame.point.place is Place.LOCAL and frame.point.variant:
                frame.unaudited = answer
        else:
            self._settle_tracked(frame, "the local run was late")
            now_ns = time.monotonic_ns()
            late_ms = (now_ns - frame.decided_ns) / 1e6 * CENSORED
            self._world.on_result(Place.LOCAL, late_ms, frame.decision.chosen.predicted_ms, now_ns)
            self._refresh_from(frame, job, "local", Outcome.LOCAL)

    async def _split(self, frame: OpenFrame) -> None:
        head = self._device.head(frame)
        if not await self._first(frame, head.done):
            self._device.give_up(frame, head)
            self._settle_tracked(frame, "the head was late")
            return
        tensors = self._device.take(frame, head, "head")
        offer = await self._offers.features(frame, tensors)
        if offer is None:
            await self._resume(frame, tensors, None)
            return
        timer_ns = frame.decided_ns + int(self._world.resume_at_ms(frame.point, frame.budget_ms) * 1e6)
        await _wait_until(timer_ns, offer.reply)
        refused = False
        if offer.reply.done():
            if self._settle_offer(frame, offer, Outcome.SPLIT):
                return
            refused = True
        choice = self._fallback(frame, refused=refused)
        if choice.kind is Fallback.RESUME:
            await self._resume(frame, tensors, None if refused else offer)
        else:
            await self._last_hope(frame, offer, Outcome.SPLIT)

    async def _frame(self, frame: OpenFrame) -> None:
        offer = await self._offers.picture(frame)
        if offer is None:
            await self._local_if_it_fits(frame)
        else:
            await self._last_hope(frame, offer, Outcome.FRAME)

    async def _last_hope(self, frame: OpenFrame, offer: Offer, outcome: Outcome) -> None:
        """Only the reply can still answer this frame, or the tracker at the deadline."""
        if not await self._first(frame, offer.reply):
            self._give_up(frame, offer)
            self._settle_tracked(frame, "no reply by the deadline")
        elif not self._settle_offer(frame, offer, outcome):
            await self._local_if_it_fits(frame)

    async def _local_if_it_fits(self, frame: OpenFrame) -> None:
        """The cloud said no: the whole model here if that can still make it, else what the tracker has."""
        now_ns = time.monotonic_ns()
        done_ns = now_ns + (self._device.backlog_ms(now_ns) + self._device.local_ms) * 1e6
        if done_ns < frame.deadline_ns or not self._observer.can_track(frame.captured.pts_ns):
            await self._local(frame)
        else:
            self._settle_tracked(frame)

    # -- resume from the cut --------------------------------------------------------------------------------------

    def _fallback(self, frame: OpenFrame, *, refused: bool) -> FallbackChoice:
        now_ns = time.monotonic_ns()
        choice = choose_fallback(
            frame.sent,
            self._world,
            now_ns=now_ns,
            elapsed_ms=(now_ns - frame.decided_ns) / 1e6,
            budget_ms=frame.budget_ms,
            predicted_ms=frame.decision.chosen.predicted_ms,
            device_backlog_ms=self._device.backlog_ms(now_ns, urgent=True),
            a_track=self._observer.a_track(frame.captured.pts_ns, frame.motion),
            refused=refused,
        )
        facts = {"splitmesh.choice": choice.kind.value, "splitmesh.reason": choice.reason}
        frame.trace.event("fallback", now_ns, facts)
        frame.notes.append(choice.reason)
        return choice

    async def _resume(self, frame: OpenFrame, tensors: Tensors, offer: Offer | None) -> None:
        """Run the tail here; a reply that comes first still wins."""
        job = self._device.tail(frame, tensors)
        if offer is not None and await self._first(frame, job.done, offer.reply) and not job.done.done():
            if self._settle_offer(frame, offer, Outcome.SPLIT):
                job.cancel()
                return
            offer = None
        if not await self._first(frame, job.done):
            if offer is not None:
                self._give_up(frame, offer)
            self._settle_tracked(frame, "the resume was late")
            self._refresh_from(frame, job, "resume", Outcome.RESUMED)
            return
        try:
            answer = self._device.take(frame, job, "resume")
        except InferenceError as exc:
            if offer is None:
                raise
            frame.notes.append(str(exc))
            await self._last_hope(frame, offer, Outcome.SPLIT)
            return
        self._settle_inferred(frame, Outcome.RESUMED, answer)
        if offer is not None and not offer.reply.done():
            await self._offers.withdraw(frame, offer)

    # -- waiting --------------------------------------------------------------------------------------------------

    async def _first(self, frame: OpenFrame, *futures: asyncio.Future[Any]) -> bool:
        """True once one of `futures` is done; False when the tracker must step in for the deadline's sake."""
        await _wait_until(frame.deadline_ns - _TRACK_MARGIN_NS, *futures)
        if not any(f.done() for f in futures) and not self._observer.can_track(frame.captured.pts_ns):
            await _wait_until(frame.deadline_ns + _GRACE_NS, *futures)
        return any(f.done() for f in futures)

    # -- settling -------------------------------------------------------------------------------------------------

    def _settle_offer(self, frame: OpenFrame, offer: Offer, outcome: Outcome) -> bool:
        """Settle with a finished offer; False if it brought no answer."""
        reply = self._offers.take(frame, offer)
        if reply is not None:
            self._settle_inferred(frame, outcome, reply.answer)
            frame.unaudited = reply.answer
        return reply is not None

    def _settle_inferred(self, frame: OpenFrame, outcome: Outcome, answer: Answer) -> None:
        """`answer` in [0, 1] of the model's input."""
        start_ns = time.monotonic_ns()
        mapped = frame.prepared.placement.to_source(answer)
        frame.timed("postprocess", start_ns, time.monotonic_ns())
        if outcome is Outcome.LOCAL and frame.point.place is Place.LOCAL:
            elapsed_ms = (start_ns - frame.decided_ns) / 1e6
            self._world.on_result(Place.LOCAL, elapsed_ms, frame.decision.chosen.predicted_ms, start_ns)
        self._settlement.settle(frame, outcome, mapped)
        self._observe(frame, outcome, mapped)

    def _settle_tracked(self, frame: OpenFrame, note: str = "") -> None:
        if note:
            frame.notes.append(note)
        if self._observer.can_track(frame.captured.pts_ns):
            answer = self._observer.predict(frame.captured.pts_ns)
            self._settlement.settle(frame, Outcome.TRACKED, answer)
        else:
            self._settlement.settle(frame, Outcome.EXPIRED, Answer.empty())

    # -- answers that are held against the whole model's ------------------------------------------------------------

    def _maybe_audit(self, frame: OpenFrame) -> None:
        """Ride on a settled frame to learn how faithful its answer was, if that is due. Costs the frame nothing."""
        answer = frame.unaudited
        job = None if answer is None else self._device.spare(frame)
        if answer is None or job is None:
            return

        def compare(done: asyncio.Future[Answer]) -> None:
            frame.give_back()
            if not done.cancelled() and done.exception() is None:
                self._observer.audit(frame.sent, answer, done.result(), frame.motion)

        job.done.add_done_callback(compare)

    # -- answers that come too late still refresh the tracker -----------------------------------------------------

    def _refresh_from(self, frame: OpenFrame, job: DeviceJob[Answer], name: str, outcome: Outcome) -> None:
        def refresh(done: asyncio.Future[Answer]) -> None:
            frame.give_back()
            if not done.cancelled() and done.exception() is None:
                self._refresh(frame, outcome, self._device.take(frame, job, name))

        job.done.add_done_callback(refresh)

    def _give_up(self, frame: OpenFrame, offer: Offer) -> None:
        """Nobody waits for `offer` any more, but its answer is still news of the scene."""
        frame.trace.span("offload", offer.sent_ns, time.monotonic_ns(), {"splitmesh.abandoned": True})
        offer.reply.add_done_callback(lambda _: self._refresh_late(frame, offer))

    def _refresh_late(self, frame: OpenFrame, offer: Offer) -> None:
        if not offer.reply.cancelled() and offer.reply.exception() is None:
            outcome = Outcome.SPLIT if frame.point.cut else Outcome.FRAME
            self._refresh(frame, outcome, offer.reply.result().answer)

    def _refresh(self, frame: OpenFrame, outcome: Outcome, answer: Answer) -> None:
        self._observe(frame, outcome, frame.prepared.placement.to_source(answer))

    def _observe(self, frame: OpenFrame, outcome: Outcome, answer: Answer) -> None:
        """`answer` in [0, 1] of the source picture."""
        pts_ns, fidelity = frame.captured.pts_ns, frame.fidelity(outcome)
        self._observer.observe(answer, pts_ns, frame.motion, fidelity=fidelity, foreseen=frame.foreseen)


async def _wait_until(until_ns: int, *futures: asyncio.Future[Any]) -> None:
    """Return when one of `futures` is done, or at `until_ns` (monotonic)."""
    wait_s = (until_ns - time.monotonic_ns()) / 1e9
    if wait_s > 0 and not any(f.done() for f in futures):
        await asyncio.wait(futures, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
