"""Owns asking a gRPC server what its methods take, by server reflection. Speaks v1, and v1alpha to older servers.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md. Both versions have the same messages.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc import StatusCode, aio
from grpc_reflection.v1alpha import reflection_pb2 as pb

_VERSIONS: Final = ("v1", "v1alpha")
_MAX_FILES: Final = 1000


class NoMethod(Exception):
    """The server has no such service or method; `known` are those that it has."""

    def __init__(self, message: str, known: tuple[str, ...]) -> None:
        super().__init__(message)
        self.known = known


async def find_method(channel: aio.Channel, service: str, method: str, *, timeout_s: float) -> MethodDescriptor:
    """What the server says of `service` (with its package) and `method`.

    Raises NoMethod, and aio.AioRpcError: UNIMPLEMENTED where the server has no reflection.
    """
    version, services = await _services(channel, timeout_s)
    if service not in services:
        raise NoMethod(f"there is no service {service!r}", services)
    pool = DescriptorPool()
    await _add_files(pool, channel, version, service, timeout_s)
    descriptor = pool.FindServiceByName(service)
    found: MethodDescriptor | None = descriptor.methods_by_name.get(method)
    if found is None:
        raise NoMethod(f"{service} has no method {method!r}", tuple(descriptor.methods_by_name))
    return found


async def _services(channel: aio.Channel, timeout_s: float) -> tuple[str, tuple[str, ...]]:
    """(version that the server speaks, its services)."""
    request = pb.ServerReflectionRequest(list_services="")
    for version in _VERSIONS:
        try:
            response = await _ask(channel, version, request, timeout_s)
        except aio.AioRpcError as exc:
            if exc.code() is StatusCode.UNIMPLEMENTED and version != _VERSIONS[-1]:
                continue
            raise
        return version, tuple(sorted(each.name for each in response.list_services_response.service))
    raise AssertionError("unreachable")


async def _add_files(pool: DescriptorPool, channel: aio.Channel, version: str, symbol: str, timeout_s: float) -> None:
    """The file of `symbol` and all that it imports; servers may send those along, or wait to be asked."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    wanted = [pb.ServerReflectionRequest(file_containing_symbol=symbol)]
    while wanted and len(files) < _MAX_FILES:
        response = await _ask(channel, version, wanted.pop(), timeout_s)
        for raw in response.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(raw)
            files.setdefault(file.name, file)
        missing = {name for file in files.values() for name in file.dependency} - files.keys()
        wanted = [pb.ServerReflectionRequest(file_by_filename=name) for name in sorted(missing)[:1]]
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added or name not in files:
            return
        added.add(name)
        for dependency in files[name].dependency:
            add(dependency)
        pool.Add(files[name])

    for name in files:
        add(name)


async def _ask(channel: aio.Channel, version: str, request: Any, timeout_s: float) -> Any:
    # There is one request only, so a call with one is the same on the wire. Of a stream, gRPC may say INTERNAL where
    # the server said UNIMPLEMENTED before the request was written.
    method = channel.unary_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    async for response in method(request, timeout=timeout_s):
        if response.HasField("error_response"):
            code, text = response.error_response.error_code, response.error_response.error_message
            raise NoMethod(f"reflection failed with status {code}: {text}", ())
        return response
    raise NoMethod("reflection gave no answer", ())
