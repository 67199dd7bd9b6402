"""Who gets into the page and who does not, over real HTTP and WebSockets: refusals are answered, logged, counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import websockets
from page_rig import ScriptedEdge, ScriptedWorker, Served, served_page

from splitmesh.gateway.page.changes import MAX_BODY_BYTES
from splitmesh.gateway.page.live import LOGGED_OUT, MAX_LIVE
from splitmesh.gateway.page.sessions import MAX_FAILURES
from splitmesh.gateway.tokens import Account, entry, new_token

ACME, OTHER = new_token(), new_token()
TOKENS = {ACME: Account("acme", "alice"), OTHER: Account("other", "bob")}


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_page(tmp_path, tokens=TOKENS) as served:
        yield served


@pytest.fixture
async def open_page(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_page(tmp_path) as served:
        yield served


def browser(page: Served) -> httpx.AsyncClient:
    """With a cookie jar, and an Origin on every request as browsers send one with a POST."""
    return httpx.AsyncClient(base_url=page.url, headers={"origin": page.url})


async def log_in(client: httpx.AsyncClient, token: str) -> str:
    """The session's own token."""
    reply = await client.post("/login", data={"token": token})
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    return str((await client.get("/api/session")).json()["csrf"])


async def test_the_token_opens_a_session_that_no_script_can_read(page: Served) -> None:
    async with browser(page) as client:
        assert (await client.get("/")).headers["location"] == "/login"
        reply = await client.post("/login", data={"token": f" {ACME}\n"})
        cookie = reply.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
        assert ACME not in cookie
        session = (await client.get("/api/session")).json()
        assert (session["tenant"], session["actor"]) == ("acme", "alice")


