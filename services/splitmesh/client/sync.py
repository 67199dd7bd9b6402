"""Owns the client for programs without an event loop. Its methods may be called from several threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from splitmesh.client.channel import DEFAULT_ADDRESS, Access, methods_of
from splitmesh.client.errors import call_failed
from splitmesh.client.values import (
    QUALITY,
    Model,
    Picture,
    Result,
    Watch,
    change_of,
    filter_of,
    frame_of,
    model_of,
    result_of,
)
from splitmesh.v1 import agent_pb2, control_pb2
from splitmesh.v1 import gateway_pb2 as pb


class Client:
    """A connection to a gateway, to be used in a `with` block or closed by hand.

        with Client("gateway.example:9470", token=token) as mesh:
            answer = mesh.infer("street.jpg").checked()

    address, token, tls, ca, cert, key: see `Access`. timeout_s: of each call but `analyze` and `watch`.
    Every method raises CallFailed when the call as a whole fails.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str = "",
        tls: bool = False,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        access = Access(address, token, tls, ca, cert, key)
        self._channel = access.open(grpc)
        self._methods = methods_of(self._channel)
        self._metadata = access.metadata
        self._timeout_s = timeout_s

    def close(self) -> None:
        """Ends whatever is under way. Idempotent."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- pictures -------------------------------------------------------------------------------------------------

    def infer(
        self, picture: Picture, *, model: str = "", budget_ms: float = 0.0, quality: int | None = QUALITY
    ) -> Result:
        """One picture. model: "" for the gateway's first. budget_ms: 0 for the gateway's own.

        quality: of the JPEG that pixels are sent as; None: as they are.
        Raises CallFailed, FrameShapeError, SourceError.
        """
        frame = frame_of(picture, seq=0, model=model, budget_ms=budget_ms, quality=quality)
        return result_of(self._ask("Infer", frame))

    def analyze(
        self,
        pictures: Iterable[Picture],
        *,
        model: str = "",
        budget_ms: float = 0.0,
        quality: int | None = QUALITY,
    ) -> Iterator[Result]:
        """One result for each picture, in the order in which they are ready: `seq` tells which.

        Pictures are taken on another thread, as fast as the gateway takes them: some at a time are under way. Who
        stops reading ends the call. What `pictures` raises is raised here. Otherwise as `infer`.
        """
        fault: list[Exception] = []

        def frames() -> Iterator[pb.Frame]:
            try:
                for seq, picture in enumerate(pictures):
                    yield frame_of(picture, seq=seq, model=model, budget_ms=budget_ms, quality=quality)
            except Exception as exc:  # the library would only say that something of ours failed
                fault.append(exc)
                raise

        call = self._methods["Analyze"](frames(), metadata=self._metadata)
        try:
            with _translated(fault):
                for message in call:
                    yield result_of(message)
        finally:
            call.cancel()

    # -- the mesh -------------------------------------------------------------------------------------------------

    def models(self) -> list[Model]:
        return [model_of(each) for each in self._ask("Models", pb.ModelsQuery()).models]

    def streams(self) -> list[pb.StreamState]:
        """The camera streams that edges report."""
        return list(self._ask("Streams", pb.StreamsQuery()).streams)

    def watch(
        self, edges: Sequence[str] = (), kinds: Sequence[Watch] = (), *, preview_fps: float = 0.0
    ) -> Iterator[pb.WatchEvent]:
        """What happens from now on, until its reader stops. edges: none for all; kinds: none for decisions, reports
        and fleet."""
        wanted = filter_of(edges, kinds, preview_fps=preview_fps)
        call = self._methods["Watch"](wanted, metadata=self._metadata)
        try:
            with _translated():
                yield from call
        finally:
            call.cancel()

    def policy(self, edge: str) -> control_pb2.PolicyState:
        """What the edge goes by, and who changed it."""
        return self._policies(pb.PolicyQuery(edge=edge, get=control_pb2.GetPolicy())).state

    def set_policy(
        self,
        edge: str,
        *,
        policy: str | None = None,
        deadline_ms: float | None = None,
        uplink_budget_bps: float | None = None,
    ) -> control_pb2.PolicyState:
        """Change what is not None, from the next frame on."""
        change = change_of(policy, deadline_ms, uplink_budget_bps)
        return self._policies(pb.PolicyQuery(edge=edge, set=change)).state

    def what_if(
        self,
        edge: str,
        *,
        policy: str | None = None,
        deadline_ms: float | None = None,
        uplink_budget_bps: float | None = None,
    ) -> control_pb2.WhatIf:
        """What the edge would decide on what it sees now; changes nothing."""
        change = change_of(policy, deadline_ms, uplink_budget_bps)
        return self._policies(pb.PolicyQuery(edge=edge, dry_run=change)).what_if

    def explain(self, frame_id: str) -> pb.Explanation:
        """The story of a frame: its record, and its spans in every process."""
        explanation: pb.Explanation = self._ask("Explain", pb.FrameQuery(frame_id=frame_id))
        return explanation

    # -- one box --------------------------------------------------------------------------------------------------

    def box(self, agent: str) -> agent_pb2.AgentListing:
        """The camera streams of the box that `agent` serves, and who changed them."""
        return self._agents(pb.AgentQuery(agent=agent, list=agent_pb2.ListStreams()))

    def start_stream(
        self, agent: str, name: str, source: str = "", settings: Mapping[str, str] | None = None
    ) -> agent_pb2.AgentListing:
        """Serve one more camera. source: "" for a stream of the agent's own file that was stopped.

        settings: of the edge, by TOML key, as in {"deadline_ms": "200ms"}. The edge starts after this returns.
        """
        asked = agent_pb2.StartStream(name=name, source=source, settings=settings or {})
        return self._agents(pb.AgentQuery(agent=agent, start=asked))

    def stop_stream(self, agent: str, name: str) -> agent_pb2.AgentListing:
        """Serve that camera no more. Its edge settles its frames after this returns."""
        return self._agents(pb.AgentQuery(agent=agent, stop=agent_pb2.StopStream(name=name)))

    # -- within ---------------------------------------------------------------------------------------------------

    def _agents(self, query: pb.AgentQuery) -> agent_pb2.AgentListing:
        listing: agent_pb2.AgentListing = self._ask("Agents", query)
        return listing

    def _policies(self, query: pb.PolicyQuery) -> pb.PolicyReply:
        reply: pb.PolicyReply = self._ask("Policies", query)
        return reply

    def _ask(self, method: str, request: Any) -> Any:
        with _translated():
            return self._methods[method](request, metadata=self._metadata, timeout=self._timeout_s)


@contextmanager
def _translated(fault: Sequence[Exception] = ()) -> Iterator[None]:
    """fault: what the caller's own pictures raised, which then is the reason."""
    try:
        yield
    except grpc.RpcError as exc:
        if fault:
            raise fault[0] from None
        raise call_failed(exc) from exc
