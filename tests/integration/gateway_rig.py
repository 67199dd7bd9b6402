"""What tests of the gateway share: a gateway in this process on a real broker, and raw gRPC calls to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from cloud_rig import until

from splitmesh.bus.server import EmbeddedServer
from splitmesh.gateway.command import Gateway, open_tokens, tls_files
from splitmesh.gateway.offered import Offer, OfferedModel
from splitmesh.plan.bundle.read import Bundle
from splitmesh.settings.model import GatewaySettings
from splitmesh.v1 import gateway_pb2 as pb

SERVICE = "splitmesh.v1.GatewayService"


@asynccontextmanager
async def gateway_on(broker: EmbeddedServer, bundle: Bundle, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway that offers the model of `bundle`, on free ports."""
    values = {"nats_url": broker.url, "name": "gw", "grpc_port": 0, "web_port": 0, "drain_s": 1.0, **settings}
    made = GatewaySettings(**values)
    offer = Offer([OfferedModel(bundle.manifest, bundle.sha256)])
    gateway = Gateway(made, open_tokens(made), tls_files(made), offer)
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.stop()


class Caller:
    """Speaks gRPC to a gateway as any program would."""

    def __init__(self, channel: Any, token: str = "") -> None:
        self.channel = channel
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def _options(self, kind: type, **more: Any) -> dict[str, Any]:
        return {"request_serializer": lambda m: m.SerializeToString(), "response_deserializer": kind.FromString}

    async def call(self, method: str, request: Any, kind: type, **options: Any) -> Any:
        ask = self.channel.unary_unary(f"/{SERVICE}/{method}", **self._options(kind))
        return await ask(request, metadata=self.metadata, **options)

    async def infer(self, **fields: Any) -> pb.Result:
        options = {"timeout": fields.pop("timeout")} if "timeout" in fields else {}
        return await self.call("Infer", pb.Frame(**fields), pb.Result, **options)

    def analyze(self, **options: Any) -> Any:
        return self.channel.stream_stream(f"/{SERVICE}/Analyze", **self._options(pb.Result))(
            metadata=self.metadata, **options
        )

    def watch(self, wanted: pb.WatchFilter) -> Any:
        return self.channel.unary_stream(f"/{SERVICE}/Watch", **self._options(pb.WatchEvent))(
            wanted, metadata=self.metadata
        )

    async def results(self, frames: Iterable[pb.Frame]) -> list[pb.Result]:
        """Of one Analyze call."""
        call = self.analyze()

        async def send() -> None:
            for frame in frames:
                await call.write(frame)
            await call.done_writing()

        sending = asyncio.create_task(send())
        try:
            return [result async for result in call]
        finally:
            await sending

    async def workers(self, count: int = 1) -> pb.OfferedModel:
        """The model on offer, once so many workers of it were heard."""
        async with asyncio.timeout(10):
            while True:
                (model,) = (await self.call("Models", pb.ModelsQuery(), pb.ModelsReply)).models
                if len(model.workers) >= count:
                    return model


@asynccontextmanager
async def caller_of(gateway: Gateway, token: str = "", window_bytes: int = 0) -> AsyncIterator[Caller]:
    """window_bytes: what the transport takes in before its reader does; 0: as it sees fit, which grows."""
    small = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", window_bytes)) if window_bytes else ()
    options = (
        *small,
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, as another program has
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}", options=options) as channel:
        yield Caller(channel, token)


def counted(gateway: Gateway, name: str, **labels: str) -> float:
    """One sample of the gateway's metrics; 0 while there is none."""
    return gateway.registry.get_sample_value(name, labels) or 0.0


__all__ = ["Caller", "caller_of", "counted", "gateway_on", "until"]
