"""Composes and runs the front door: `splitmesh gateway`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import Any

from prometheus_client import CollectorRegistry

from splitmesh.bus.interest import BusState
from splitmesh.bus.nats import NatsBus, connect_nats
from splitmesh.bus.security import Security
from splitmesh.errors import SettingsError
from splitmesh.gateway.frames import FrameDesk
from splitmesh.gateway.inference import InferenceService
from splitmesh.gateway.lab import LabClient
from splitmesh.gateway.offered import Offer, load_offer
from splitmesh.gateway.page.app import page_app
from splitmesh.gateway.remembered import KEPT_FRAMES
from splitmesh.gateway.service import GatewayService
from splitmesh.gateway.state import GatewayState
from splitmesh.gateway.tokens import Account, Tokens
from splitmesh.provision.parts import log_stages
from splitmesh.rpc.calls import Door, Refusal
from splitmesh.rpc.server import GrpcServer, ServerOptions, TlsFiles
from splitmesh.settings.model import GatewaySettings
from splitmesh.settings.process import announce_ready, settle_memory
from splitmesh.telemetry.gateway import DoorName, GatewayMetrics
from splitmesh.telemetry.metrics import Reconnected
from splitmesh.telemetry.recent import span_reports
from splitmesh.telemetry.tracing import Tracing
from splitmesh.v1 import gateway_pb2, open_inference_pb2
from splitmesh.web.server import StatusServer

_log = logging.getLogger(__name__)

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_EVERYBODY = "anyone-here"


def run(settings: GatewaySettings) -> int:
    """Serve until SIGINT/SIGTERM, then drain; the exit status. Raises MeshError."""
    tokens = open_tokens(settings)
    tls = tls_files(settings)
    offer = load_offer(settings.models, log_stages())
    return asyncio.run(_run(settings, tokens, tls, offer))


def open_tokens(settings: GatewaySettings) -> Tokens:
    """Raises SettingsError: unusable, or none where others than this machine can connect."""
    if settings.tokens is not None:
        return Tokens(settings.tokens)
    hosts = {"grpc_host": settings.grpc_host} | (
        {"web_host": settings.web_host} if settings.web_port is not None else {}
    )
    for key, host in hosts.items():
        if host not in _LOOPBACK:
            raise SettingsError(
                f"{key} {host} lets others than this machine in, and no tokens are asked for",
                key=key,
                advice="make a token with `splitmesh gateway token TENANT` and name its file with --tokens",
            )
    _log.warning(
        "OPEN: no --tokens, so everybody on this machine may do everything as tenant %s. For a lab only.",
        settings.tenant,
    )
    return Tokens(None, Account(settings.tenant, _EVERYBODY))


def tls_files(settings: GatewaySettings) -> TlsFiles | None:
    """Raises SettingsError for one of certificate and key without the other."""
    cert, key = settings.tls_cert, settings.tls_key
    if cert is not None and key is not None:
        return TlsFiles(cert, key, settings.client_ca)
    if cert is not None or key is not None or settings.client_ca is not None:
        lacking = "tls_key" if cert is not None else "tls_cert"
        raise SettingsError(f"{lacking} is missing", key=lacking, advice="name both certificate and key")
    if settings.tokens is not None and settings.grpc_host not in _LOOPBACK:
        _log.warning("tokens cross the network in the clear: no --tls-cert and --tls-key")
    return None


class Gateway:
    """All doors of one process."""

    def __init__(
        self,
        settings: GatewaySettings,
        tokens: Tokens,
        tls: TlsFiles | None,
        offer: Offer,
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._tls = tls
        self._offer = offer
        self._closing = contextlib.AsyncExitStack()
        self._bus: NatsBus | None = None
        self.registry = CollectorRegistry()
        self.metrics = GatewayMetrics(self.registry)
        self._server: GrpcServer[Account] | None = None
        self.grpc_port = 0
        self.web_port: int | None = None

    @property
    def tenants(self) -> list[str]:
        """Who may be let in, by name."""
        return self._tokens.tenants

    @property
    def calls(self) -> int:
        """gRPC calls under way."""
        return self._server.calls if self._server is not None else 0

    async def start(self) -> None:
        """Connect and listen; waits for the broker as long as it takes. Raises BusError, SettingsError."""
        settings, closing = self._settings, self._closing
        tracing = Tracing(
            "gateway",
            instance=settings.name,
            sample_ratio=settings.trace_ratio,
            span_log=settings.span_log,
            otlp_endpoint=settings.otlp_endpoint,
            recent_frames=KEPT_FRAMES,
        )
        closing.push_async_callback(asyncio.to_thread, tracing.close)
        self.metrics.spans_dropped.set_function(lambda: tracing.spans_dropped)
        self._bus = await self._connect()
        closing.push_async_callback(self._bus.drain)
        state = GatewayState(
            self._bus,
            self._tokens,
            name=settings.name,
            own_spans=lambda frame_id: span_reports(tracing.recent_rows(frame_id)),
            lab=LabClient(self._bus, settings.tenant) if settings.lab_control else None,
        )
        desk = FrameDesk(
            limit=settings.total_in_flight,
            budget_ms=settings.budget_ms,
            threads=settings.picture_threads,
            tracing=tracing,
            metrics=self.metrics,
        )
        closing.callback(desk.close)
        service = GatewayService(state, self._offer, desk, self.metrics, frames_in_flight=settings.frames_in_flight)
        await state.start()
        closing.push_async_callback(state.stop)
        await self._serve_pages(state, desk)
        await self._serve_grpc(state, service)

    async def stop(self) -> None:
        """Take nothing new, finish what is under way for at most `drain_s`. Idempotent."""
        await self._closing.aclose()

    async def _connect(self) -> NatsBus:
        seen: list[str] = []

        def on_state(state: str) -> None:
            if state == BusState.CONNECTED and seen:
                self.metrics.reconnects_total.labels(Reconnected.BROKER.value).inc()
            seen.append(state)

        settings = self._settings
        return await connect_nats(
            settings.nats_url, name=settings.name, security=Security.of(settings), on_state=on_state
        )

    async def _serve_grpc(self, state: GatewayState, service: GatewayService) -> None:
        settings = self._settings

        def admit(token: str) -> Account | None:
            return state.account(token) if token else state.open_account

        def refused(refusal: Refusal) -> None:
            self.metrics.refused(DoorName.GRPC, refusal.value)

        door = Door(
            admit=admit,
            max_message_bytes=settings.max_message_bytes,
            max_calls=settings.max_calls,
            refused=refused,
            ended=lambda method, code, _: self.metrics.call(method, code),
        )
        server = GrpcServer(
            ServerOptions(
                settings.grpc_host, settings.grpc_port, self._tls, settings.keepalive_s, settings.connection_age_s
            ),
            door,
            {
                gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"]: service,
                open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]: InferenceService(
                    service, self._offer, state
                ),
            },
        )
        await server.start()
        self._closing.push_async_callback(server.stop, settings.drain_s)
        self._server = server
        self.grpc_port = server.port
        watching = asyncio.create_task(_say_health(server, state), name="health")
        self._closing.callback(watching.cancel)

    async def _serve_pages(self, state: GatewayState, desk: FrameDesk) -> None:
        settings, tls = self._settings, self._tls
        if settings.web_port is None:
            return

        def status() -> dict[str, Any]:
            return {
                "gateway": settings.name,
                "connected": state.bus.connected,
                "frames_in_flight": desk.in_flight,
                "models": [model.name for model in self._offer.models],
            }

        web = StatusServer(
            settings.web_host,
            settings.web_port,
            registry=self.registry,
            status=status,
            ready=lambda: (state.bus.connected, "no connection to the broker"),
            page=page_app(state, settings, count_refusal=lambda reason: self.metrics.refused(DoorName.WEB, reason)),
            tls=None if tls is None else (tls.cert, tls.key),
        )
        await web.start()
        self._closing.push_async_callback(web.stop)
        self.web_port = web.port
        _log.info("page: %s", web.url)


async def _say_health(server: GrpcServer[Account], state: GatewayState) -> None:
    """Health is what the connection to the broker is."""
    told: bool | None = None
    while True:
        if state.bus.connected is not told:
            told = state.bus.connected
            await server.serving(ready=told)
        await asyncio.sleep(0.2)


async def _run(settings: GatewaySettings, tokens: Tokens, tls: TlsFiles | None, offer: Offer) -> int:
    gateway = Gateway(settings, tokens, tls, offer)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    starting = asyncio.create_task(gateway.start(), name="start")
    stopped = asyncio.create_task(stopping.wait(), name="stop")
    try:
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            settle_memory()
            announce_ready(
                settings.ready_json,
                name=settings.name,
                pid=os.getpid(),
                grpc_port=gateway.grpc_port,
                web_port=gateway.web_port,
            )
            _log.info("%s: gRPC on %s:%d", settings.name, settings.grpc_host, gateway.grpc_port)
            await stopped
        _log.info("%s drains", settings.name)
    finally:
        for task in (starting, stopped):
            task.cancel()
        await asyncio.gather(starting, stopped, return_exceptions=True)
        await gateway.stop()
    return 0
