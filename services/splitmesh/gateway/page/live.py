"""Owns the page's WebSocket: the fleet a few times a second, and what one edge shows while somebody looks at it.

The browser sends JSON: `{"type": "view", "filter": text}` chooses what of the fleet it sees, `{"type": "watch",
"edge": name, "preview_fps": n}` an edge, `{"type": "unwatch"}` none. It gets JSON of `type` "fleet", "frames" and
"watch", and pictures as bytes: the length of a JSON head (4 bytes, big endian), the head, a JPEG.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from collections.abc import Coroutine
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from splitmesh.errors import MeshError
from splitmesh.gateway.page import forms
from splitmesh.gateway.page.changes import json_object, name, number, only
from splitmesh.gateway.page.desk import Desk
from splitmesh.gateway.page.fleet_form import fleet_form
from splitmesh.gateway.page.guard import peer_of
from splitmesh.gateway.page.outlet import Outlet
from splitmesh.gateway.page.refusals import Refusal, Refused
from splitmesh.gateway.page.sessions import Session
from splitmesh.gateway.watching import Watched
from splitmesh.v1 import control_pb2 as pb

MAX_LIVE = 64
"""WebSockets at once, of all tenants."""
FLEET_PERIOD_S = 0.4
_WATCH_RETRY_S = 1.0
_MAX_PREVIEW_FPS = 15
_MAX_FILTER_CHARS = 64
LOGGED_OUT = 4401
"""WebSocket close code: the session has ended."""


async def live(websocket: WebSocket, desk: Desk) -> None:
    """Serve one browser until it leaves, its session ends, or it sends what no page of ours does."""
    session = desk.session(websocket)
    if desk.live >= MAX_LIVE:
        raise Refused(Refusal.CROWDED, f"{desk.live} connections")
    desk.live += 1
    try:
        await websocket.accept()
        await _Live(websocket, desk, session).run()
    finally:
        desk.live -= 1


class _Live:
    """One browser's connection."""

    def __init__(self, websocket: WebSocket, desk: Desk, session: Session) -> None:
        self._websocket = websocket
        self._desk = desk
        self._session = session
        self._outlet = Outlet()
        self._filter = ""
        self._looked = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def run(self) -> None:
        tasks = [asyncio.create_task(part) for part in self._parts()]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await self._part(done)
        finally:
            await _end([*tasks, *([self._watching] if self._watching else [])])

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        return [self._read(), self._send(), self._tell_fleet()]

    async def _part(self, done: set[asyncio.Task[None]]) -> None:
        """Close as the part that ended first says."""
        for task in done:
            exc = task.exception()
            if isinstance(exc, Refused):
                self._desk.refusals.tell(
                    exc.refusal, path="/live", peer=peer_of(self._websocket.scope), detail=exc.detail
                )
                await self._close(1008, exc.refusal.value)
            elif exc is not None and not isinstance(exc, WebSocketDisconnect):
                await self._close(1011, "internal error")
                raise exc

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._websocket.close(code, reason)

    async def _read(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            asked = json_object(message.get("text") or "")
            kind = asked.pop("type", None)
            if kind == "view":
                only(asked, "filter")
                self._filter = str(asked.get("filter", ""))[:_MAX_FILTER_CHARS]
                self._looked.set()
            elif kind == "watch":
                only(asked, "edge", "preview_fps")
                await self._watch(name(asked.get("edge"), "edge"), number(asked, "preview_fps", 0, _MAX_PREVIEW_FPS))
            elif kind == "unwatch":
                only(asked)
                await self._unwatch()
            else:
                raise Refused(Refusal.BAD_REQUEST, "unknown type")

    async def _send(self) -> None:
        while True:
            message = await self._outlet.next()
            if isinstance(message, bytes):
                await self._websocket.send_bytes(message)
            else:
                await self._websocket.send_text(message)

    async def _tell_fleet(self) -> None:
        """Ends, and with it the connection, when the session does."""
        while True:
            now_ns = time.monotonic_ns()
            if self._desk.found(self._websocket) is None:
                await self._close(LOGGED_OUT, "session ended")
                return
            account = self._session.account
            self._outlet.put("fleet", fleet_form(self._desk.state.fleet, account.tenant, now_ns, self._filter))
            self._looked.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._looked.wait(), FLEET_PERIOD_S)

    async def _watch(self, edge: str, preview_fps: float) -> None:
        await self._unwatch()
        self._watching = asyncio.create_task(self._follow(edge, preview_fps))

    async def _unwatch(self) -> None:
        if self._watching is not None:
            await _end([self._watching])
            self._watching = None
        self._outlet.forget_edge()

    async def _follow(self, edge: str, preview_fps: float) -> None:
        """Pass on what the edge says; when it is away, ask again until it is back."""
        request = pb.WatchRequest(frames=True, preview_fps=preview_fps, preview_px=640)
        account = self._session.account
        while True:
            detail = "the edge said nothing more"
            try:
                async for said in self._desk.state.watch(account.tenant, edge, request, actor=account.actor):
                    self._pass_on(edge, said, pictures=preview_fps > 0)
            except MeshError as exc:
                detail = str(exc)
            self._outlet.put("watch", {"type": "watch", "edge": edge, "lost": detail})
            await asyncio.sleep(_WATCH_RETRY_S)

    def _pass_on(self, edge: str, said: Watched, *, pictures: bool) -> None:
        """An edge sends pictures to all who watch it if one of them asked for some."""
        if isinstance(said, pb.Preview):
            if not pictures:
                return
            head = json.dumps(forms.preview_form(said), separators=(",", ":")).encode()
            self._outlet.put("preview", struct.pack(">I", len(head)) + head + said.jpeg)
        else:
            rows = [forms.frame_form(frame) for frame in said.frames]
            self._outlet.put_frames(edge, rows, left_out=said.left_out)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
