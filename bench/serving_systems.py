"""Owns the servers of `bench.serving`: environments of their own for peers, their start on free ports, their end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from bench.serving_callers import open_caller

from splitmesh.bus.server import EmbeddedServer
from splitmesh.plan.bundle.read import Bundle

ROOT = Path(__file__).resolve().parent.parent
PEERS = {
    "mosec": ("mosec==0.9.8",),
    "litserve": ("litserve==0.2.19",),
    "ray": ("ray[serve]==2.60.0",),
    "pytriton": ("nvidia-pytriton==0.7.0",),
    "grpc": ("grpcio==1.85.1",),
    "nats": ("nats-py==2.16.0",),
}
PROCESSES = 2
TRITON = "/v2/models/boxes/infer"
_READY_S = 90.0


class NotInstalled(Exception):
    """A peer can't be installed here; the text is the last line of what pip said."""


class NoAnswer(Exception):
    """A server was started and does not answer; the text ends with what it last said."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running system: how to call it, and its processes (the broker's, if it has one, apart)."""

    caller: dict[str, Any]
    pids: tuple[int, ...]
    broker: int | None = None

    def cpu_s(self) -> float:
        """Processor time of its processes and all that they started, so far."""
        return sum(_cpu_s(pid) for pid in self.pids)

    def broker_cpu_s(self) -> float:
        return _cpu_s(self.broker) if self.broker else 0.0


def _cpu_s(pid: int) -> float:
    total = 0.0
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def environment(peer: str, folder: Path) -> Path:
    """The Python of the peer's own environment, made if it is not there. Raises NotInstalled.

    Its packages come first; numpy, onnxruntime, simplejpeg and splitmesh are borrowed from ours, so that all systems
    do the work with the same builds.
    """
    home = folder / peer
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        ours = f"protobuf=={version('protobuf')}"  # no older one reads the plan
        for further in (PEERS[peer], ("--no-deps", ours)):
            done = subprocess.run([*pip, *further], capture_output=True, text=True, check=False)
            if done.returncode:
                said = [line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")]
                raise NotInstalled(said[-1] if said else "pip failed")
        borrowed = (sysconfig.get_path("purelib"), str(ROOT / "services"), str(ROOT))
        site = next((home / "lib").glob("python3*/site-packages"))
        (site / "zz-borrowed.pth").write_text("\n".join(borrowed) + "\n")
        (home / "ready").touch()
    return python


@contextlib.asynccontextmanager
async def peer_server(peer: str, python: Path, env: dict[str, str], store: Path) -> AsyncIterator[Server]:
    """A peer with two worker processes, as bench/peers/<peer>_server.py sets it up. Raises NoAnswer."""
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(EmbeddedServer(store=store)) if peer == "nats" else None
        apart = PROCESSES if peer in ("grpc", "nats") else 1
        ports = [broker.port] * apart if broker else [_free_port() for _ in range(apart)]
        script = str(ROOT / "bench" / "peers" / f"{peer}_server.py")
        commands = [[str(python), script, str(port)] for port in ports]
        pids = tuple([stack.enter_context(_process(c, env, store / f"{i}.log")) for i, c in enumerate(commands)])
        kind = peer if peer in ("grpc", "nats") else "http"
        path = {
            "grpc": "/bench.Work/Serve",
            "nats": "bench.work",
            "mosec": "/inference",
            "ray": "/",
            "pytriton": TRITON,
        }
        caller = {"kind": kind, "ports": ports, "path": path.get(peer, "/predict"), "json": peer == "litserve"}
        await _answers(caller, store)
        yield Server(caller, pids, broker.pid if broker else None)


@contextlib.asynccontextmanager
async def mesh_server(
    bundle: Bundle,
    cut: str,
    env: dict[str, str],
    store: Path,
    *,
    workers: int,
    threads: int,
    tenant: str = "default",
    more: Sequence[str] = (),
) -> AsyncIterator[Server]:
    """`splitmesh cloud`, `workers` times with `threads` each and `more` arguments, on a broker of its own.

    tenant: as whom it is called.
    """
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(EmbeddedServer(store=store))
        pids, subjects = [], []
        for number in range(workers):
            name = f"w{number}"
            command = [
                sys.executable, "-m", "splitmesh.cli.main", "cloud", "--config", os.devnull, "--nats-url", broker.url,
                "--name", name, "--plan", str(bundle.folder), "--threads", str(threads), "--queue-limit", "1024",
                "--web-port", "off", *more,
            ]  # fmt: skip
            pids.append(stack.enter_context(_process(command, env, store / f"{name}.log")))
            subjects.append(f"sm.v1.{tenant}.worker.{name}")
        facts = {"model": bundle.manifest.name, "sha256": bundle.sha256, "cut": cut, "subjects": subjects}
        for each in subjects:
            await _answers({"kind": "mesh", "ports": [broker.port], **facts, "subjects": [each]}, store)
        yield Server({"kind": "mesh", "ports": [broker.port], **facts}, tuple(pids), broker.pid)


async def _answers(caller: dict[str, Any], store: Path) -> None:
    """Wait until a request gets an answer of any kind. Raises NoAnswer with the servers' last words."""
    until = time.monotonic() + _READY_S
    body = (store / "first").read_bytes()
    while time.monotonic() < until:
        with contextlib.suppress(OSError, TimeoutError):
            client = await open_caller(caller, [body])
            try:
                async with asyncio.timeout(1.0):
                    if await client.call(0) == "ok":
                        return
            except Exception as exc:
                if not type(exc).__module__.startswith(("grpc", "builtins")):
                    raise
            finally:
                client.close()
        await asyncio.sleep(0.2)
    raise NoAnswer(f"no answer within {_READY_S:g} s:\n{_last_words(store)}")


def _last_words(store: Path) -> str:
    return "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(store.glob("*.log")))


@contextlib.contextmanager
def _process(command: list[str], env: dict[str, str], log: Path) -> Any:
    """A process in a group of its own, all of which ends with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **env}, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        family = [process.pid, *(each.pid for each in psutil.Process(process.pid).children(recursive=True))]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(8.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
