"""A gRPC server that describes itself, with a method of each of the four kinds, and the health service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc import aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

F = descriptor_pb2.FieldDescriptorProto


def described() -> DescriptorPool:
    """A service of our own with one method of each kind over two files, and the health service."""
    pool = DescriptorPool()
    pool.AddSerializedFile(reflection_pb2.DESCRIPTOR.serialized_pb)
    size = descriptor_pb2.FileDescriptorProto(name="size.proto", package="test", syntax="proto3")
    message(size, "Size", width=(F.TYPE_INT32, ""), height=(F.TYPE_INT32, ""))
    camera = descriptor_pb2.FileDescriptorProto(
        name="camera.proto", package="test", syntax="proto3", dependency=["size.proto"]
    )
    message(camera, "Frame", name=(F.TYPE_STRING, ""), pixels=(F.TYPE_BYTES, ""), size=(F.TYPE_MESSAGE, ".test.Size"))
    message(camera, "Seen", text=(F.TYPE_STRING, ""))
    service = camera.service.add(name="Camera")
    for name, client, server in (
        ("Look", False, False),
        ("Refuse", False, False),
        ("Sleep", False, False),
        ("Watch", False, True),
        ("Send", True, False),
        ("Talk", True, True),
        ("Hang", True, True),
    ):
        service.method.add(
            name=name,
            input_type=".test.Frame",
            output_type=".test.Seen",
            client_streaming=client,
            server_streaming=server,
        )
    health = descriptor_pb2.FileDescriptorProto(name="health.proto", package="grpc.health.v1", syntax="proto3")
    message(health, "HealthCheckRequest", service=(F.TYPE_STRING, ""))
    message(health, "HealthCheckResponse", status=(F.TYPE_INT32, ""))
    health.service.add(name="Health").method.add(
        name="Check",
        input_type=".grpc.health.v1.HealthCheckRequest",
        output_type=".grpc.health.v1.HealthCheckResponse",
    )
    for file in (size, camera, health):
        pool.Add(file)
    return pool


def message(file: descriptor_pb2.FileDescriptorProto, called: str, /, **fields: tuple[Any, str]) -> None:
    made = file.message_type.add(name=called)
    for number, (field, (kind, of)) in enumerate(fields.items(), 1):
        made.field.add(name=field, number=number, type=kind, label=F.LABEL_OPTIONAL, type_name=of or None)


class CameraServer:
    """What the methods saw."""

    def __init__(self) -> None:
        self.pool = described()
        self.frames: list[Any] = []
        self.remaining_s: list[float | None] = []
        self.metadata: list[dict[str, Any]] = []
        self.peers: set[str] = set()
        self.server = aio.server()
        self.port = 0

    def type(self, name: str) -> Any:
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def seen(self, frame: Any, context: Any) -> Any:
        self.frames.append(frame)
        self.remaining_s.append(context.time_remaining())
        self.metadata.append(dict(context.invocation_metadata()))
        self.peers.add(context.peer())
        return self.type("test.Seen")(text=f"{frame.name} {frame.size.width}x{frame.size.height}")

    async def look(self, frame: Any, context: Any) -> Any:
        return self.seen(frame, context)

    async def refuse(self, frame: Any, context: Any) -> Any:
        self.seen(frame, context)
        await context.abort(grpc.StatusCode[frame.name], "as asked")

    async def sleep(self, frame: Any, context: Any) -> Any:
        self.seen(frame, context)
        await asyncio.sleep(30)

    async def watch(self, frame: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(3):
            yield self.seen(frame, context)

    async def collect(self, frames: AsyncIterator[Any], context: Any) -> Any:
        async for frame in frames:
            answer = self.seen(frame, context)
        return answer

    async def talk(self, frames: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for frame in frames:
            if frame.name == "end":
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "as asked")
            yield self.seen(frame, context)

    async def hang(self, frames: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Reads nothing."""
        await asyncio.sleep(30)
        yield self.type("test.Seen")()

    async def check(self, request: Any, context: Any) -> Any:
        return self.type("grpc.health.v1.HealthCheckResponse")(status=1 if request.service == "test.Camera" else 3)

    def handlers(self) -> list[Any]:
        frame = {
            "request_deserializer": self.type("test.Frame").FromString,
            "response_serializer": lambda m: m.SerializeToString(),
        }
        methods = {
            "Look": grpc.unary_unary_rpc_method_handler(self.look, **frame),
            "Refuse": grpc.unary_unary_rpc_method_handler(self.refuse, **frame),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep, **frame),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, **frame),
            "Send": grpc.stream_unary_rpc_method_handler(self.collect, **frame),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk, **frame),
            "Hang": grpc.stream_stream_rpc_method_handler(self.hang, **frame),
        }
        asked = self.type("grpc.health.v1.HealthCheckRequest").FromString
        health = grpc.unary_unary_rpc_method_handler(self.check, asked, lambda m: m.SerializeToString())
        return [
            grpc.method_handlers_generic_handler("test.Camera", methods),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health}),
        ]

    async def start(self, *, reflects: bool = True, certificate: bytes = b"") -> None:
        """certificate: with its key, PEM; b"": no TLS."""
        self.server.add_generic_rpc_handlers(self.handlers())
        if reflects:
            names = ("test.Camera", "grpc.health.v1.Health", reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self.server, self.pool)
        if certificate:
            credentials = grpc.ssl_server_credentials([(certificate, certificate)])
            self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        else:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
