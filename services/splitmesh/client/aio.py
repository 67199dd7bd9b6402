"""Owns the client for programs with an event loop; the same methods as `Client`, on the loop that made it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
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


class AsyncClient:
    """A connection to a gateway, to be used in an `async with` block or closed by hand; see `Client`."""

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
        self._channel = access.open(grpc.aio)
        self._methods = methods_of(self._channel)
        self._metadata = access.metadata
        self._timeout_s = timeout_s

    async def close(self) -> None:
        """Ends whatever is under way. Idempotent."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- pictures -------------------------------------------------------------------------------------------------

    async def infer(
        self, picture: Picture, *, model: str = "", budget_ms: float = 0.0, quality: int | None = QUALITY
    ) -> Result:
        """See `Client.infer`."""
        frame = frame_of(picture, seq=0, model=model, budget_ms=budget_ms, quality=quality)
        return result_of(await self._ask("Infer", frame))

    async def analyze(
        self,
        pictures: Iterable[Picture] | AsyncIterable[Picture],
        *,
        model: str = "",
        budget_ms: float = 0.0,
        quality: int | None = QUALITY,
    ) -> AsyncGenerator[Result]:
        """See `Client.analyze`. `pictures` may be asynchronous; the next one is taken when the gateway has room."""
        call = self._methods["Analyze"](metadata=self._metadata)

        async def send() -> None:
            seq = 0
            async for picture in _each(pictures):
                await call.write(frame_of(picture, seq=seq, model=model, budget_ms=budget_ms, quality=quality))
                seq += 1
            await call.done_writing()

        sending = asyncio.create_task(send(), name="pictures")
        try:
            with _translated():
                while (message := await self._next(call, sending)) is not grpc.aio.EOF:
                    yield result_of(message)
        finally:
            call.cancel()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    # -- the mesh -------------------------------------------------------------------------------------------------

    async def models(self) -> list[Model]:
        return [model_of(each) for each in (await self._ask("Models", pb.ModelsQuery())).models]

    async def streams(self) -> list[pb.StreamState]:
        """The camera streams that edges report."""
        return list((await self._ask("Streams", pb.StreamsQuery())).streams)

    async def watch(
        self, edges: Sequence[str] = (), kinds: Sequence[Watch] = (), *, preview_fps: float = 0.0
    ) -> AsyncGenerator[pb.WatchEvent]:
        """See `Client.watch`."""
        call = self._methods["Watch"](filter_of(edges, kinds, preview_fps=preview_fps), metadata=self._metadata)
        try:
            with _translated():
                async for event in call:
                    yield event
        finally:
            call.cancel()

    async def policy(self, edge: str) -> control_pb2.PolicyState:
        """What the edge goes by, and who changed it."""
        return (await self._policies(pb.PolicyQuery(edge=edge, get=control_pb2.GetPolicy()))).state

    async def set_policy(
        self,
        edge: str,
        *,
        policy: str | None = None,
        deadline_ms: float | None = None,
        uplink_budget_bps: float | None = None,
    ) -> control_pb2.PolicyState:
        """Change what is not None, from the next frame on."""
        change = change_of(policy, deadline_ms, uplink_budget_bps)
        return (await self._policies(pb.PolicyQuery(edge=edge, set=change))).state

    async def what_if(
        self,
        edge: str,
        *,
        policy: str | None = None,
        deadline_ms: float | None = None,
        uplink_budget_bps: float | None = None,
    ) -> control_pb2.WhatIf:
        """What the edge would decide on what it sees now; changes nothing."""
        change = change_of(policy, deadline_ms, uplink_budget_bps)
        return (await self._policies(pb.PolicyQuery(edge=edge, dry_run=change))).what_if

    async def explain(self, frame_id: str) -> pb.Explanation:
        """The story of a frame: its record, and its spans in every process."""
        explanation: pb.Explanation = await self._ask("Explain", pb.FrameQuery(frame_id=frame_id))
        return explanation

    # -- one box --------------------------------------------------------------------------------------------------

    async def box(self, agent: str) -> agent_pb2.AgentListing:
        """The camera streams of the box that `agent` serves, and who changed them."""
        return await self._agents(pb.AgentQuery(agent=agent, list=agent_pb2.ListStreams()))

    async def start_stream(
        self, agent: str, name: str, source: str = "", settings: Mapping[str, str] | None = None
    ) -> agent_pb2.AgentListing:
        """Serve one more camera. source: "" for a stream of the agent's own file that was stopped.

        settings: of the edge, by TOML key, as in {"deadline_ms": "200ms"}. The edge starts after this returns.
        """
        asked = agent_pb2.StartStream(name=name, source=source, settings=settings or {})
        return await self._agents(pb.AgentQuery(agent=agent, start=asked))

    async def stop_stream(self, agent: str, name: str) -> agent_pb2.AgentListing:
        """Serve that camera no more. Its edge settles its frames after this returns."""
        return await self._agents(pb.AgentQuery(agent=agent, stop=agent_pb2.StopStream(name=name)))

    # -- within ---------------------------------------------------------------------------------------------------

    @staticmethod
    async def _next(call: Any, sending: asyncio.Task[None]) -> Any:
        """The next message. Raises what stopped the sending, if that was our side's doing."""
        reading = asyncio.ensure_future(call.read())
        try:
            await asyncio.wait(
                {reading} if sending.done() else {reading, sending}, return_when=asyncio.FIRST_COMPLETED
            )
            fault = sending.exception() if sending.done() and not sending.cancelled() else None
            if fault is not None and not isinstance(fault, (grpc.RpcError, asyncio.InvalidStateError)):
                raise fault
            return await reading
        finally:
            if not reading.done():
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _agents(self, query: pb.AgentQuery) -> agent_pb2.AgentListing:
        listing: agent_pb2.AgentListing = await self._ask("Agents", query)
        return listing

    async def _policies(self, query: pb.PolicyQuery) -> pb.PolicyReply:
        reply: pb.PolicyReply = await self._ask("Policies", query)
        return reply

    async def _ask(self, method: str, request: Any) -> Any:
        with _translated():
            return await self._methods[method](request, metadata=self._metadata, timeout=self._timeout_s)


async def _each(pictures: Iterable[Picture] | AsyncIterable[Picture]) -> AsyncIterator[Picture]:
    if isinstance(pictures, AsyncIterable):
        async for picture in pictures:
            yield picture
    else:
        for picture in pictures:
            yield picture


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as exc:
        raise call_failed(exc) from exc
