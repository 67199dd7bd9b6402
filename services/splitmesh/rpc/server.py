"""Owns the gRPC server: its port, TLS, keepalive, health and reflection. Knows no method."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from splitmesh.errors import SettingsError
from splitmesh.rpc.calls import Door, Doorway, Guard

_log = logging.getLogger(__name__)

A = TypeVar("A")

_SIGN_WITHIN = 0.5
"""Of the silence after which a client is asked for a sign of life: so long it has to give one."""
_LEAST_PING_INTERVAL_S = 10.0
"""Of clients: those that ask more often are cut off, as gRPC has it."""
_IDLE_S = 600.0
_AGE_GRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. `client_ca`: only clients with a certificate that it signed are let in."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`port` 0: any free one. `tls` None: in the clear. `connection_age_s` None: a connection may live for ever."""

    host: str
    port: int
    tls: TlsFiles | None = None
    keepalive_s: float = 20.0
    connection_age_s: float | None = None


class GrpcServer(Generic[A]):
    """Serves `services` behind `door` from `start` to `stop`. Health and reflection ask for no token: they say
    nothing of any tenant."""

    def __init__(self, options: ServerOptions, door: Door[A], services: Mapping[ServiceDescriptor, object]) -> None:
        self._options = options
        self._guard = Guard(door)
        self._services = services
        self._names = [descriptor.full_name for descriptor in services]
        self._health: Any = None
        self._server: Any = None
        self._door = door
        self.port = options.port

    @property
    def calls(self) -> int:
        """Under way."""
        return self._guard.calls

    async def start(self) -> None:
        """Listen and accept. Raises SettingsError for an address or a file that can't be used."""
        self._server = grpc.aio.server(options=self._transport(), interceptors=(Doorway(self._guard),))
        self._server.add_generic_rpc_handlers(
            tuple(self._guard.handlers(descriptor, service) for descriptor, service in self._services.items())
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        shown = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(shown, self._server)
        self.port = self._listen()
        await self._server.start()

    async def serving(self, *, ready: bool) -> None:
        """What health says, of the whole and of each service."""
        kinds = health_pb2.HealthCheckResponse
        status = kinds.SERVING if ready else kinds.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, let those under way finish for `grace_s`, then end them. Idempotent."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        self._server = None

    def _listen(self) -> int:
        options = self._options
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"{host}:{options.port}"
        try:
            if options.tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, _credentials(options.tls))
        except RuntimeError as exc:
            raise SettingsError(
                f"can't listen on {address} for gRPC",
                key="grpc_port",
                advice="another process may listen there: choose another grpc_port, or 0 for any free one",
            ) from exc
        return int(port)

    def _transport(self) -> list[tuple[str, int]]:
        """The transport's own limit lies above ours, so that we can say by name what is too long; what is far beyond
        is cut off before it is held in memory."""
        options = self._options
        made = {
            "grpc.so_reuseport": 0,
            "grpc.max_receive_message_length": 2 * self._door.max_message_bytes,
            "grpc.max_send_message_length": -1,
            "grpc.keepalive_time_ms": _ms(options.keepalive_s),
            "grpc.keepalive_timeout_ms": _ms(_SIGN_WITHIN * options.keepalive_s),
            "grpc.http2.ping_timeout_ms": _ms(
                _SIGN_WITHIN * options.keepalive_s
            ),  # else a minute, whatever the above
            "grpc.keepalive_permit_without_calls": 1,
            "grpc.http2.min_ping_interval_without_data_ms": _ms(_LEAST_PING_INTERVAL_S),
            "grpc.max_connection_idle_ms": _ms(_IDLE_S),
        }
        if options.connection_age_s is not None:
            made["grpc.max_connection_age_ms"] = _ms(options.connection_age_s)
            made["grpc.max_connection_age_grace_ms"] = _ms(_AGE_GRACE_S)
        return list(made.items())


def _credentials(tls: TlsFiles) -> Any:
    """Raises SettingsError for a file that can't be read."""
    chain, key = _read(tls.cert, "tls_cert"), _read(tls.key, "tls_key")
    authority = None if tls.client_ca is None else _read(tls.client_ca, "client_ca")
    return grpc.ssl_server_credentials(
        [(key, chain)], root_certificates=authority, require_client_auth=authority is not None
    )


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{setting} {path} can't be read: {exc.strerror or exc}", key=setting) from exc


def _ms(seconds: float) -> int:
    return round(seconds * 1e3)
