"""Requests that a worker runs as one, on a real nats-server: the same answers as alone, and each its own end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import numpy as np
import pytest
from cloud_rig import SlowHosted, ask, payload_for, refused, until, worker_on

from splitmesh.bus.base import Bus
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.decoders import Content, decode_alone
from splitmesh.cloud.hosted import Abandoned, Executed, Hosted
from splitmesh.cloud.service import Worker
from splitmesh.codec.picture import encode_picture
from splitmesh.errors import CodecError, InferenceError
from splitmesh.frames.answer import Answer
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.read import Bundle
from splitmesh.schedule.tenants import Tenant
from splitmesh.wire import subjects
from splitmesh.wire.messages import Cancel, NackCode

from stream_rig import PICTURES  # isort: skip - it finds the graphs that cloud_rig made known


class Cheap(SlowHosted):
    """The real model, said to take as long for four as for one; what runs together is noted."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.together: list[int] = []

    def warm_up(self, max_batch: int = 1) -> dict[str, dict[int, int]]:
        return {cut: dict.fromkeys((1, 2, 4), times[1]) for cut, times in super().warm_up().items()}

    def execute_together(self, cut, decodes, abandoned):
        self.entered += 1
        self.together.append(len(decodes))
        self.gate.wait(20)
        return super().execute_together(cut, decodes, abandoned)


@asynccontextmanager
async def one_runs(broker: EmbeddedServer, edge: Bus, bundle: Bundle) -> AsyncIterator[tuple[Worker, Cheap]]:
    """A worker of two tenants whose only slot is busy until the gate opens."""
    cheap = Cheap(bundle)
    async with worker_on(broker, cheap, tenants=(Tenant("default"), Tenant("other")), max_batch=8) as worker:
        warm = cheap.entered
        cheap.together.clear()
        cheap.gate.clear()
        first = asyncio.create_task(ask(edge, bundle, "e.r.first"))
        await until(lambda: cheap.entered == warm + 1)
        try:
            yield worker, cheap
        finally:
            cheap.gate.set()
        assert isinstance((await first).outcome, Answer)


def pictures(count: int) -> list[bytes]:
    return [encode_picture(picture, quality=95) for picture in PICTURES[:count]]


