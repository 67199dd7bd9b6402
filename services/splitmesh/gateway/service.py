"""Owns the methods of `splitmesh.v1.GatewayService`: what each is asked, of whose mesh, and what it answers."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time

from splitmesh import __version__
from splitmesh.errors import BusError, MeshError, SettingsError
from splitmesh.gateway.analyze import answer_all, first_error
from splitmesh.gateway.asking import Asker
from splitmesh.gateway.events import EventFeed
from splitmesh.gateway.frames import Find, FrameDesk, Settled
from splitmesh.gateway.offered import Offer, OfferedModel
from splitmesh.gateway.state import GatewayState
from splitmesh.gateway.streams import ask_agent
from splitmesh.gateway.tenant import TenantMesh
from splitmesh.gateway.tokens import Account
from splitmesh.rpc.calls import Call
from splitmesh.telemetry.gateway import GatewayMetrics
from splitmesh.v1 import agent_pb2, control_pb2
from splitmesh.v1 import gateway_pb2 as pb
from splitmesh.wire.subjects import check_token


class GatewayService:
    """frames_in_flight: of one Analyze call."""

    version = __version__

    def __init__(
        self, state: GatewayState, offer: Offer, desk: FrameDesk, metrics: GatewayMetrics, *, frames_in_flight: int
    ) -> None:
        self._state = state
        self._offer = offer
        self._desk = desk
        self._metrics = metrics
        self._frames_in_flight = frames_in_flight
        self._askers: dict[tuple[str, str], Asker] = {}
        state.on_tenant = self._open_tenant

    async def _open_tenant(self, mesh: TenantMesh) -> None:
        for model in self._offer.models:
            asker = Asker(mesh.bus, mesh.tenant, model, gateway=self._state.name)
            self._askers[mesh.tenant, model.name] = asker
            mesh.on_heartbeat(asker.hear)

    # -- pictures -------------------------------------------------------------------------------------------------

    async def Analyze(self, call: Call[Account]) -> None:
        mesh, ids = self._state.mesh(call.account.tenant), self.frame_ids()

        async def analyze(frame: pb.Frame) -> pb.Result:
            settled = await self.settled(mesh, frame, next(ids), call)
            return settled.result

        await answer_all(call, analyze, in_flight=self._frames_in_flight)

    async def Infer(self, frame: pb.Frame, call: Call[Account]) -> pb.Result:
        mesh = self._state.mesh(call.account.tenant)
        return (await self.settled(mesh, frame, next(self.frame_ids()), call)).result

    async def settled(self, mesh: TenantMesh, frame: pb.Frame, frame_id: str, call: Call[Account]) -> Settled:
        """One frame of `call`."""
        return await self._desk.analyze(
            mesh, self.finder(mesh.tenant), frame, frame_id, left_s=call.left_s(), traceparent=call.traceparent
        )

    def frame_ids(self) -> itertools.chain[str]:
        """Of the frames of one call."""
        beginning = f"{self._state.name}.{secrets.token_hex(4)}"
        return itertools.chain.from_iterable([f"{beginning}.{number}"] for number in itertools.count())

    def finder(self, tenant: str) -> Find:
        def find(name: str) -> tuple[OfferedModel, Asker]:
            model = self._offer.find(name)
            return model, self._askers[tenant, model.name]

        return find

    # -- the mesh -------------------------------------------------------------------------------------------------

    async def Watch(self, wanted: pb.WatchFilter, call: Call[Account]) -> None:
        mesh = self._state.mesh(call.account.tenant)
        feed = EventFeed(mesh, self._state.fleet, wanted, actor=call.account.actor)

        async def give() -> None:
            while True:
                event, missed = await feed.next()
                self._metrics.missed_events_total.inc(missed)
                await call.write(event)

        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(feed.run(), name="events in")
                both.create_task(give(), name="events out")
        except* MeshError as errors:
            raise first_error(errors) from errors

    async def Streams(self, _: pb.StreamsQuery, call: Call[Account]) -> pb.StreamsReply:
        edges = self._state.fleet.edges(call.account.tenant, time.monotonic_ns())
        return pb.StreamsReply(
            streams=[
                pb.StreamState(report=edge.report, state=edge.health.value, heard_ms_ago=edge.silent_ms)
                for edge in edges
            ]
        )

    async def Models(self, _: pb.ModelsQuery, call: Call[Account]) -> pb.ModelsReply:
        return pb.ModelsReply(models=[self._offered(model, call.account.tenant) for model in self._offer.models])

    def _offered(self, model: OfferedModel, tenant: str) -> pb.OfferedModel:
        workers = self._askers[tenant, model.name].workers(time.monotonic_ns())
        m = model.manifest
        return pb.OfferedModel(
            name=model.name,
            digest=bytes.fromhex(model.sha256),
            width=m.width,
            height=m.height,
            fit=m.fit,
            kind=m.postprocess.kind,
            labels=m.labels,
            workers=sorted(workers),
            predicted_wait_ms=min(workers.values(), default=0.0),
        )

    # -- one edge -------------------------------------------------------------------------------------------------

    async def Policies(self, query: pb.PolicyQuery, call: Call[Account]) -> pb.PolicyReply:
        edge = check_token(query.edge, field="edge")
        command = control_pb2.EdgeCommand(actor=call.account.actor)
        match query.WhichOneof("query"):
            case "set":
                command.set_policy.CopyFrom(query.set)
            case "dry_run":
                command.what_if.CopyFrom(query.dry_run)
            case _:
                command.get_policy.SetInParent()
        reply = await self._state.ask_edge(call.account.tenant, edge, command)
        match reply.WhichOneof("outcome"):
            case "policy":
                return pb.PolicyReply(state=reply.policy)
            case "what_if":
                return pb.PolicyReply(what_if=reply.what_if)
            case "refused":
                raise SettingsError(f"{edge}: {reply.refused.detail}", key=reply.refused.field or "query")
            case other:
                raise BusError(f"{edge} answered with {other}")

    async def Agents(self, query: pb.AgentQuery, call: Call[Account]) -> agent_pb2.AgentListing:
        return await ask_agent(self._state.mesh(call.account.tenant), query, actor=call.account.actor)

    async def Explain(self, query: pb.FrameQuery, call: Call[Account]) -> pb.Explanation:
        mesh = self._state.mesh(call.account.tenant)
        story, silent = await mesh.explain(query.frame_id, actor=call.account.actor)
        return pb.Explanation(frame=story.frame, spans=story.spans, silent=silent)
