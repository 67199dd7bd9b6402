"""Owns how the client finds the gateway and shows who it is: address, TLS, token, and the methods that there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from splitmesh.errors import SourceError
from splitmesh.v1 import gateway_pb2

DEFAULT_ADDRESS = "127.0.0.1:9470"
_SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"]
_OPTIONS = (
    ("grpc.max_receive_message_length", 64_000_000),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


@dataclass(frozen=True, slots=True)
class Access:
    """Where the gateway is and how it is entered.

    address: HOST:PORT. token: of the tenant, "" for a gateway that asks for none. ca: PEM file of who signed the
    gateway's certificate; with it, or with `tls`, the connection is encrypted (without it, by what the system
    trusts). cert, key: PEM files of our own certificate, for a gateway that asks for one.
    """

    address: str = DEFAULT_ADDRESS
    token: str = ""
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def open(self, library: Any) -> Any:
        """A channel of `grpc` or `grpc.aio`. Raises SourceError for a file that can't be read."""
        if not (self.tls or self.ca or self.cert):
            return library.insecure_channel(self.address, options=_OPTIONS)
        credentials = grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.cert))
        return library.secure_channel(self.address, credentials, options=_OPTIONS)


def methods_of(channel: Any) -> dict[str, Any]:
    """What can be called, by name."""
    return {method.name: _callable(channel, method) for method in _SERVICE.methods}


def _callable(channel: Any, method: MethodDescriptor) -> Any:
    kind = "stream_" if method.client_streaming else "unary_"
    make = getattr(channel, kind + ("stream" if method.server_streaming else "unary"))
    return make(
        f"/{_SERVICE.full_name}/{method.name}",
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise SourceError(f"{path} can't be read: {exc.strerror}", url=str(path)) from exc
