"""Owns the simulated edge's door to its cloud: requests out, replies, heartbeats and echoes back. Decides nothing.

As `edge.offload`: the world is taught the same, at the same moments. Both ways go over the link; the broker stands
beside the workers. What sockets, broker and event loops take is `Scenario.stack_ms` each way.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.verdict import Verdict
from splitmesh.policy.world import World
from splitmesh.schedule.choice import WorkerChoice
from splitmesh.sim.draws import Draws
from splitmesh.sim.engine import Engine
from splitmesh.sim.path import Lane, Uplink
from splitmesh.sim.request import Reply, Request, Said, Sender, StreamPart
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.workers import NOTHING, Pool

_REPLY_TIMEOUT_NS = 5_000_000_000
_ECHO_NS = 400_000_000
_ECHO_BYTES = 50
_REPLY_BYTES = 500
_HEARTBEAT_BYTES = 150
_CANCEL_BYTES = 90
_SILENT_NS = 1_200_000_000


@dataclass(frozen=True, slots=True)
class Terms:
    """When the frame was decided and is due, virtual ns; what was predicted of it; whether anybody waits."""

    decided_ns: int
    deadline_ns: int
    predicted_ms: float
    probe: bool = False


class Door:
    """One edge's. `number`: no other edge of the pool has it. Others may share `uplink` and `pool`."""

    def __init__(
        self,
        engine: Engine,
        world: World,
        uplink: Uplink,
        pool: Pool,
        scenario: Scenario,
        draws: Draws,
        *,
        number: int = 0,
    ) -> None:
        self._engine = engine
        self._world = world
        self._scenario = scenario
        self._stack_ns = round(scenario.stack_ms * 1e6)
        self._uplink = uplink
        self._up, self._down = Lane(uplink.up), uplink.down
        self._pool = pool
        self._draws = draws
        self._sender = Sender(number, draws, self._replied)
        self._choice: WorkerChoice[int] = WorkerChoice()
        self._beats: deque[tuple[int, int, float]] = deque()
        """Heartbeats on their way: (when it lands, worker, predicted wait ms), ascending."""
        self._seen_ns: dict[int, int] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._echoes = 0
        self.uplink_bytes = 0
        """Payloads and what messages add, probes among them; without echoes."""
        self.requests = 0
        self.refusals: Counter[Said] = Counter()
        """Replies without an answer, and requests without a reply."""
        pool.hears.append(self._beat)
        engine.at(_ECHO_NS, self._echo)

    @property
    def world(self) -> World:
        """What the edge knows now. Heartbeats that have landed are heard first: as an event each they would cost more
        than all the rest where there are many workers, and nobody can tell when they were heard but by asking."""
        now_ns, beats = self._engine.now_ns, self._beats
        while beats and beats[0][0] <= now_ns:
            landed_ns, worker, wait_ms = beats.popleft()
            self._seen_ns[worker] = landed_ns
            self._choice.told(worker, wait_ms, landed_ns, path_ms=self._world.link.base_ms)
            self._world.on_heartbeat(landed_ns, wait_ms)
        return self._world

    @property
    def closed(self) -> bool:
        """The broker is gone, or too much waits for the link already: nothing can be sent."""
        now_ns = self._engine.now_ns
        if self._uplink.cut_at(now_ns):
            return True
        return self._up.queued_bytes(now_ns) > self._scenario.queue_bytes

    def silent(self, worker: int) -> bool:
        """It was heard once, and has missed its heartbeats since."""
        _ = self.world
        seen_ns = self._seen_ns.get(worker)
        return seen_ns is not None and self._engine.now_ns - seen_ns > _SILENT_NS

    def send(
        self,
        id: str,
        frame: int,
        point: OperatingPoint,
        payload_bytes: int,
        terms: Terms,
        *,
        home: int = -1,
        part: StreamPart | None = None,
        coarser: bool = False,
    ) -> Request:
        """Hand a payload to the link. `part`: of a stream. `coarser`: `point` is what was left of another."""
        now_ns, world = self._engine.now_ns, self.world
        key = part is not None and part.base is None
        message_bytes = payload_bytes + round(world.payloads.around(point, key=key))
        budget_ns = max(0, terms.deadline_ns - now_ns)
        id = f"{self._sender.number}.{id}"
        chosen = home if home >= 0 else self._chosen(point, frame)
        request = Request(
            id, self._sender, frame, point, payload_bytes, message_bytes, now_ns, budget_ns, home, part, chosen
        )
        self.requests += 1
        self._choice.sent(chosen, id, point.decode_ms + point.cloud_ms, now_ns)
        world.on_sent(id, point, payload_bytes, now_ns, message_bytes=message_bytes, is_key=key, coarser=coarser)
        self.uplink_bytes += message_bytes
        verdict = self._verdicts[id] = Verdict(
            world,
            point.place,
            decided_ns=terms.decided_ns,
            deadline_ns=terms.deadline_ns,
            predicted_ms=terms.predicted_ms,
            probe=terms.probe,
        )
        self._crossed(self._up.send(message_bytes, now_ns), partial(self._pool.take, request))
        self._engine.at(terms.deadline_ns, lambda: self._passed(verdict))
        self._engine.at(now_ns + _REPLY_TIMEOUT_NS, lambda: self._timed_out(request))
        return request

    def _chosen(self, point: OperatingPoint, frame: int) -> int:
        """As `edge.peers` chooses, with the frame's own luck for the lots; -1: no worker is known to live."""
        profiled_ms = point.decode_ms + point.cloud_ms
        choice = self._choice.pick(profiled_ms, now_ns=self._engine.now_ns, draw=self._draws.pick[frame])
        return -1 if choice is None else choice.worker

    def cancel(self, request: Request) -> None:
        """Tell the workers that the frame has its result."""
        self._crossed(self._up.send(_CANCEL_BYTES, self._engine.now_ns), partial(self._pool.cancel, request))

    # -- what comes back ------------------------------------------------------------------------------------------

    def _crossed(self, out_ns: int | None, then: Callable[[], None]) -> None:
        if out_ns is not None:
            self._engine.at(out_ns + self._stack_ns, then)

    def _comes_down(self, size_bytes: int, then: Callable[[], None]) -> None:
        self._crossed(self._down.send(size_bytes, self._engine.now_ns)[1], then)

    def _replied(self, request: Request, reply: Reply) -> None:
        self._comes_down(_REPLY_BYTES, partial(self._received, request, reply))

    def _passed(self, verdict: Verdict) -> None:
        _ = self.world
        verdict.deadline_passed(self._engine.now_ns)

    def _received(self, request: Request, reply: Reply) -> None:
        verdict = self._verdicts.pop(request.id, None)
        if verdict is None:  # nobody waits for it any more
            return
        now_ns, world = self._engine.now_ns, self.world
        self._tell(request, reply, now_ns)
        if reply.said.by_worker:
            world.on_reply(request.id, request.point, now_ns, str(reply.worker), reply.times)
        else:
            world.link.on_lost(request.id)
        if reply.said is Said.ANSWER:
            verdict.answered(now_ns)
        else:
            self.refusals[reply.said] += 1
            verdict.refused(now_ns, of_peer=not reply.said.by_worker)
        request.reply.fire(replace(reply, received_ns=now_ns))

    def _tell(self, request: Request, reply: Reply, now_ns: int) -> None:
        """What the pool's choice learns of a reply."""
        if request.worker >= 0 and request.worker != request.chosen:
            self._choice.gone(request.chosen)
        if reply.worker in self._seen_ns:
            self._choice.told(reply.worker, reply.wait_ms, now_ns, path_ms=self._world.link.base_ms)
        if reply.said is Said.ANSWER:
            measured_ms = reply.times.decode_ms + reply.times.service_ms
            self._choice.answered(reply.worker, request.id, measured_ms=measured_ms, slowness=1.0, now_ns=now_ns)
        elif reply.said is Said.OVERLOADED:
            self._choice.refused(reply.worker, request.id, budget_ms=request.budget_ns / 1e6, now_ns=now_ns)
        else:
            self._choice.ended(request.chosen, request.id)

    def _timed_out(self, request: Request) -> None:
        verdict = self._verdicts.pop(request.id, None)
        if verdict is None:
            return
        now_ns, world = self._engine.now_ns, self.world
        world.link.on_lost(request.id)
        self._choice.ended(request.chosen, request.id)
        self.refusals[Said.TIMEOUT] += 1
        verdict.refused(now_ns, of_peer=True)
        request.reply.fire(Reply(Said.TIMEOUT, -1, NOTHING, received_ns=now_ns))

    def _beat(self, worker: int, wait_ms: float) -> None:
        out_ns = self._down.send(_HEARTBEAT_BYTES, self._engine.now_ns)[1]
        if out_ns is not None:
            self._beats.append((out_ns + self._stack_ns, worker, wait_ms))

    def _echo(self) -> None:
        """One at a time: the next is sent some time after the last is back, or given up."""
        self._echoes += 1
        key, link = f"echo.{self._echoes}", self._world.link
        link.on_sent(key, _ECHO_BYTES, self._engine.now_ns, remote_ms=0.0)
        waiting = [True]

        def over(back: bool) -> None:
            if not waiting:
                return
            waiting.clear()
            if back:
                link.on_delivered(key, self._engine.now_ns, remote_ms=0.0)
            else:
                link.on_lost(key)
            self._engine.at(self._engine.now_ns + _ECHO_NS, self._echo)

        out_ns = self._up.send(_ECHO_BYTES, self._engine.now_ns)
        self._crossed(out_ns, lambda: self._comes_down(_ECHO_BYTES, lambda: over(True)))
        self._engine.at(self._engine.now_ns + _REPLY_TIMEOUT_NS, lambda: over(False))
