"""The page's live connection and its API over a real broker: what comes, when, and what a slow reader loses."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import simplejpeg
import websockets
from cloud_rig import until
from page_rig import POINTS, RecordingLab, ScriptedEdge, ScriptedWorker, Served, served_page

from splitmesh.v1 import control_pb2 as pb
from splitmesh.wire import subjects

Message = dict[str, Any]


@pytest.fixture
async def lab() -> RecordingLab:
    return RecordingLab()


@pytest.fixture
async def page(tmp_path: Path, lab: RecordingLab) -> AsyncIterator[Served]:
    async with served_page(tmp_path, lab=lab) as served:
        yield served


@pytest.fixture
async def cam(page: Served) -> AsyncIterator[ScriptedEdge]:
    edge = ScriptedEdge(page.bus, "cam")
    await edge.start()
    yield edge
    await edge.stop()


@pytest.fixture
async def client(page: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=page.url, headers={"origin": page.url}) as made:
        await made.get("/")
        made.headers["x-csrf-token"] = (await made.get("/api/session")).json()["csrf"]
        yield made


@asynccontextmanager
async def live(page: Served, client: httpx.AsyncClient, **options: Any) -> AsyncIterator[websockets.ClientConnection]:
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    address = f"ws://{page.host}/live"
    headers = {"cookie": cookies}
    async with websockets.connect(
        address, origin=websockets.Origin(page.url), additional_headers=headers, **options
    ) as socket:
        yield socket


async def receive(socket: websockets.ClientConnection, kind: str) -> Message:
    """The next message of that type; "preview" with its picture as "jpeg"."""
    async with asyncio.timeout(10):
        while True:
            raw = await socket.recv()
            if isinstance(raw, bytes):
                (length,) = struct.unpack_from(">I", raw)
                message = json.loads(raw[4 : 4 + length]) | {"jpeg": raw[4 + length :]}
            else:
                message = json.loads(raw)
            if message["type"] == kind:
                return dict(message)


async def test_the_fleet_shows_who_is_there_and_who_went(page: Served, cam: ScriptedEdge, client: Any) -> None:
    worker = ScriptedWorker(page.bus, "w-1")
    await worker.start()
    async with live(page, client) as socket:
        while not (seen := await receive(socket, "fleet"))["edges"] or not seen["workers"]:
            pass
        [edge], [shown] = seen["edges"], seen["workers"]
        assert (edge["name"], edge["health"], edge["deadline_ms"], edge["breaker"]) == ("cam", "alive", 150, "closed")
        assert sum(edge["decisions"].values()) == 125 and 0 < edge["link"]["low_bps"] < edge["link"]["bandwidth_bps"]
        assert (shown["name"], shown["health"], shown["wait_ms"]) == ("w-1", "alive", 2.4)
        assert seen["sums"]["decisions"] == edge["decisions"]
        await worker.stop()
        stopped_at = asyncio.get_running_loop().time()
        while (seen := await receive(socket, "fleet"))["workers"][0]["health"] != "gone":
            pass
        assert asyncio.get_running_loop().time() - stopped_at < 2.0
        assert seen["events"][0]["kind"] == "worker-gone" and seen["events"][0]["member"] == "w-1"


async def test_the_filter_leaves_other_edges_out_but_not_out_of_the_sums(
    page: Served, cam: ScriptedEdge, client: Any
) -> None:
    other = ScriptedEdge(page.bus, "yard")
    await other.start()
    try:
        async with live(page, client) as socket:
            await socket.send('{"type": "view", "filter": "YAR"}')
            while (seen := await receive(socket, "fleet"))["edges_found"] != 1 or seen["edges"][0]["name"] != "yard":
                pass
            while (seen := await receive(socket, "fleet"))["edge_health"]["alive"] != 2:
                pass
            assert seen["edges_found"] == 1 and sum(seen["sums"]["decisions"].values()) == 250
    finally:
        await other.stop()


async def test_watching_brings_frames_in_order_and_pictures_with_boxes(
    page: Served, cam: ScriptedEdge, client: Any
) -> None:
    async with live(page, client) as socket:
        await socket.send('{"type": "watch", "edge": "cam", "preview_fps": 5}')
        rows: list[Message] = []
        while len(rows) < 25:
            message = await receive(socket, "frames")
            assert message["edge"] == "cam"
            rows += message["rows"]
        numbers = [row["seq"] for row in rows]
        assert numbers == list(range(numbers[0], numbers[0] + len(rows)))
        said = {frame.frame_id: frame for frame in cam.frames}
        for row in rows:
            frame = said[row["id"]]
            assert (row["outcome"], row["hit"], row["bytes"]) == (
                frame.outcome,
                frame.deadline_hit,
                frame.uplink_bytes,
            )
            assert (row["latency_ms"] is None) == (not frame.HasField("latency_ms"))
        picture = await receive(socket, "preview")
        assert simplejpeg.decode_jpeg(picture["jpeg"]).shape == (360, 640, 3)
        assert [box[4:] for box in picture["boxes"]] == [[0.87, "person"], [0.55, "car"]]
        assert picture["boxes"][0][:4] == [0.22, 0.1, 0.45, 0.89]


async def test_leaving_an_edge_ends_what_comes_of_it_and_lets_its_lease_run_out(
    page: Served, cam: ScriptedEdge, client: Any
) -> None:
    async with live(page, client) as socket:
        await socket.send('{"type": "watch", "edge": "cam", "preview_fps": 5}')
        await receive(socket, "frames")
        await socket.send('{"type": "unwatch"}')
        await socket.send('{"type": "view", "filter": "nobody"}')
        while (await receive(socket, "fleet"))["edges_found"]:
            pass
        kinds = []
        while kinds.count("fleet") < 3:
            raw = await socket.recv()
            kinds.append("preview" if isinstance(raw, bytes) else json.loads(raw)["type"])
        assert set(kinds) == {"fleet"}


async def test_without_pictures_asked_for_none_come_though_somebody_else_has_them(
    page: Served, cam: ScriptedEdge, client: Any
) -> None:
    async with live(page, client) as sees, live(page, client) as blind:
        await sees.send('{"type": "watch", "edge": "cam", "preview_fps": 5}')
        await receive(sees, "preview")
        await blind.send('{"type": "watch", "edge": "cam", "preview_fps": 0}')
        frames = 0
        while frames < 5:
            raw = await blind.recv()
            assert not isinstance(raw, bytes)
            frames += json.loads(raw)["type"] == "frames"


async def test_an_edge_that_is_away_is_said_to_be_and_watched_once_it_comes(page: Served, client: Any) -> None:
    async with live(page, client) as socket:
        await socket.send('{"type": "watch", "edge": "late", "preview_fps": 0}')
        assert "late" in (await receive(socket, "watch"))["lost"]
        edge = ScriptedEdge(page.bus, "late")
        await edge.start()
        try:
            assert (await receive(socket, "frames"))["rows"][0]["id"].startswith("late.")
        finally:
            await edge.stop()


async def test_a_reader_that_stops_reading_loses_what_is_old_and_holds_up_nobody(
    page: Served, cam: ScriptedEdge, client: Any
) -> None:
    """Forty megabytes of pictures are far more than the system's own buffers hold."""
    pictures, size = 200, 200_000
    cam.sends_pictures = False
    async with live(page, client, max_queue=1) as slow, live(page, client) as quick:
        for socket in (slow, quick):
            await socket.send('{"type": "watch", "edge": "cam", "preview_fps": 1}')
            await receive(socket, "frames")
        for number in range(10_000, 10_000 + pictures):
            said = pb.Preview(edge_id="cam", frame_id=f"cam.r1.{number}", jpeg=os.urandom(size))
            await page.bus.publish(subjects.preview("default", "cam"), said.SerializeToString())
            while (await receive(quick, "preview"))["frame"] != said.frame_id:
                pass
        seen = []
        while not seen or seen[-1] != f"cam.r1.{10_000 + pictures - 1}":
            seen.append((await receive(slow, "preview"))["frame"])
        assert len(seen) < pictures / 2


