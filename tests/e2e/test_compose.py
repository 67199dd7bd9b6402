"""The compose mesh for real: two brokers, TLS, an emulated uplink; the hub dies and comes back, nothing is lost."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from compose_mesh import ComposeMesh, need_images
from tools.compose_smoke import edge_status, remote, summary, unaccounted, wait_for

FRAMES = 500
OUTAGE_S = 20.0
SERVICES = ("hub", "leaf", "link", "worker-1", "worker-2", "gateway", "edge")
WORKER_PORT = 9465
RESULTS = "/var/lib/splitmesh/results.jsonl"
KNOBS = {
    "LINK": "lte",
    "EDGE_SLOWDOWN": "20",  # too slow to answer alone in time, so that workers are worth asking on any machine
    "DEADLINE": "600ms",
    "MAX_FPS": "5",
    "RESULTS": RESULTS,
}


@pytest.mark.timeout(900)
def test_nothing_is_lost_when_workers_restart_and_when_the_hub_goes_for_twenty_seconds(tmp_path: Path) -> None:
    need_images()
    with ComposeMesh(SERVICES, **KNOBS) as mesh:
        results_flow(mesh)
        restart_the_workers(mesh)
        outlive_the_hub(mesh, tmp_path)
    assert mesh.leftovers() == {"containers": [], "networks": [], "volumes": []}


def results_flow(mesh: ComposeMesh) -> None:
    flowing = wait_for(
        mesh.edge_port, f"{FRAMES} frames, some answered by workers",
        lambda status: status["captured"] >= FRAMES and remote(status) > 0, seconds=420,
    )  # fmt: skip
    print(f"\nflow:   {summary(flowing)}")
    assert mesh.leaf_is_connected()
    assert mesh.edges_at_the_gateway() == ["edge"]


def restart_the_workers(mesh: ComposeMesh) -> None:
    """One after the other, as an upgrade does: the other serves meanwhile, and no frame goes without an answer."""
    for worker in ("worker-1", "worker-2"):
        before = edge_status(mesh.edge_port)
        assert before is not None
        mesh.run("stop", "--time", "20", mesh.container(worker))
        assert mesh.exit_status(worker) == 0
        mesh.run("start", mesh.container(worker))
        started_at = time.monotonic()
        while not mesh.is_ready(worker, WORKER_PORT):
            assert time.monotonic() < started_at + 120, f"{worker} is not ready again"
        after = wait_for(
            mesh.edge_port, "remote answers", lambda status, before=before: remote(status) >= remote(before) + 10,
            seconds=60,
        )  # fmt: skip
        print(f"{worker}: {summary(after)}; ready {time.monotonic() - started_at:.1f} s after its start")
        unanswered = {name: after["counts"][name] - before["counts"][name] for name in ("shed", "expired")}
        assert unanswered == {"shed": 0, "expired": 0}


def outlive_the_hub(mesh: ComposeMesh, folder: Path) -> None:
    before = edge_status(mesh.edge_port)
    assert before is not None
    mesh.run("kill", mesh.container("hub"))
    gone_at = time.monotonic()
    wait_for(mesh.edge_port, "the edge gives the workers up", lambda status: status["breaker"] == "open", seconds=60)
    during = wait_for(
        mesh.edge_port, "twenty seconds", lambda _: time.monotonic() - gone_at >= OUTAGE_S, seconds=OUTAGE_S + 5
    )
    print(f"during: {summary(during)}")
    assert during["broker"] == "connected"  # the leaf is up, whatever became of the uplink
    assert during["captured"] > before["captured"]

    mesh.run("start", mesh.container("hub"))
    back_at = time.monotonic()
    after = wait_for(
        mesh.edge_port, "workers answer again",
        lambda status: status["breaker"] == "closed" and remote(status) >= remote(during) + 10, seconds=120,
    )  # fmt: skip
    print(f"after:  {summary(after)}; 10 remote answers {time.monotonic() - back_at:.1f} s after the hub's start")
    assert unaccounted(after) == 0
    assert mesh.leaf_is_connected()

    mesh.run("stop", "--time", "30", mesh.container("edge"))
    assert mesh.exit_status("edge") == 0  # it ends with 1 where a frame has no outcome
    rows = [json.loads(line) for line in mesh.read("edge", RESULTS, folder / "results.jsonl").splitlines()]
    print(f"lines:  {len(rows)}, {dict(Counter(row['outcome'] for row in rows))}")
    assert len(rows) >= after["captured"]
    assert sorted(row["seq"] for row in rows) == list(range(len(rows)))
