"""A worker that hangs but is not gone: the broker still hands it requests, and it answers none."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from cloud_rig import until
from mesh_run import node
from stream_rig import edge_on, point

from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.outcome import Outcome
from splitmesh.plan.bundle.read import Bundle
from splitmesh.telemetry.metrics import PoolEvent
from splitmesh.wire import subjects

RECOVERED_S = 1.5
BUDGET_MS = 300.0


async def test_a_stopped_worker_costs_no_frame_and_soon_gets_none_until_it_is_back(
    broker: EmbeddedServer, bundle: Bundle, tmp_path: Path
) -> None:
    theirs = {"plan": bundle.folder, "nats_url": broker.url}
    async with (
        node("cloud", tmp_path / "first", ready=False, name="w-1", **theirs) as first,
        node("cloud", tmp_path / "second", ready=False, name="w-2", **theirs) as second,
        edge_on(broker, bundle, point(bundle, "", "jpeg", 85), tmp_path) as edge,
    ):
        workers = {"w-1": first, "w-2": second}
        peers = edge.offloader.peers

        async def frames(seconds: float) -> None:
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                await edge.pipeline.run(edge.frame(budget_ms=BUDGET_MS))

        await until(lambda: set(peers._seen_ns) == set(workers), 60)
        await frames(0.5)
        asleep = edge.tap.sent[-1].subject.rpartition(".")[2]
        awake = next(name for name in workers if name != asleep)
        workers[asleep].child.send(signal.SIGSTOP)
        await frames(RECOVERED_S)
        settled, sent = len(edge.records()), len(edge.tap.sent)
        await frames(1.0)
        workers[asleep].child.send(signal.SIGCONT)
        after, asked = edge.records()[settled:], {each.subject for each in edge.tap.sent[sent:]}
        assert {(record.outcome, record.worker) for record in after} == {(Outcome.FRAME, awake)}
        late = [record.latency_ms for record in after if record.latency_ms is None or record.latency_ms > BUDGET_MS]
        assert len(late) <= 0.1 * len(after), late
        assert asked == {subjects.worker("default", awake)}
        assert PoolEvent.QUEUE_GROUP not in peers.counts
        await until(lambda: peers.choice.live(asleep, time.monotonic_ns()) or peers._ejection.out(asleep))