async def test_a_story_has_words_and_the_spans_of_both_processes_on_one_clock(
    page: Served, cam: ScriptedEdge, client: Any
) -> None:
    worker = ScriptedWorker(page.bus, "w-1")
    await worker.start()
    try:
        frame = next(frame for frame in cam.frames if frame.worker_id)
        story = (await client.get(f"/api/frames/{frame.frame_id}")).json()
    finally:
        await worker.stop()
    assert story["words"][0].startswith("SPLIT@n37-64x19x19 temporal-") or story["words"][0].startswith("FRAME")
    assert "LOCAL would have missed by 42 ms with p=0.93." in story["words"]
    spans = {(span["service"], span["name"]): span for span in story["spans"]}
    offload, served = spans["edge", "offload"], spans["cloud", "worker"]
    assert served["moved_ms"] < -6_900
    assert offload["start_ms"] <= served["start_ms"]
    assert served["start_ms"] + served["duration_ms"] <= offload["start_ms"] + offload["duration_ms"]
    assert served["depth"] == offload["depth"] + 1


async def test_points_policy_and_frames_are_what_the_edge_says(page: Served, cam: ScriptedEdge, client: Any) -> None:
    points = (await client.get("/api/edges/cam/points")).json()["points"]
    assert [(each["name"], each["bytes"]) for each in points] == [(point[0], point[4]) for point in POINTS]
    policy = (await client.get("/api/edges/cam/policy")).json()
    assert (policy["policy"], policy["deadline_ms"], policy["changes"]) == ("adaptive", 150, [])
    rows = (await client.get("/api/edges/cam/recent")).json()["rows"]
    assert len(rows) == 500 and rows[0]["seq"] < rows[-1]["seq"]


