"""Owns gRPC as a target: any method that the server's reflection describes, or that the URL says the kind of.

    grpc://host:port/package.Service/Method[?kind=unary|server|client|bidi][&streams=8]

A payload of content type application/json is turned into the method's request message; any other goes out as it is.
The deadline goes along, but for bidi: there one stream carries many requests, and answers are taken to come in the
order of requests, one for each.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc import StatusCode, aio

from meshload.errors import TargetError
from meshload.target import CallTarget, Done, Payload, Reply, Request, Status
from meshload.targets import TargetOptions
from meshload.targets.conversation import Conversation
from meshload.targets.kept import Kept
from meshload.targets.network import advice_for, knock, tls_context, words_for
from meshload.targets.reflection import NoMethod, find_method
from splitmesh.wire.headers import trace_text

KINDS: Final = ("unary", "server", "client", "bidi")
STREAMS_PER_CONNECTION: Final = 100
"""Calls on one connection at once; most servers allow no more."""
_MOST_CONNECTIONS: Final = 32
_REFUSALS: Final = (StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE)
_MESSAGE_BYTES: Final = 64 * 1024 * 1024


def grpc_target(url: str, parts: SplitResult, options: TargetOptions) -> GrpcTarget:
    """Raises TargetError for a URL that names no method."""
    service, _, method = parts.path.strip("/").rpartition("/")
    if not service or "/" in service or parts.port is None:
        raise TargetError("names no method", url=url, advice="write it as grpc://host:port/package.Service/Method")
    if parts.username is not None:
        raise TargetError("gRPC has no user in its URL", url=url, advice="-H 'authorization: …' sends metadata")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    kind, streams = query.pop("kind", ""), query.pop("streams", "8")
    if query or kind not in ("", *KINDS) or not streams.isdecimal() or not 1 <= int(streams) <= 1000:
        raise TargetError("is not understood", url=url, advice=f"kind is one of {', '.join(KINDS)}, streams a number")
    return GrpcTarget(url, parts, options, service=service, method=method, kind=kind, streams=int(streams))


class GrpcTarget(CallTarget):
    """One method of one server. `kind` "": as reflection says."""

    def __init__(
        self,
        url: str,
        parts: SplitResult,
        options: TargetOptions,
        *,
        service: str,
        method: str,
        kind: str,
        streams: int,
    ) -> None:
        super().__init__()
        self._url, self._options = url, options
        self._secure = parts.scheme == "grpcs"
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._address = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        self._service, self._method = service, method
        self._path = f"/{service}/{method}"
        self._kind, self._streams = kind, streams
        self._metadata = tuple((name.lower(), value) for name, value in options.headers)
        self._channels: list[aio.Channel] = []
        self._talks: list[Conversation] = []
        self._next_talk = 0
        self._message: type[Message] | None = None
        self._bodies = Kept(self._from_json, lambda body: len(body or b""))

    async def open(self) -> None:
        await self._knock()
        wanted = -(-self._options.in_flight // STREAMS_PER_CONNECTION)
        self._channels = [self._channel() for _ in range(min(wanted, _MOST_CONNECTIONS))]
        await self._connect(self._channels[0])
        if not self._kind:
            self._learn(await self._reflected())
        if self._kind == "bidi":
            count = min(self._streams, self._options.in_flight)
            self._talks = [
                Conversation(self._channels[index % len(self._channels)], self._path, self._metadata, self._reply_to)
                for index in range(count)
            ]

    def describe(self) -> str:
        bidi = f", {len(self._talks)} streams, which carry no deadline" if self._talks else ""
        tls = "TLS" if self._secure else "plain"
        return f"gRPC ({tls}) at {self._address}, {self._path} ({self._kind or 'not asked yet'}{bidi})"

    def send(self, request: Request, done: Done) -> int:
        if self._kind != "bidi":
            return super().send(request, done)
        body = self._body(request.payload)
        if body is None:
            return super().send(request, done)
        self._next_talk = (self._next_talk + 1) % len(self._talks)
        self._talks[self._next_talk].send(request, body, done)
        return len(body)

    def abandon(self, request: Request) -> None:
        for talk in self._talks:
            talk.abandon(request)
        super().abandon(request)

    def call(self, request: Request) -> tuple[int, Awaitable[Reply]]:
        body = self._body(request.payload)
        if body is None:
            return 0, _unfit()
        channel = self._channels[min(len(self._calls) // STREAMS_PER_CONNECTION, len(self._channels) - 1)]
        return len(body), self._answer(channel, request, body)

    async def close(self) -> None:
        await self.cancel_calls()
        for talk in self._talks:
            await talk.close()
        for channel in self._channels:
            await channel.close()
        self._talks, self._channels = [], []

    # what goes out

    def _body(self, payload: Payload) -> bytes | None:
        """The message of `payload`; None if it does not fit the method."""
        if payload.content_type != "application/json":
            return payload.body
        return self._bodies.of(payload)

    def _from_json(self, payload: Payload) -> bytes | None:
        if self._message is None:
            return None
        try:
            message = json_format.ParseDict(json.loads(payload.body), self._message())
        except (json_format.ParseError, ValueError):
            return None
        return message.SerializeToString()

    async def _answer(self, channel: aio.Channel, request: Request, body: bytes) -> Reply:
        timeout_s = request.budget_ns(request.sent_ns) / 1e9 if request.deadline_ns else None
        metadata = self._metadata
        if traceparent := trace_text(request.trace):
            metadata = (*metadata, ("traceparent", traceparent))
        try:
            return Reply(Status.OK, "", await self._received(channel, body, timeout_s, metadata))
        except aio.AioRpcError as exc:
            return self._reply_to(exc.code(), channel)

    async def _received(self, channel: aio.Channel, body: bytes, timeout_s: float | None, metadata: Any) -> int:
        """Bytes of all that the server answers."""
        if self._kind == "unary":
            return len(await channel.unary_unary(self._path)(body, timeout=timeout_s, metadata=metadata))
        if self._kind == "client":
            return len(await channel.stream_unary(self._path)(iter([body]), timeout=timeout_s, metadata=metadata))
        call = channel.unary_stream(self._path)(body, timeout=timeout_s, metadata=metadata)
        return sum([len(answer) async for answer in call])

    def _reply_to(self, code: StatusCode, channel: aio.Channel) -> Reply:
        """The reply that a failed call is, by its status code."""
        label: str = code.name.lower()
        if code is StatusCode.DEADLINE_EXCEEDED:
            return Reply(Status.TIMEOUT, label)
        if code is StatusCode.UNAVAILABLE and channel.get_state() is not grpc.ChannelConnectivity.READY:
            return Reply(Status.ERROR, "connection lost")
        return Reply(Status.REFUSED if code in _REFUSALS else Status.ERROR, label)

    # the beginning

    def _channel(self) -> aio.Channel:
        settings = [
            ("grpc.use_local_subchannel_pool", 1),  # else all channels share one connection
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
            ("grpc.enable_retries", 0),  # a tester that retries hides what it should show
        ]
        if not self._secure:
            return aio.insecure_channel(self._address, settings)
        roots = self._options.tls_ca.read_bytes() if self._options.tls_ca else None
        return aio.secure_channel(self._address, grpc.ssl_channel_credentials(roots), settings)

    async def _knock(self) -> None:
        """Raises TargetError for a server that can't be reached, which gRPC would try for ever without a reason."""
        options = self._options
        if self._secure and options.tls_insecure:
            raise TargetError(
                "gRPC can't be told to take any certificate", url=self._url, advice="name it with --tls-ca"
            )
        context = tls_context(options.tls_ca, insecure=False) if self._secure else None
        if context is not None:
            context.set_alpn_protocols(["h2"])
        try:
            await knock(self._host, self._port, context, timeout_s=options.connect_timeout_s)
        except (OSError, TimeoutError) as exc:
            raise TargetError(words_for(exc), url=self._url, advice=advice_for(exc, "the server")) from exc

    async def _connect(self, channel: aio.Channel) -> None:
        """Raises TargetError when it is not ready in time."""
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                await channel.channel_ready()
        except TimeoutError as exc:
            raise TargetError(
                f"no gRPC connection within {self._options.connect_timeout_s:g} s",
                url=self._url,
                advice="is it a gRPC server, and is grpcs:// or grpc:// right?",
            ) from exc

    async def _reflected(self) -> MethodDescriptor:
        try:
            return await find_method(
                self._channels[0], self._service, self._method, timeout_s=self._options.connect_timeout_s
            )
        except NoMethod as exc:
            raise TargetError(str(exc), url=self._url, advice=f"there are {', '.join(exc.known) or 'none'}") from exc
        except aio.AioRpcError as exc:
            if exc.code() is StatusCode.UNIMPLEMENTED:
                raise TargetError(
                    "the server has no reflection",
                    url=self._url,
                    advice="turn it on, or add ?kind=unary and give a payload in the method's binary form",
                ) from exc
            raise TargetError(f"reflection failed: {exc.code().name.lower()} {exc.details()}", url=self._url) from exc

    def _learn(self, method: MethodDescriptor) -> None:
        self._kind = {
            (False, False): "unary",
            (False, True): "server",
            (True, False): "client",
            (True, True): "bidi",
        }[method.client_streaming, method.server_streaming]
        self._message = message_factory.GetMessageClass(method.input_type)


async def _unfit() -> Reply:
    return Reply(Status.ERROR, "payload does not fit the method")
