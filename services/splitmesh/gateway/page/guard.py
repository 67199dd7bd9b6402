"""Owns what every request must satisfy before anything looks at it, and what every answer says to the browser."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from splitmesh.gateway.page.refusals import STATUS, Refusal, Refusals, Refused

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Content-Security-Policy: nothing but the page's own files, and none of it inline."""
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_SAFE = frozenset({"GET", "HEAD"})


class Guard:
    """ASGI middleware. `hosts`: the only names the page answers to; None: any, as sessions are bound to the name."""

    def __init__(self, app: ASGIApp, *, refusals: Refusals, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._refusals = refusals
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            check(scope, self._hosts)
        except Refused as refused:
            self._refusals.tell(refused.refusal, path=scope["path"], peer=peer_of(scope), detail=refused.detail)
            await _refuse(refused, scope, receive, send)
            return
        await self._app(scope, receive, _with_headers(send) if scope["type"] == "http" else send)


def check(scope: Scope, hosts: frozenset[str] | None) -> None:
    """Raises Refused: the request came by a foreign name, or from another site's page.

    Browsers name the page that asks in `Origin` with each WebSocket and with each request that may change something.
    A request of that kind without it comes from no browser that we know, and is refused too.
    """
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if hosts is not None and _name_of(host) not in hosts:
        raise Refused(Refusal.HOST, host)
    if scope["type"] == "http" and scope["method"] in _SAFE:
        return
    origin = headers.get("origin", "")
    if not host or _authority_of(origin) != host.lower():
        raise Refused(Refusal.ORIGIN, origin or "none")


def peer_of(scope: MutableMapping[str, Any]) -> str:
    """Address of who asks, "?" where the transport does not say."""
    client = scope.get("client")
    return str(client[0]) if client else "?"


def error(refusal: Refusal, detail: str = "") -> JSONResponse:
    """What the browser is told of a refusal: its kind, and a detail that holds nothing of others."""
    body = {"error": detail or refusal.value, "kind": refusal.value}
    return JSONResponse(body, STATUS[refusal], {"cache-control": "no-store"})


async def _refuse(refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": refused.refusal.value})
        return
    await error(refused.refusal)(scope, receive, _with_headers(send))


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return sending


def _name_of(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _authority_of(origin: str) -> str:
    """`host[:port]` of an origin; "" for "null" and for what is none."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""


def cookie_is_secure(connection: HTTPConnection) -> bool:
    """The browser must send the cookie over TLS alone: it came over TLS itself."""
    return connection.url.scheme in ("https", "wss")
