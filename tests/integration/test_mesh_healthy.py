"""A whole mesh that works: answers come from the worker, one trace tells of both ends, the pages tell the truth."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest
from mesh_run import OFFLOADED, Node, Scene, node

from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.outcome import Outcome

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("policy", ["split", "adaptive"])
async def test_answers_come_from_the_worker_and_one_trace_tells_of_both(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path, policy: str
) -> None:
    policy = scene.split if policy == "split" else policy
    settings = scene.edge(nats_url=broker.url, policy=policy)
    async with node("cloud", tmp_path / "cloud", ready=False, **scene.worker(nats_url=broker.url)) as worker:
        async with node("edge", tmp_path / "edge", **settings) as edge:
            await edge.offloads(25)
            assert await edge.stop() == 0, edge.log
        assert await worker.stop() == 0, worker.log
    records = edge.frame_records()
    remote = [record for record in records if record.outcome in OFFLOADED]
    assert len(remote) >= 25
    if policy != "adaptive":
        assert {record.point for record in remote} == {policy.removeprefix("static:")}
        assert {record.outcome for record in remote} == {Outcome.SPLIT}
    record = remote[-1]
    assert record.worker == "w-1" and record.reason and record.predicted_ms and record.uplink_bytes > 0
    spans = [row for row in edge.span_rows() + worker.span_rows() if row.trace_id == record.trace_id]
    ids = {row.span_id: row for row in spans}
    root = next(row for row in spans if row.parent_id is None)
    assert root.name == "frame" and root.service == "edge"
    tree = {
        (row.service, row.name, ids[row.parent_id].name if row.parent_id in ids else row.parent_id)
        for row in spans
        if row is not root
    }
    expected = {("edge", name, "frame") for name in ("decode", "preprocess", "decide", "encode", "offload", "emit")}
    expected |= {("cloud", "worker", "offload")}
    expected |= {("cloud", name, "worker") for name in ("queue", "decode", "tail", "postprocess")}
    if record.outcome is Outcome.SPLIT:
        expected |= {("edge", "head", "frame"), ("edge", "device_queue", "frame")}
    assert expected <= tree, tree
    offload, served = (next(row for row in spans if row.name == name) for name in ("offload", "worker"))
    slack_ns = 5_000_000  # each process has its own offset to wall clock
    assert offload.start_unix_ns - slack_ns <= served.start_unix_ns
    assert served.end_unix_ns <= offload.end_unix_ns + slack_ns
    facts = root.attributes
    assert facts["splitmesh.decision"] == record.point and facts["splitmesh.reason"] == record.reason
    assert facts["splitmesh.predicted_ms"] == pytest.approx(record.predicted_ms)
    assert facts["splitmesh.runners_up"] and facts["splitmesh.outcome"] == record.outcome.value
    await told(tmp_path / "edge", tmp_path / "cloud", record.seq, record.point, record.reason)


async def told(edge: Path, cloud: Path, seq: int, point: str, reason: str) -> None:
    """`splitmesh why` prints that story, with the worker's spans once its log lies with the run."""
    (cloud / "spans").rename(edge / "spans" / "cloud")
    said = await output("why", str(seq), "--from", str(edge))
    for word in (point, reason, "offload", "worker", "queue", "tail"):
        assert word.split()[0] in said, said
    as_json = json.loads(await output("why", str(seq), "--from", str(edge), "--json"))
    assert as_json["frame"]["seq"] == seq
    assert {"edge", "cloud"} == {span["service"] for span in as_json["spans"]}


async def output(*arguments: str) -> str:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "splitmesh.cli.main", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await child.communicate()
    assert child.returncode == 0, said.decode()
    return said.decode()


def sample(metrics: str, name: str, labels: str = "") -> float:
    found = re.search(rf"^{name}{re.escape(labels)} (\S+)$", metrics, re.MULTILINE)
    assert found, f"no {name}{labels} in {metrics}"
    return float(found[1])


async def agree(edge: Node) -> None:
    """Metrics and ledger say the same: asked again until no frame was settled between the two pages."""
    for _ in range(50):
        before = len(edge.outcomes())
        metrics = (await edge.get("/metrics"))[1]
        counts = (await edge.status())["counts"]
        if len(edge.outcomes()) == before:
            break
    shown = {o.value: sample(metrics, "splitmesh_frames_total", f'{{outcome="{o.value}"}}') for o in Outcome}
    assert shown == {name: count for name, count in counts.items() if name != "captured"}
    assert sum(shown.values()) == before


async def test_pages_of_both_ends_tell_the_truth(scene: Scene, broker: EmbeddedServer, tmp_path: Path) -> None:
    settings = scene.edge(nats_url=broker.url, policy=scene.split, duration_s=2.4)
    async with node("cloud", tmp_path / "cloud", ready=False, **scene.worker(nats_url=broker.url)) as worker:
        assert await worker.get("/healthz") == (200, "ok\n")
        assert await worker.get("/readyz") == (200, "ready\n")
        async with node("edge", tmp_path / "edge", **settings) as edge:
            assert await edge.get("/healthz") == (200, "ok\n")
            assert (await edge.get("/readyz"))[0] == 200
            await edge.offloads(12)
            code, metrics = await edge.get("/metrics")
            status = await edge.status()
            settled = len(edge.outcomes())
            assert code == 200
            by_outcome = {o: sample(metrics, "splitmesh_frames_total", f'{{outcome="{o.value}"}}') for o in Outcome}
            shown = sum(by_outcome.values())
            captured = sample(metrics, "splitmesh_captured_frames_total")
            assert 12 <= shown <= settled
            assert captured - sample(metrics, "splitmesh_in_flight_frames") == shown
            hits = sample(metrics, "splitmesh_deadline_hits_total")
            assert hits + sample(metrics, "splitmesh_deadline_misses_total") == shown
            assert status["broker"] == "connected" and status["finished"] is False
            assert status["counts"]["captured"] >= captured and status["uplink_bytes"] > 0
            total = sum(count for name, count in status["counts"].items() if name != "captured")
            assert total + status["in_flight"] == status["counts"]["captured"]
            await agree(edge)
            openmetrics = (await edge.get("/metrics", "application/openmetrics-text; version=1.0.0"))[1]
            assert openmetrics.endswith("# EOF\n") and "trace_id=" in openmetrics
            assert await edge.ended() == 0, edge.log
        served = sum(outcome in OFFLOADED for outcome in edge.outcomes())
        assert (await worker.status())["served"] >= served
        worker_metrics = (await worker.get("/metrics"))[1]
        assert "splitmesh_" in worker_metrics and "w-1" in json.dumps(await worker.status())
        assert await worker.stop() == 0, worker.log
    assert len(edge.frame_records()) == 36
