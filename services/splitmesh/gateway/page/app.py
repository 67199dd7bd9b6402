"""Owns the page as a web application: its files, login and logout, the API and the live connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from splitmesh.errors import MeshError
from splitmesh.gateway.page.api import Api, mesh_error
from splitmesh.gateway.page.assets import Asset, load_assets
from splitmesh.gateway.page.desk import Desk, body_of, cookie_name
from splitmesh.gateway.page.guard import LOOPBACK, Guard, error, peer_of
from splitmesh.gateway.page.live import live
from splitmesh.gateway.page.refusals import Refusal, Refusals, Refused
from splitmesh.gateway.page.sessions import Sessions
from splitmesh.gateway.state import GatewayState
from splitmesh.settings.model import GatewaySettings

_log = logging.getLogger(__name__)


class Page:
    """Endpoints that are no JSON."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._assets = load_assets()

    async def index(self, request: Request) -> Response:
        """The page; where no tokens are asked for, a session with it."""
        if self._desk.found(request) is not None:
            return self._file(request, "index.html")
        account = self._desk.state.open_account
        if account is None:
            return RedirectResponse("/login", 303)
        response = self._file(request, "index.html")
        self._desk.log_in(request, response, self._desk.sessions.open(account, time.monotonic_ns()))
        return response

    async def login_form(self, request: Request) -> Response:
        if self._desk.state.open_account is not None:
            return RedirectResponse("/", 303)
        return self._file(request, "login.html")

    async def log_in(self, request: Request) -> Response:
        """Form field `token`. The answer to a wrong one says nothing of which tokens there are."""
        peer, now_ns = peer_of(request.scope), time.monotonic_ns()
        if self._desk.sessions.locked(peer, now_ns):
            raise Refused(Refusal.LOCKED)
        fields = parse_qs((await body_of(request)).decode("utf-8", "replace"), max_num_fields=4)
        token = fields.get("token", [""])[0].strip()
        account = self._desk.state.account(token)
        if account is None:
            self._desk.sessions.failed(peer, now_ns)
            self._desk.refusals.tell(Refusal.TOKEN, path="/login", peer=peer)
            return RedirectResponse("/login?wrong", 303)
        self._desk.sessions.close(request.cookies.get(cookie_name(request), ""))
        response = RedirectResponse("/", 303)
        session = self._desk.sessions.open(account, now_ns, holds=lambda: self._desk.state.account(token) == account)
        self._desk.log_in(request, response, session)
        return response

    async def log_out(self, request: Request) -> Response:
        self._desk.sessions.close(self._desk.writing_session(request).session_id)
        response = PlainTextResponse("logged out\n")
        response.delete_cookie(cookie_name(request))
        return response

    async def asset(self, request: Request) -> Response:
        path = request.path_params["path"]
        if path not in self._assets:
            raise Refused(Refusal.PATH, path)
        return self._file(request, path)

    def _file(self, request: Request, path: str) -> Response:
        asset: Asset = self._assets[path]
        headers = {"etag": asset.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        return Response(asset.body, headers=headers, media_type=asset.media_type)


def page_app(
    state: GatewayState, settings: GatewaySettings, *, count_refusal: Callable[[str], None] = lambda _: None
) -> Starlette:
    """The page, to be served by an ASGI server that has WebSockets. `count_refusal` is told each Refusal's value.

    Where everybody is let in (`state.open_account`) and only this machine can connect, the page answers to the names
    of loopback alone: another site could otherwise point its own name here and read everything (DNS rebinding).
    """
    desk = Desk(state, Refusals(count_refusal), Sessions())
    page, api = Page(desk), Api(desk)
    hosts = LOOPBACK if settings.web_host in LOOPBACK and state.open_account is not None else None

    async def on_refused(connection: HTTPConnection, exc: Exception) -> Response:
        return await _on_refused(desk, connection, exc)

    async def on_live(websocket: WebSocket) -> None:
        await live(websocket, desk)

    app = Starlette(
        routes=[
            Route("/", page.index),
            Route("/login", page.login_form),
            Route("/login", page.log_in, methods=["POST"]),
            Route("/logout", page.log_out, methods=["POST"]),
            Route("/assets/{path:path}", page.asset),
            WebSocketRoute("/live", on_live),
            *api.routes(),
        ],
        middleware=[Middleware(Guard, refusals=desk.refusals, hosts=hosts)],
        exception_handlers={
            Refused: on_refused,
            HTTPException: on_refused,
            MeshError: mesh_error,
            Exception: _failed,
        },
    )
    app.state.desk = desk
    return app


async def _on_refused(desk: Desk, connection: HTTPConnection, exc: Exception) -> Response:
    refused = exc if isinstance(exc, Refused) else Refused(_OF_STATUS.get(_status(exc), Refusal.BAD_REQUEST))
    peer = peer_of(connection.scope)
    desk.refusals.tell(refused.refusal, path=connection.scope["path"], peer=peer, detail=refused.detail)
    if isinstance(connection, WebSocket):
        await connection.close(1008, refused.refusal.value)
    return error(refused.refusal, "" if refused.refusal is Refusal.PATH else refused.detail)


_OF_STATUS = {404: Refusal.PATH, 405: Refusal.METHOD}


def _status(exc: Exception) -> int:
    return exc.status_code if isinstance(exc, HTTPException) else 0


async def _failed(request: Request, exc: Exception) -> Response:
    _log.error("page %s failed", request.url.path, exc_info=exc)
    return PlainTextResponse("internal error\n", 500)
