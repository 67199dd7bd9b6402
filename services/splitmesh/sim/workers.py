"""Owns the pool of workers on virtual time: the production queue and service-time code around drawn service times."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from splitmesh.policy.world import RemoteTimes
from splitmesh.schedule.edf import EdfQueue
from splitmesh.schedule.service_time import ServiceTime
from splitmesh.sim.draws import Draws
from splitmesh.sim.engine import Engine
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.request import Reply, Request, Said
from splitmesh.sim.scenario import Scenario, slowed

QUEUE_LIMIT = 64
HEARTBEAT_NS = 200_000_000
_KEPT_FRAMES = 32
NOTHING = RemoteTimes(0.0, 0.0, 0.0, 0.0)


class Worker:
    """Answers every request that reaches it while it lives, by `reply`. A lost one takes all that it holds along."""

    def __init__(
        self,
        number: int,
        engine: Engine,
        plan: SimPlan,
        scenario: Scenario,
        draws: Draws,
        reply: Callable[[Request, Reply], None],
    ) -> None:
        self.number = number
        self.alive = True
        self._engine = engine
        self._plan = plan
        self._scenario = scenario
        self._draws = draws
        self._reply = reply
        whole_ms = max(point.cloud_ms for point in plan.points)
        # Every worker hosts the whole model, whatever the plan's points: probes are for that.
        self._taken = {"": ServiceTime(round(whole_ms * 1e6))}
        for point in plan.points:
            if point.remote and point.cut not in self._taken:
                self._taken[point.cut] = ServiceTime(round((point.decode_ms + point.cloud_ms) * 1e6))
        self._forget()

    def _forget(self) -> None:
        self._queue: EdfQueue[Request] = EdfQueue(QUEUE_LIMIT, servers=self._scenario.slots)
        self._held: dict[int, OrderedDict[int, None]] = {}
        """By stream: numbers of the latest frames that were decoded."""

    def lose(self) -> None:
        self.alive = False
        self._forget()

    def come_back(self) -> None:
        self.alive = True

    @property
    def wait_ms(self) -> float:
        """As heartbeats tell it."""
        return self._queue.predicted_wait_ns(self._engine.now_ns) / 1e6

    def take(self, request: Request) -> None:
        """A request arrives."""
        now_ns = request.arrived_ns = self._engine.now_ns
        part = request.part
        if part is not None and part.base is not None and part.stream not in self._held:
            self._refuse(request, Said.NEED_KEYFRAME)
            return
        if part is not None:
            self._held.setdefault(part.stream, OrderedDict())
        taken = self._taken[request.point.cut]
        refusal = self._queue.push(
            request.id,
            request,
            deadline_ns=now_ns + request.budget_ns,
            cost_ns=taken.mean_ns(now_ns),
            slack_ns=taken.slack_ns(now_ns),
            now_ns=now_ns,
        )
        if refusal is not None:
            self._refuse(request, Said.OVERLOADED)
        else:
            self.pump()

    def cancel(self, id: str) -> None:
        waiting = self._queue.cancel(id)
        if waiting is not None:
            self._refuse(waiting, Said.CANCELLED)

    def pump(self) -> None:
        """Serve what a slot is free for, refuse what can't make it any more."""
        while True:
            request, expired = self._queue.pop(self._engine.now_ns)
            if request is not None:
                self._serve(request, self._queue)
            for late in expired:
                self._refuse(late, Said.EXPIRED)
            if request is None:
                return

    def _serve(self, request: Request, queue: EdfQueue[Request]) -> None:
        start_ns = self._engine.now_ns
        if not self._decodes(request):
            queue.done(request.id)
            self._refuse(request, Said.NEED_KEYFRAME)
            return
        point, spread = request.point, self._plan.spread(request.point)
        factor = slowed(self._scenario.worker_bursts, start_ns)
        decode_ms = factor * point.decode_ms * math.exp(spread.decode * self._draws.decode_z[request.frame])
        service_ms = factor * point.cloud_ms * math.exp(spread.cloud * self._draws.cloud_z[request.frame])

        def end() -> None:
            if queue is not self._queue:  # the worker was lost in between
                return
            now_ns = self._engine.now_ns
            self._taken[point.cut].observe(now_ns - start_ns, now_ns)
            queue.done(request.id)
            queue_ms = (start_ns - request.arrived_ns) / 1e6
            self._reply(request, Reply(Said.ANSWER, self.number, RemoteTimes(queue_ms, decode_ms, service_ms, 0.0)))
            self.pump()

        self._engine.at(start_ns + round((decode_ms + service_ms) * 1e6), end)

    def _decodes(self, request: Request) -> bool:
        """Whether the worker has what the payload builds on; it then has this frame too."""
        part = request.part
        if part is None:
            return True
        held = self._held.setdefault(part.stream, OrderedDict())
        if part.base is not None and part.base not in held:
            return False
        held[part.number] = None
        if len(held) > _KEPT_FRAMES:
            held.popitem(last=False)
        return True

    def _refuse(self, request: Request, said: Said) -> None:
        waited_ms = (self._engine.now_ns - request.arrived_ns) / 1e6
        self._reply(request, Reply(said, self.number, RemoteTimes(waited_ms, 0.0, 0.0, 0.0)))


class Pool:
    """All workers, and the broker beside them that hands requests to one."""

    def __init__(
        self,
        engine: Engine,
        plan: SimPlan,
        scenario: Scenario,
        draws: Draws,
        reply: Callable[[Request, Reply], None],
    ) -> None:
        """`reply`: called when a reply leaves the workers' side for the edge."""
        self.workers = [Worker(n, engine, plan, scenario, draws, reply) for n in range(scenario.workers)]
        self._draws = draws
        self._reply = reply
        for loss in scenario.losses:
            worker = self.workers[loss.worker]
            engine.at(round(loss.start_s * 1e9), worker.lose)
            engine.at(round((loss.start_s + loss.length_s) * 1e9), worker.come_back)

    def take(self, request: Request) -> None:
        """A worker of the pool by chance, as a queue group does it, or the one that has the stream."""
        alive = [worker for worker in self.workers if worker.alive and request.home in (-1, worker.number)]
        if not alive:
            self._reply(request, Reply(Said.NO_RESPONDERS, -1, NOTHING))
            return
        alive[int(self._draws.pick[request.frame] * len(alive))].take(request)

    def cancel(self, id: str) -> None:
        for worker in self.workers:
            worker.cancel(id)