@pytest.mark.parametrize("token", ["", "smt_wrong", "x" * 10_000, "\x00"])
async def test_a_wrong_token_is_refused_and_told_apart_from_no_other(
    page: Served, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with browser(page) as client:
        with caplog.at_level(logging.WARNING):
            reply = await client.post("/login", data={"token": token})
        assert (reply.status_code, reply.headers["location"]) == (303, "/login?wrong")
        assert "set-cookie" not in reply.headers
    assert page.refused == {"token": 1}
    assert "token" in caplog.text and (not token.strip("\x00") or token not in caplog.text)


async def test_guessing_is_locked_out_the_right_token_too(page: Served) -> None:
    async with browser(page) as client:
        for _ in range(MAX_FAILURES):
            await client.post("/login", data={"token": "guess"})
        reply = await client.post("/login", data={"token": ACME})
    assert reply.status_code == 429
    assert page.refused == {"token": MAX_FAILURES, "locked": 1}


@pytest.mark.parametrize("path", ["/api/session", "/api/edges/cam/points", "/api/frames/cam.r1.1"])
async def test_without_a_session_nothing_is_told(page: Served, path: str) -> None:
    async with browser(page) as client:
        reply = await client.get(path)
    assert reply.status_code == 401 and reply.json() == {"error": "no-session", "kind": "no-session"}
    assert page.refused == {"no-session": 1}


async def test_logging_out_ends_the_session_for_every_tab(page: Served) -> None:
    async with browser(page) as client:
        csrf = await log_in(client, ACME)
        async with live(page, client) as socket:
            assert (await client.post("/logout", headers={"x-csrf-token": csrf})).status_code == 200
            assert (await client.get("/api/session")).status_code == 401
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    await socket.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == LOGGED_OUT


async def test_a_token_that_is_taken_back_ends_its_sessions_and_no_others(page: Served, tmp_path: Path) -> None:
    async with browser(page) as alice, browser(page) as bob:
        await log_in(alice, ACME)
        await log_in(bob, OTHER)
        async with live(page, alice) as socket:
            await socket.recv()
            await asyncio.to_thread((tmp_path / "tokens.toml").write_text, entry(OTHER, TOKENS[OTHER]))
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    await socket.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == LOGGED_OUT
        assert (await alice.get("/api/session")).status_code == 401
        assert (await bob.get("/api/session")).status_code == 200


def live(page: Served, client: httpx.AsyncClient | None = None, origin: str | None = None) -> websockets.connect:
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items()) if client else ""
    return websockets.connect(
        f"ws://{page.host}/live",
        origin=websockets.Origin(page.url if origin is None else origin),
        additional_headers={"cookie": cookies} if cookies else {},
    )


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "file://", "http://[:"])
async def test_a_websocket_of_another_site_is_refused_though_the_browser_sends_the_cookie(
    page: Served, origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with browser(page) as client:
        await log_in(client, ACME)
        with caplog.at_level(logging.WARNING), pytest.raises(websockets.InvalidStatus) as refused:
            async with live(page, client, origin):
                pass
    assert refused.value.response.status_code == 403
    assert page.refused == {"origin": 1}
    assert "'/live'" in caplog.text and "origin" in caplog.text


async def test_a_websocket_without_a_session_is_refused(page: Served) -> None:
    with pytest.raises(websockets.InvalidStatus):
        async with live(page):
            pass
    assert page.refused == {"no-session": 1}


async def test_one_tenant_never_sees_anothers_edges_nor_frames(page: Served) -> None:
    edge = ScriptedEdge(page.bus, "cam", tenant="other")
    worker = ScriptedWorker(page.bus, "w-1", tenant="other")
    await edge.start()
    await worker.start()
    try:
        async with browser(page) as bob, browser(page) as alice:
            await log_in(bob, OTHER)
            async with live(page, bob) as socket:
                while not (seen := await fleet(socket))["edges"] or not seen["workers"]:
                    pass
            story = await bob.get("/api/frames/cam.r1.400")
            assert story.status_code == 200 and story.json()["frame"]["id"] == "cam.r1.400"
            csrf = await log_in(alice, ACME)
            async with live(page, alice) as socket:
                for _ in range(3):
                    seen = await fleet(socket)
                    assert (seen["edges"], seen["workers"], seen["events"]) == ([], [], [])
            asked = len(edge.commands)
            for path in ("/api/frames/cam.r1.400", "/api/edges/cam/recent", "/api/edges/cam/points"):
                assert (await alice.get(path)).status_code == 404
            reply = await alice.post("/api/edges/cam/policy", json={"deadline_ms": 9}, headers={"x-csrf-token": csrf})
            assert reply.status_code == 404
            assert len(edge.commands) == asked and edge.deadline_ms == 150
    finally:
        await edge.stop()
        await worker.stop()


async def fleet(socket: websockets.ClientConnection) -> dict[str, list[object]]:
    while True:
        message = json.loads(await socket.recv())
        if message["type"] == "fleet":
            return dict(message)


async def test_what_changes_something_needs_the_sessions_own_token(page: Served) -> None:
    edge = ScriptedEdge(page.bus, "cam", tenant="acme")
    await edge.start()
    try:
        async with browser(page) as client:
            csrf = await log_in(client, ACME)
            body = {"deadline_ms": 90}
            for header in ({}, {"x-csrf-token": "x"}, {"x-csrf-token": csrf[:-1]}, {"x-csrf-token": "é"}):
                raw = {name: value.encode() for name, value in header.items()}
                reply = await client.post("/api/edges/cam/policy", json=body, headers=raw)
                assert (reply.status_code, reply.json()["kind"]) == (403, "csrf")
            assert edge.deadline_ms == 150 and page.refused == {"csrf": 4}
            reply = await client.post("/api/edges/cam/policy", json=body, headers={"x-csrf-token": csrf})
            assert reply.status_code == 200 and edge.deadline_ms == 90
            assert reply.json()["changes"][0]["actor"] == edge.changes[0].actor == "alice"
    finally:
        await edge.stop()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", None])
async def test_a_post_of_another_site_is_refused(page: Served, origin: str | None) -> None:
    async with httpx.AsyncClient(base_url=page.url) as client:
        headers = {} if origin is None else {"origin": origin}
        reply = await client.post("/login", data={"token": ACME}, headers=headers)
    assert (reply.status_code, reply.json()["kind"]) == (403, "origin")
    assert page.refused == {"origin": 1}


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../app.py",
        "/assets/%2e%2e/app.py",
        "/assets/..%2fapp.py",
        "/assets/....//....//etc/passwd",
        "/assets//etc/passwd",
        "/assets/js/..%5c..%5capp.py",
        "/assets/js/main.js%00.css",
        "/assets/js",
        "/assets/",
        "/nothing",
    ],
)
async def test_no_path_leads_out_of_the_pages_own_files(page: Served, path: str) -> None:
    async with browser(page) as client:
        reply = await client.send(httpx.Request("GET", httpx.URL(page.url).copy_with(raw_path=path.encode())))
    assert reply.status_code == 404 and b"Owns" not in reply.content and b"root:" not in reply.content
    assert page.refused == {"path": 1}