async def test_what_if_changes_nothing_and_applying_it_does(page: Served, cam: ScriptedEdge, client: Any) -> None:
    answer = (await client.post("/api/edges/cam/what-if", json={"deadline_ms": 40})).json()
    assert answer["then"]["chosen"]["point"] == "track" != answer["now"]["chosen"]["point"]
    assert cam.deadline_ms == 150 and not cam.changes
    assert (await client.post("/api/edges/cam/policy", json={"policy": "local-only"})).json()[
        "policy"
    ] == "local-only"
    assert cam.policy == "local-only" and cam.changes[0].actor == "anyone"


async def test_what_an_edge_refuses_is_told_with_the_field(page: Served, cam: ScriptedEdge, client: Any) -> None:
    reply = await client.post("/api/edges/cam/policy", json={"policy": "nonsense"})
    assert (reply.status_code, reply.json()["field"]) == (422, "policy")
    assert "nonsense" in reply.json()["error"] and cam.policy == "adaptive"


async def test_the_lab_is_told_what_to_do_within_bounds(page: Served, lab: RecordingLab, client: Any) -> None:
    for action, body in (
        ("bend-link", {"factor": 0.1, "seconds": 5}),
        ("kill-worker", {"worker": "w-1"}),
        ("restart-worker", {"worker": "w-1"}),
        ("slow-edge", {"edge": "cam", "factor": 5}),
    ):
        assert (await client.post(f"/api/lab/{action}", json=body)).status_code == 200
    assert lab.done == [("bend", 0.1, 5), ("kill", "w-1"), ("restart", "w-1"), ("slow", "cam", 5)]
    for action, body in (("bend-link", {"factor": 0, "seconds": 5}), ("kill-worker", {"worker": "a b"}), ("x", {})):
        assert (await client.post(f"/api/lab/{action}", json=body)).status_code in (400, 404)
    assert len(lab.done) == 4


async def test_without_a_lab_there_is_nothing_to_do(tmp_path: Path) -> None:
    async with served_page(tmp_path) as page, httpx.AsyncClient(base_url=page.url) as client:
        await client.get("/")
        session = (await client.get("/api/session")).json()
        headers = {"origin": page.url, "x-csrf-token": session["csrf"]}
        reply = await client.post("/api/lab/kill-worker", json={"worker": "w-1"}, headers=headers)
    assert session["lab"] is False and reply.status_code == 404


async def test_a_browser_that_leaves_leaves_nothing_behind(page: Served, cam: ScriptedEdge, client: Any) -> None:
    """The leak check of every test looks for tasks; here the count of connections and the lease are looked at."""
    async with live(page, client) as socket:
        await socket.send('{"type": "watch", "edge": "cam", "preview_fps": 5}')
        await receive(socket, "frames")
    before = len(cam.commands)
    await until(lambda: not any(task.get_name().startswith("lease") for task in asyncio.all_tasks()))
    assert len(cam.commands) == before
