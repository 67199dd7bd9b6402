"""Owns the status pages: GET /metrics /healthz /readyz /status, inside the caller's event loop. Takes no signals.

A process that has a page of its own gives it along: it is served on the same port, below everything else.

`/metrics` speaks the Prometheus text format, and OpenMetrics (with exemplars) to those who accept it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from splitmesh.errors import SettingsError

_log = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 3.0
_KEEP_ALIVE_S = 5
_MAX_WEBSOCKET_BYTES = 64 * 1024


class StatusServer:
    """Serves until `stop()`. `status` and `ready` are called in the event loop and must not block."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        registry: CollectorRegistry,
        status: Callable[[], dict[str, Any]],
        ready: Callable[[], tuple[bool, str]],
        setting: str = "web_port",
        page: ASGIApp | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        """`port` 0: any free one. `ready` gives (is ready, why not). `setting` is named when the port is taken.

        `page` gets every other path, WebSockets too. `tls`: PEM files of the certificate chain and of its key.
        """
        self._host = host
        self._asked_port = port
        self._registry = registry
        self._status = status
        self._ready = ready
        self._setting = setting
        self._page = page
        self._tls = tls
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port in use; the one that was asked for before `start`."""
        return int(self._socket.getsockname()[1]) if self._socket else self._asked_port

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self._host in ("0.0.0.0", "::", "") else self._host
        scheme = "https" if self._tls else "http"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    async def start(self) -> None:
        """Listen and accept. Raises SettingsError when the address can't be had."""
        self._socket = _listen(self._host, self._asked_port, self._setting)
        config = uvicorn.Config(
            self._app(),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none" if self._page is None else "websockets-sansio",
            ws_max_size=_MAX_WEBSOCKET_BYTES,
            ws_per_message_deflate=False,  # pictures don't shrink, and trying costs more than the rest
            ssl_certfile=self._tls[0] if self._tls else None,
            ssl_keyfile=self._tls[1] if self._tls else None,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        self._server = _QuietServer(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="status pages")
        while not self._server.started:
            await asyncio.wait({self._task}, timeout=0.005)
            if self._task.done():
                self._task.result()
                raise SettingsError(f"status pages did not start on {self._host}:{self.port}", key=self._setting)

    async def stop(self) -> None:
        """Stop accepting, finish what is being answered, close. Idempotent."""
        if self._server is None or self._task is None:
            return
        task, self._task = self._task, None
        self._server.should_exit = True
        _, unfinished = await asyncio.wait({task}, timeout=_STOP_TIMEOUT_S)
        if unfinished:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        else:
            task.result()
        if self._socket is not None:
            self._socket.close()

    def _app(self) -> Starlette:
        routes: list[BaseRoute] = [
            Route("/metrics", self._metrics),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/status", self._status_page),
            Route("/", self._index) if self._page is None else Mount("/", self._page),
        ]
        return Starlette(routes=routes, exception_handlers={Exception: _failed})

    async def _index(self, _: Request) -> Response:
        return JSONResponse({"pages": ["/status", "/metrics", "/healthz", "/readyz"]})

    async def _metrics(self, request: Request) -> Response:
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        body = await run_in_threadpool(encoder, self._registry)
        return Response(body, headers={"content-type": content_type})

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _: Request) -> Response:
        is_ready, why = self._ready()
        return PlainTextResponse("ready\n" if is_ready else f"{why or 'not ready'}\n", 200 if is_ready else 503)

    async def _status_page(self, _: Request) -> Response:
        return JSONResponse(self._status(), headers={"cache-control": "no-store"})


class _QuietServer(uvicorn.Server):
    """A uvicorn server that leaves the process's signals to their owner."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _failed(request: Request, exc: Exception) -> Response:
    _log.error("page %s failed", request.url.path, exc_info=exc)
    return PlainTextResponse("internal error\n", 500)


def _listen(host: str, port: int, setting: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise SettingsError(f"can't listen on {host}:{port}: {exc.strerror or exc}", key="web_host") from exc
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
        listening.setblocking(False)
    except OSError as exc:
        listening.close()
        taken = exc.errno == errno.EADDRINUSE
        reason = "another process listens there" if taken else str(exc.strerror or exc)
        raise SettingsError(
            f"can't listen on {host}:{port}: {reason}",
            key=setting,
            advice=f"choose another {setting}, or 0 for any free port",
        ) from exc
    return listening
