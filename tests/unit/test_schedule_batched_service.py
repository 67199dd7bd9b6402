"""Fair queue and batches together, as a worker drives them, on virtual time with exact run times."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.schedule.batching import Batcher, BatchTimes, Estimate
from splitmesh.schedule.fair import FairQueue

CPU = [10, 20, 30, 40, 50, 60, 70, 80]
GPU = [10, 11, 12, 13, 14, 15, 16, 17]


@dataclass(frozen=True)
class Arrival:
    gap: int
    tenant: str
    key: str
    budget: int


@dataclass
class Run:
    start: int
    end: int
    numbers: list[int]


@dataclass
class Worker:
    """One server, and what it did."""

    curve: Sequence[int]
    queue: FairQueue[int] = field(default_factory=lambda: FairQueue(1000))
    batcher: Batcher = field(default_factory=Batcher)
    now: int = 0
    running: Run | None = None
    runs: list[Run] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    held_until: int | None = None
    held: int = 0

    def __post_init__(self) -> None:
        for key in "xy":
            self.batcher.host(key, BatchTimes(dict(enumerate(self.curve, 1)), most=len(self.curve)))

    def arrive(self, number: int, arrival: Arrival) -> bool:
        key = arrival.key
        estimate = self.batcher.estimate(key, self.queue.waiting_under(key), self.now)
        refusal = self.queue.push(
            f"{number}",
            number,
            tenant=arrival.tenant,
            key=key,
            deadline_ns=self.now + arrival.budget,
            cost_ns=estimate.cost_ns,
            alone_ns=estimate.alone_ns,
            slack_ns=estimate.slack_ns,
            now_ns=self.now,
        )
        if refusal is None:
            self.batcher.arrived(key, self.now)
        self.pump()
        return refusal is None

    def pump(self) -> None:
        self.expired += self.queue.expire(self.now)
        self.held_until = None
        skip: set[Hashable] = set()
        while self.running is None:
            head = self.queue.head(len(self.curve), skip=skip)
            if head is None:
                return
            batch = self.batcher.decide(head.key, head.deadlines_ns, self.now)
            if batch.size:
                numbers, _ = self.queue.pop_batch(self.now, batch.size, cost_ns=batch.cost_ns, skip=skip)
                self.running = Run(self.now, self.now + self.curve[batch.size - 1], numbers)
                self.runs.append(self.running)
                self.held_until = None
            else:
                assert batch.hold_until_ns > self.now
                self.held += 1
                self.held_until = min(batch.hold_until_ns, self.held_until or batch.hold_until_ns)
                skip.add(head.key)

    def advance(self, then: int | None) -> None:
        """Until `then`; None: until nothing is left to do."""
        while True:
            next_ns = self.running.end if self.running else self.held_until
            if next_ns is None or (then is not None and next_ns > then):
                break
            self.now = next_ns
            if self.running:
                for number in self.running.numbers:
                    self.queue.done(f"{number}", (self.running.end - self.running.start) // len(self.running.numbers))
                self.running = None
            self.pump()
        self.now = self.now if then is None else then


def drive(curve: Sequence[int], arrivals: Sequence[Arrival]) -> tuple[Worker, dict[int, int]]:
    """The worker when all is done, and the deadlines of what it admitted."""
    worker, admitted = Worker(curve), {}
    for number, arrival in enumerate(arrivals):
        worker.advance(worker.now + arrival.gap)
        if worker.arrive(number, arrival):
            admitted[number] = worker.now + arrival.budget
    worker.advance(None)
    return worker, admitted


arrivals = st.lists(
    st.builds(Arrival, st.integers(0, 15), st.sampled_from("ab"), st.sampled_from("xy"), st.integers(1, 150)),
    max_size=60,
)
curves = st.one_of(st.just(GPU), st.just(CPU), st.lists(st.integers(5, 40), min_size=1, max_size=6).map(sorted))


@given(arrivals, curves)
def test_each_admitted_job_runs_once_in_time_or_is_told_that_it_will_not(
    jobs: list[Arrival], curve: list[int]
) -> None:
    worker, admitted = drive(curve, jobs)
    served = {number: run.end for run in worker.runs for number in run.numbers}
    assert sorted([*(n for run in worker.runs for n in run.numbers), *worker.expired]) == sorted(admitted)
    assert worker.queue.idle
    assert all(end <= admitted[number] for number, end in served.items())
    assert all(len({jobs[number].key for number in run.numbers}) == 1 for run in worker.runs)


@given(arrivals)
def test_where_a_batch_costs_its_singles_nothing_is_batched_and_nothing_held(jobs: list[Arrival]) -> None:
    worker, _ = drive(CPU, jobs)
    assert all(len(run.numbers) == 1 for run in worker.runs) and worker.held == 0


def flood(gap: int, count: int = 400) -> list[Arrival]:
    return [Arrival(gap, "ab"[number % 2], "x", 60) for number in range(count)]


def test_where_batches_are_cheap_they_serve_what_singles_could_not() -> None:
    """A job every 3 ms, more than three times what singles serve."""
    worker, admitted = drive(GPU, flood(3))
    assert len(admitted) == 400 and worker.expired == []
    singles, some = drive(CPU, flood(3))
    assert len(some) - len(singles.expired) == len(singles.runs) < 150


@pytest.mark.parametrize(
    ("mate_after", "budget", "runs"),
    [
        (None, 60, [(4, [0])]),  # nobody comes: 4 ms after it did, waiting pays no more
        (2, 60, [(4, [0, 1])]),  # with two, waiting for a third pays for 2 ms, as whole numbers go
        (2, 13, [(2, [0]), (12, [1])]),  # d_min − l(2) is after 2 ms
        (6, 60, [(4, [0]), (14, [1])]),
    ],
)
def test_a_job_that_is_held_goes_with_the_next_or_in_time_alone(
    mate_after: int | None, budget: int, runs: list[tuple[int, list[int]]]
) -> None:
    """After a burst of a job every millisecond that others served."""
    worker = Worker(GPU)
    for moment in range(-30, 1):
        worker.batcher.arrived("x", moment)
    assert worker.arrive(0, Arrival(0, "a", "x", budget)) and worker.held == 1 and worker.runs == []
    if mate_after is not None:
        worker.advance(mate_after)
        assert worker.arrive(1, Arrival(0, "b", "x", 60))
    worker.advance(None)
    assert [(run.start, run.numbers) for run in worker.runs] == runs


def test_an_estimate_is_of_the_batch_that_a_newcomer_would_join() -> None:
    worker = Worker(GPU)
    assert worker.batcher.estimate("x", 0, 0) == Estimate(10, 10, 0)
    assert worker.batcher.estimate("x", 3, 0) == Estimate(13 // 4, 10, 3)
    assert worker.batcher.estimate("x", 100, 0) == Estimate(17 // 8, 10, 7)
    assert Worker(CPU).batcher.estimate("x", 7, 0) == Estimate(10, 10, 0)
