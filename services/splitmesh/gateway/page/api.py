"""Owns what the page may be asked: one edge's points, policy and frames, a what-if, and changes. JSON in and out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from splitmesh.errors import BusUnavailable, MeshError, RequestTimeout, UnknownName
from splitmesh.gateway.page import forms
from splitmesh.gateway.page.changes import frame_name, json_object, name, number, only, policy_change
from splitmesh.gateway.page.desk import Desk, body_of
from splitmesh.gateway.page.refusals import Refusal, Refused
from splitmesh.gateway.page.sessions import Session
from splitmesh.gateway.state import LabControls
from splitmesh.v1 import control_pb2 as pb

_NO_STORE = {"cache-control": "no-store"}
_RECENT_FRAMES = 500
_STATUS: tuple[tuple[type[MeshError], int], ...] = ((UnknownName, 404), (RequestTimeout, 504), (BusUnavailable, 503))
Endpoint = Callable[[Request], Awaitable[Response]]


class Api:
    """The endpoints below `/api`. A tenant reaches its own edges alone: the session says whose they are."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api/session", self.session),
            Route("/api/frames/{frame_id}", self.frame),
            Route("/api/edges/{edge}/points", self.points),
            Route("/api/edges/{edge}/recent", self.recent),
            Route("/api/edges/{edge}/policy", self.policy),
            Route("/api/edges/{edge}/policy", self.set_policy, methods=["POST"]),
            Route("/api/edges/{edge}/what-if", self.what_if, methods=["POST"]),
            Route("/api/lab/{action}", self.lab, methods=["POST"]),
        ]

    async def session(self, request: Request) -> Response:
        session = self._desk.session(request)
        return _json(
            {
                "tenant": session.account.tenant,
                "actor": session.account.actor,
                "csrf": session.csrf,
                "lab": self._desk.state.lab is not None,
                "can_log_out": self._desk.state.open_account is None,
            }
        )

    async def frame(self, request: Request) -> Response:
        account = self._desk.session(request).account
        frame_id = frame_name(request.path_params["frame_id"])
        explained = await self._desk.state.explain(account.tenant, frame_id, actor=account.actor)
        return _json(forms.story_form(explained))

    async def points(self, request: Request) -> Response:
        reply = await self._ask(request, self._desk.session(request), get_points=pb.GetPoints())
        return _json({"points": [forms.point_form(point) for point in reply.points.points]})

    async def recent(self, request: Request) -> Response:
        reply = await self._ask(request, self._desk.session(request), recent=pb.Recent(last=_RECENT_FRAMES))
        return _json({"rows": [forms.frame_form(frame) for frame in reply.recent.frames]})

    async def policy(self, request: Request) -> Response:
        reply = await self._ask(request, self._desk.session(request), get_policy=pb.GetPolicy())
        return _json(forms.policy_form(reply.policy))

    async def set_policy(self, request: Request) -> Response:
        session = self._desk.writing_session(request)
        change = policy_change(json_object(await body_of(request)))
        reply = await self._ask(request, session, set_policy=change)
        return _json(forms.policy_form(reply.policy))

    async def what_if(self, request: Request) -> Response:
        session = self._desk.writing_session(request)
        change = policy_change(json_object(await body_of(request)))
        reply = await self._ask(request, session, what_if=change)
        return _json(forms.what_if_form(reply.what_if))

    async def lab(self, request: Request) -> Response:
        self._desk.writing_session(request)
        lab = self._desk.state.lab
        if lab is None:
            raise Refused(Refusal.PATH, "no lab")
        await _in_lab(lab, request.path_params["action"], json_object(await body_of(request)))
        return _json({})

    async def _ask(self, request: Request, session: Session, **command: Any) -> pb.EdgeReply:
        """The edge's reply. Raises Refused for a name that can't be one, EdgeRefused, and MeshError."""
        edge = name(request.path_params["edge"], "edge")
        account = session.account
        command_ = pb.EdgeCommand(actor=account.actor, **command)
        reply = await self._desk.state.ask_edge(account.tenant, edge, command_)
        if reply.HasField("refused"):
            raise EdgeRefused(reply.refused.detail or "the edge refused", field=reply.refused.field)
        return reply


class EdgeRefused(MeshError):
    """The edge would not do it; `field` is the argument at fault, or ""."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


async def mesh_error(_: Request, exc: Exception) -> Response:
    """What the browser is told when the mesh could not do what it was asked."""
    if isinstance(exc, EdgeRefused):
        return _json({"error": exc.message, "kind": "edge-refused", "field": exc.field}, 422)
    status = next((status for kind, status in _STATUS if isinstance(exc, kind)), 502)
    return _json({"error": str(exc), "kind": "mesh"}, status)


async def _in_lab(lab: LabControls, action: str, body: dict[str, Any]) -> None:
    if action == "bend-link":
        only(body, "factor", "seconds")
        await lab.bend_link(number(body, "factor", 0.01, 10), number(body, "seconds", 1, 600))
    elif action == "kill-worker":
        only(body, "worker")
        await lab.kill_worker(name(body.get("worker"), "worker"))
    elif action == "restart-worker":
        only(body, "worker")
        await lab.restart_worker(name(body.get("worker"), "worker"))
    elif action == "slow-edge":
        only(body, "edge", "factor")
        await lab.slow_edge(name(body.get("edge"), "edge"), number(body, "factor", 1, 1000))
    else:
        raise Refused(Refusal.PATH, action)


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(body, status, _NO_STORE)