async def test_a_body_that_is_too_large_is_not_read_to_its_end(page: Served) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * MAX_BODY_BYTES:
            sent += 1024
            yield b"x" * 1024

    async with browser(page) as client:
        csrf = await log_in(client, ACME)
        reply = await client.post("/login", data={"token": "x" * (MAX_BODY_BYTES + 1)})
        assert reply.status_code == 413
        with contextlib.suppress(httpx.TransportError):
            reply = await client.post("/api/edges/cam/policy", content=endless(), headers={"x-csrf-token": csrf})
            assert reply.status_code == 413
    assert page.refused == {"too-large": 2}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("[]", "object"),
        ("{", "JSON"),
        ("[" * 10_000, "JSON"),
        ('{"deadline_ms": 0}', "1 to 60000"),
        ('{"deadline_ms": NaN}', "number"),
        ('{"deadline_ms": 1e999}', "number"),
        ('{"deadline_ms": 1%s}' % ("0" * 400), "1 to 60000"),
        ('{"deadline_ms": true}', "number"),
        ('{"deadline_ms": "90"}', "number"),
        ('{"uplink_budget_bps": -1}', "0 to"),
        ('{"policy": ""}', "policy"),
        ('{"policy": "a\\nb"}', "policy"),
        ('{"polcy": "adaptive"}', "polcy"),
    ],
)
async def test_a_malformed_change_never_reaches_an_edge(page: Served, body: str, says: str) -> None:
    edge = ScriptedEdge(page.bus, "cam", tenant="acme")
    await edge.start()
    try:
        async with browser(page) as client:
            headers = {"x-csrf-token": await log_in(client, ACME)}
            reply = await client.post("/api/edges/cam/policy", content=body, headers=headers)
        assert (reply.status_code, reply.json()["kind"]) == (400, "bad-request") and says in reply.json()["error"]
        assert not edge.commands and page.refused == {"bad-request": 1}
    finally:
        await edge.stop()


async def test_every_answer_forbids_what_the_page_does_not_need(page: Served) -> None:
    async with browser(page) as client:
        for path in ("/", "/login", "/api/session", "/assets/js/main.js", "/nothing"):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
            assert headers["x-content-type-options"] == "nosniff" and "frame-ancestors 'none'" in policy
        for name in ("/login", "/assets/js/main.js"):
            text = (await client.get(name)).text
            assert "style=" not in text and "onclick=" not in text and "<script>" not in text


async def test_an_open_page_answers_to_the_names_of_this_machine_alone(open_page: Served) -> None:
    """Or a site that points its own name here (DNS rebinding) could read the mesh from a browser on this machine."""
    port = open_page.host.rpartition(":")[2]
    async with httpx.AsyncClient(base_url=open_page.url) as client:
        for host in (f"evil.example:{port}", "evil.example", f"127.0.0.1.evil.example:{port}", "["):
            reply = await client.get("/", headers={"host": host})
            assert (reply.status_code, "set-cookie" in reply.headers) == (421, False)
        assert open_page.refused == {"host": 4}
        reply = await client.get("/", headers={"host": f"localhost:{port}"})
        assert reply.status_code == 200 and "set-cookie" in reply.headers


async def test_what_no_page_of_ours_sends_ends_the_connection(open_page: Served) -> None:
    async with browser(open_page) as client:
        await client.get("/")
        for message in (
            "{",
            "[]",
            '{"type": "x"}',
            '{"type": "watch", "edge": "a.b", "preview_fps": 1}',
            "x" * 20_000,
        ):
            async with live(open_page, client) as socket:
                await socket.send(message)
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    while True:
                        await socket.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
    assert open_page.refused == {"bad-request": 4, "too-large": 1}


async def test_there_are_only_so_many_live_connections(open_page: Served) -> None:
    async with browser(open_page) as client, contextlib.AsyncExitStack() as sockets:
        await client.get("/")
        for _ in range(MAX_LIVE):
            socket = await sockets.enter_async_context(live(open_page, client))
            await socket.recv()
        with pytest.raises(websockets.InvalidStatus):
            await sockets.enter_async_context(live(open_page, client))
    assert open_page.refused == {"crowded": 1}
    async with browser(open_page) as client:
        await client.get("/")
        async with live(open_page, client) as socket:
            assert (await fleet(socket))["type"] == "fleet"
