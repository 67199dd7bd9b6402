"""Owns what the endpoints of the page share: the gateway's state, the sessions, and who may ask."""

from __future__ import annotations

import time
from dataclasses import dataclass

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from splitmesh.gateway.page.changes import MAX_BODY_BYTES
from splitmesh.gateway.page.guard import cookie_is_secure
from splitmesh.gateway.page.refusals import Refusal, Refusals, Refused
from splitmesh.gateway.page.sessions import SESSION_S, Session, Sessions, same
from splitmesh.gateway.state import GatewayState

_COOKIE = "splitmesh_session"
CSRF_HEADER = "x-csrf-token"


@dataclass(slots=True)
class Desk:
    """One per page."""

    state: GatewayState
    refusals: Refusals
    sessions: Sessions
    live: int = 0
    """Open WebSockets."""

    def found(self, connection: HTTPConnection) -> Session | None:
        """The session of whoever asks; None: nobody is logged in there."""
        return self.sessions.find(connection.cookies.get(cookie_name(connection), ""), time.monotonic_ns())

    def session(self, connection: HTTPConnection) -> Session:
        """Raises Refused: nobody is logged in there."""
        found = self.found(connection)
        if found is None:
            raise Refused(Refusal.NO_SESSION)
        return found

    def writing_session(self, request: Request) -> Session:
        """The session, for a request that changes something. Raises Refused."""
        session = self.session(request)
        if not same(request.headers.get(CSRF_HEADER, ""), session.csrf):
            raise Refused(Refusal.CSRF)
        return session

    def log_in(self, request: Request, response: Response, session: Session) -> None:
        """Let the browser keep `session`; no script can read it, and no other site's page can send it."""
        response.set_cookie(
            cookie_name(request),
            session.session_id,
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=cookie_is_secure(request),
        )


def cookie_name(connection: HTTPConnection) -> str:
    """Cookies know no ports: two gateways on one host must not take each other's."""
    return f"{_COOKIE}_{connection.url.port or 0}"


async def body_of(request: Request) -> bytes:
    """Raises Refused beyond MAX_BODY_BYTES, without reading further."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Refused(Refusal.TOO_LARGE, f"more than {MAX_BODY_BYTES} bytes")
    return bytes(body)
