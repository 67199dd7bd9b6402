"""Owns the pool of workers on virtual time: the production queue and service-time code around drawn service times."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable
from functools import partial

from splitmesh.policy.world import RemoteTimes
from splitmesh.schedule.fair import FairQueue
from splitmesh.schedule.service_time import ServiceTime
from splitmesh.sim.engine import Engine
from splitmesh.sim.open_streams import OpenStreams
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.request import Reply, Request, Said
from splitmesh.sim.scenario import Scenario, slowed

QUEUE_LIMIT = 64
HEARTBEAT_NS = 200_000_000
NOTHING = RemoteTimes(0.0, 0.0, 0.0, 0.0)


class Worker:
    """Replies to every request that reaches it while it lives. A lost one takes all that it holds along."""

    def __init__(self, number: int, engine: Engine, plan: SimPlan, scenario: Scenario) -> None:
        self.number = number
        self.alive = True
        self._engine = engine
        self._plan = plan
        self._scenario = scenario
        self.waits_ms = array("d")
        """In the queue, of each request that was answered."""
        self.refused: Counter[Said] = Counter()
        self._end_ns = scenario.frames * scenario.period_ns
        self.served_ns = 0
        """Time that its slots worked on requests, until the last frame's period was over."""
        whole_ms = max(point.cloud_ms for point in plan.points)
        # Every worker hosts the whole model, whatever the plan's points: probes are for that.
        self._taken = {"": ServiceTime(round(whole_ms * 1e6))}
        for point in plan.points:
            if point.remote and point.cut not in self._taken:
                self._taken[point.cut] = ServiceTime(round((point.decode_ms + point.cloud_ms) * 1e6))
        self._forget()

    def _forget(self) -> None:
        self._queue: FairQueue[Request] = FairQueue(QUEUE_LIMIT, servers=self._scenario.slots)
        self._streams = OpenStreams()

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
        part, sender = request.part, request.sender.number
        if part is not None and part.base is not None and not self._streams.find(sender, part, now_ns):
            self._refuse(request, Said.NEED_KEYFRAME)
            return
        if part is not None and part.base is None and not self._streams.open(sender, part, now_ns):
            self._refuse(request, Said.OVERLOADED)
            return
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

    def beat(self) -> None:
        """With each heartbeat: refuse what expired behind a long run, let go of streams that nobody uses."""
        self.pump()
        self._streams.trim(self._engine.now_ns)

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

    def _serve(self, request: Request, queue: FairQueue[Request]) -> None:
        start_ns = self._engine.now_ns
        if request.part is not None and not self._streams.decodes(request.sender.number, request.part):
            queue.done(request.id)
            self._refuse(request, Said.NEED_KEYFRAME)
            return
        point, spread = request.point, self._plan.spread(request.point)
        factor = slowed(self._scenario.worker_bursts, start_ns)
        draws, frame = request.sender.draws, request.frame
        decode_ms = factor * point.decode_ms * math.exp(spread.decode * draws.decode_z[frame])
        service_ms = factor * point.cloud_ms * math.exp(spread.cloud * draws.cloud_z[frame])

        def end() -> None:
            if queue is not self._queue:  # the worker was lost in between
                return
            now_ns = self._engine.now_ns
            self._taken[point.cut].observe(now_ns - start_ns, now_ns)
            queue.done(request.id)
            queue_ms = (start_ns - request.arrived_ns) / 1e6
            self.waits_ms.append(queue_ms)
            self.served_ns += max(0, min(now_ns, self._end_ns) - start_ns)
            times = RemoteTimes(queue_ms, decode_ms, service_ms, 0.0)
            request.sender.replied(request, Reply(Said.ANSWER, self.number, times, self.wait_ms))
            self.pump()

        self._engine.at(start_ns + round((decode_ms + service_ms) * 1e6), end)

    def _refuse(self, request: Request, said: Said) -> None:
        waited_ms = (self._engine.now_ns - request.arrived_ns) / 1e6
        self.refused[said] += 1
        times = RemoteTimes(waited_ms, 0.0, 0.0, 0.0)
        request.sender.replied(request, Reply(said, self.number, times, self.wait_ms))


class Pool:
    """All workers, and the broker beside them that hands requests to one. `hears`: called with a worker's number and
    predicted wait, ms, when a heartbeat of it leaves; any number may be appended before time begins."""

    def __init__(self, engine: Engine, plan: SimPlan, scenario: Scenario) -> None:
        self.workers = [Worker(n, engine, plan, scenario) for n in range(scenario.workers)]
        self.hears: list[Callable[[int, float], None]] = []
        self.unanswered = 0
        """Requests that found no worker."""
        self._engine = engine
        self._alive = list(self.workers)
        for loss in scenario.losses:
            engine.at(round(loss.start_s * 1e9), partial(self._lose, self.workers[loss.worker]))
            engine.at(
                round((loss.start_s + loss.length_s) * 1e9), partial(self._come_back, self.workers[loss.worker])
            )

    def start(self) -> None:
        """Heartbeats begin now."""
        for worker in self.workers:
            self._beat(worker)

    def take(self, request: Request) -> None:
        """The worker that has the stream, or that was chosen; if that is lost, one by chance, as a queue group
        does it."""
        alive = self._alive
        if request.home >= 0:
            worker = self.workers[request.home]
            alive = [worker] if worker.alive else []
        elif request.chosen >= 0 and self.workers[request.chosen].alive:
            alive = [self.workers[request.chosen]]
        if not alive:
            self.unanswered += 1
            request.sender.replied(request, Reply(Said.NO_RESPONDERS, -1, NOTHING))
            return
        taker = alive[int(request.sender.draws.pick[request.frame] * len(alive))]
        request.worker = taker.number
        taker.take(request)

    def cancel(self, request: Request) -> None:
        """Nobody waits for it any more."""
        if request.worker >= 0:
            self.workers[request.worker].cancel(request.id)

    def _lose(self, worker: Worker) -> None:
        worker.lose()
        self._alive = [each for each in self.workers if each.alive]

    def _come_back(self, worker: Worker) -> None:
        worker.come_back()
        self._alive = [each for each in self.workers if each.alive]

    def _beat(self, worker: Worker) -> None:
        """A heartbeat, and the next."""
        if worker.alive:
            wait_ms = worker.wait_ms
            for hear in self.hears:
                hear(worker.number, wait_ms)
            worker.beat()
        self._engine.at(self._engine.now_ns + HEARTBEAT_NS, partial(self._beat, worker))