async def test_what_runs_together_is_answered_as_if_it_had_run_alone(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    """Pictures that differ, of both tenants, so that answers which were mixed up would show."""
    async with one_runs(broker, edge, bundle) as (worker, cheap):
        asked = [
            asyncio.create_task(
                ask(
                    edge,
                    bundle,
                    f"e.r.{number}",
                    payload=payload,
                    subject=subjects.infer(("default", "other")[number % 2], cheap.model, ""),
                )
            )
            for number, payload in enumerate(pictures(6))
        ]
        await until(lambda: worker.status().queue_depth == 6)
        cheap.gate.set()
        replies = await asyncio.gather(*asked)
        assert cheap.together == [4, 2]
        for payload, reply in zip(pictures(6), replies, strict=True):
            decode = partial(decode_alone, payload, cheap.expected(""), lambda _: None)
            alone = Hosted.execute(cheap, "", decode).answer
            assert isinstance(reply.outcome, Answer)
            assert np.array_equal(reply.outcome.classes, alone.classes)
            np.testing.assert_allclose(reply.outcome.scores, alone.scores, rtol=1e-4)
        assert worker.status().tenants["other"]["served"] == 3
        assert worker._dispatch.idle


async def test_what_ails_one_of_a_batch_is_its_own(broker: EmbeddedServer, edge: Bus, bundle: Bundle) -> None:
    cut = bundle.cuts[0].name
    async with one_runs(broker, edge, bundle) as (worker, cheap):
        good = payload_for(bundle, cut)
        asked = [
            asyncio.create_task(ask(edge, bundle, f"e.r.{number}", cut=cut, payload=payload))
            for number, payload in enumerate((good, good[:-1], good))
        ]
        await until(lambda: worker.status().queue_depth == 3)
        cheap.gate.set()
        replies = await asyncio.gather(*asked)
        assert cheap.together == [3]
        assert [isinstance(reply.outcome, Answer) for reply in replies] == [True, False, True]
        assert refused(replies[1]).code is NackCode.BAD_REQUEST


async def test_a_cancellation_takes_one_out_of_the_batch(broker: EmbeddedServer, edge: Bus, bundle: Bundle) -> None:
    async with one_runs(broker, edge, bundle) as (worker, cheap):
        asked = [asyncio.create_task(ask(edge, bundle, f"e.r.{number}")) for number in range(3)]
        await until(lambda: worker.status().queue_depth == 3)
        await edge.publish(subjects.cancel("default"), Cancel("e.r.1").encode())
        assert refused(await asked[1]).code is NackCode.CANCELLED
        cheap.gate.set()
        assert [isinstance((await asked[number]).outcome, Answer) for number in (0, 2)] == [True, True]
        assert cheap.together == [2]


class Lengthy(Cheap):
    """Takes 0.1 s for however many."""

    def execute(self, cut, decode, abandoned=lambda: False):
        self._takes_long.wait(0.1)
        return super().execute(cut, decode, abandoned)

    def execute_together(self, cut, decodes, abandoned):
        self._takes_long.wait(0.1)
        return super().execute_together(cut, decodes, abandoned)

    _takes_long = threading.Event()


async def test_a_slot_is_left_free_for_one_more_and_not_for_ever(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    """Behind a burst of requests another is expected: the first waits for it, and when none comes it runs alone."""
    lengthy = Lengthy(bundle)
    async with worker_on(broker, lengthy, max_batch=8, heartbeat_s=30.0) as worker:
        lengthy.together.clear()
        payload = payload_for(bundle, "")
        await asyncio.gather(*(ask(edge, bundle, f"e.r.{number}", payload=payload) for number in range(8)))
        assert max(lengthy.together) >= 2
        lengthy.together.clear()
        lone = await ask(edge, bundle, "e.r.lone", payload=payload)
        assert isinstance(lone.outcome, Answer) and lengthy.together == []
        assert lone.times.queue_us > 10_000
        assert worker._dispatch.idle


def test_each_of_a_batch_has_its_own_end(bundle: Bundle) -> None:
    """One can't be decoded, one was cancelled; and features that make NaN of the answer spoil nobody else's."""
    hosted = Hosted(bundle, threads=1, providers=("cpu",))
    cut = bundle.cuts[0]
    normalize = Normalizer.from_manifest(bundle.manifest).normalize
    head = open_session(bundle.head_path(cut.name), providers=("cpu",))
    good, other = (head.run({bundle.manifest.input: normalize(picture)}) for picture in PICTURES[:2])
    wild = {name: np.full_like(value, np.inf) for name, value in good.items()}

    def broken() -> Content:
        raise CodecError("no payload")

    decodes = [lambda: good, broken, lambda: wild, lambda: other, lambda: good]
    ends = hosted.execute_together(cut.name, decodes, [lambda: False] * 4 + [lambda: True])
    assert [type(end) for end in ends] == [Executed, CodecError, InferenceError, Executed, Abandoned]
    for end, inputs in ((ends[0], good), (ends[3], other)):
        assert isinstance(end, Executed)
        alone = hosted.execute(cut.name, lambda inputs=inputs: inputs).answer
        np.testing.assert_allclose(end.answer.scores, alone.scores, rtol=1e-4)
    assert [type(end) for end in hosted.execute_together(cut.name, [broken], [lambda: False])] == [CodecError]


@pytest.mark.parametrize("max_batch", [1, 4])
def test_a_worker_tries_batches_while_it_warms_up_and_no_larger_ones_than_it_may(
    bundle: Bundle, max_batch: int
) -> None:
    times = Hosted(bundle, threads=1, providers=("cpu",)).warm_up(max_batch)
    assert set(times) == {"", *(cut.name for cut in bundle.cuts)}
    for taken in times.values():
        sizes = list(taken)
        assert sizes == [1, 2, 4][: len(sizes)] and (len(sizes) > 1) == (max_batch > 1)
        assert all(2 * taken[size] <= taken[1] * (size + 1) for size in sizes[:-1])
